// Drop-in libxenevtchn.so.1: event channels without a hypervisor.
//
// The broker binds ports; events do not pass through it. port_area.hpp has the protocol by which a
// notify goes straight to the peer handle's memory and eventfd. Notifying needs the peer's area and
// eventfd, which are fetched from the broker when first needed and again when the port's generation
// says that the binding has changed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <new>

#include "transport/xensim/hypervisor/dropin/connection.hpp"
#include "transport/xensim/hypervisor/port_area.hpp"

extern "C" {
#include <xenevtchn.h>
}

using xensim::PortArea;
using xensim::dropin::Connection;
using xensim::dropin::Extras;
using xensim::dropin::Lock;
namespace wire = xensim::wire;

namespace {

PortArea* map_area(int fd) {
  void* area = ::mmap(nullptr, sizeof(PortArea), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return area == MAP_FAILED ? nullptr : static_cast<PortArea*>(area);
}

/// The far end of one of our ports, as of `generation`.
class Peer {
 public:
  Peer() = default;
  ~Peer() { forget(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  bool is_current(std::uint32_t generation) const { return known_ && generation_ == generation; }

  /// Takes ownership of the descriptors. An unbound port has none.
  void remember(const wire::Reply& reply, int event_fd, int area_fd) {
    forget();
    known_ = true;
    generation_ = reply.generation;
    port_ = reply.port;
    event_fd_ = event_fd;
    if (area_fd >= 0) {
      area_ = map_area(area_fd);
      ::close(area_fd);
    }
  }

  /// An unbound far end loses events, as it does in Xen.
  void notify() const {
    if (area_ != nullptr) xensim::notify_port(*area_, event_fd_, port_);
  }

 private:
  void forget() {
    if (area_ != nullptr) ::munmap(area_, sizeof(PortArea));
    if (event_fd_ >= 0) ::close(event_fd_);
    area_ = nullptr;
    event_fd_ = -1;
    known_ = false;
  }

  bool known_ = false;
  std::uint32_t generation_ = 0;
  std::uint32_t port_ = 0;
  int event_fd_ = -1;
  PortArea* area_ = nullptr;
};

}  // namespace

struct xenevtchn_handle {
  xenevtchn_handle() = default;
  ~xenevtchn_handle() {
    if (area != nullptr) ::munmap(area, sizeof(PortArea));
    if (event_fd >= 0) ::close(event_fd);
  }
  xenevtchn_handle(const xenevtchn_handle&) = delete;
  xenevtchn_handle& operator=(const xenevtchn_handle&) = delete;

  Connection connection;
  int event_fd = -1;
  PortArea* area = nullptr;
  std::atomic<std::uint32_t> last_port{0};
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::unique_ptr<Peer> peers[xensim::port_limit];  ///< by own port; guarded by mutex
};

namespace {

int fail(int error) {
  errno = error;
  return -1;
}

bool ask_about_port(xenevtchn_handle* xce, wire::Op op, std::uint32_t domid, std::uint32_t port,
                    wire::Reply& reply) {
  wire::Request request;
  request.op = op;
  request.domid = domid;
  request.port = port;
  Extras none;
  return xce->connection.ask(request, reply, none);
}

xenevtchn_port_or_error_t bind(xenevtchn_handle* xce, wire::Op op, std::uint32_t domid,
                               std::uint32_t remote_port) {
  std::unique_ptr<Peer> peer(new (std::nothrow) Peer);
  if (peer == nullptr) return fail(ENOMEM);
  wire::Reply reply;
  const Lock lock(xce->mutex);
  if (!ask_about_port(xce, op, domid, remote_port, reply)) return -1;
  xce->peers[reply.port] = std::move(peer);
  return static_cast<int>(reply.port);
}

bool resolve(xenevtchn_handle* xce, std::uint32_t port) {
  wire::Request request;
  request.op = wire::Op::resolve;
  request.port = port;
  wire::Reply reply;
  int fds[2] = {-1, -1};
  Extras extras;
  extras.fds_in = fds;
  extras.fds_in_room = 2;
  if (!xce->connection.ask(request, reply, extras)) return false;
  xce->peers[port]->remember(reply, fds[0], fds[1]);
  return true;
}

/// After a count without a ready bit (see rescue_port): some open port, as a spurious event that
/// the caller takes in its stride, because a readable descriptor promised not to block. 0 if none.
std::uint32_t any_open_port(xenevtchn_handle* xce) {
  for (std::uint32_t port = 1; port < xensim::port_limit; ++port) {
    if ((xce->area->state[port].load() & xensim::port_open) == 0) continue;
    xensim::deliver_port(*xce->area, port);
    return port;
  }
  return 0;
}

}  // namespace

extern "C" {

xenevtchn_handle* xenevtchn_open(xentoollog_logger*, unsigned int flags) {
  if ((flags & ~static_cast<unsigned>(XENEVTCHN_NO_CLOEXEC)) != 0) {
    errno = EINVAL;
    return nullptr;
  }
  auto xce = std::unique_ptr<xenevtchn_handle>(new (std::nothrow) xenevtchn_handle);
  if (xce == nullptr) return nullptr;
  int fds[2] = {-1, -1};
  Extras extras;
  extras.fds_in = fds;
  extras.fds_in_room = 2;
  if (!xce->connection.open(wire::Op::open_evtchn, extras)) return nullptr;
  xce->event_fd = fds[0];
  xce->area = map_area(fds[1]);
  if (fds[1] >= 0) ::close(fds[1]);
  if (xce->event_fd < 0 || xce->area == nullptr) return nullptr;
  if ((flags & XENEVTCHN_NO_CLOEXEC) != 0) ::fcntl(xce->event_fd, F_SETFD, 0);
  return xce.release();
}

xenevtchn_handle* xenevtchn_fdopen(xentoollog_logger*, int, unsigned) {
  errno = ENOSYS;
  return nullptr;
}

int xenevtchn_close(xenevtchn_handle* xce) {
  if (xce == nullptr) return 0;
  xce->connection.release();
  delete xce;
  return 0;
}

int xenevtchn_fd(xenevtchn_handle* xce) {
  return xce->event_fd;
}

int xenevtchn_notify(xenevtchn_handle* xce, evtchn_port_t port) {
  if (port >= xensim::port_limit) return fail(EINVAL);
  const Lock lock(xce->mutex);
  const Peer* peer = xce->peers[port].get();
  if (peer == nullptr) return fail(ENOTCONN);
  if (!peer->is_current(xce->area->generation[port].load()) && !resolve(xce, port)) return -1;
  peer->notify();
  return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle* xce, uint32_t domid) {
  return bind(xce, wire::Op::bind_unbound, domid, 0);
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* xce, uint32_t domid,
                                                     evtchn_port_t remote_port) {
  return bind(xce, wire::Op::bind_interdomain, domid, remote_port);
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle*, unsigned int) {
  return fail(ENOSYS);
}

int xenevtchn_unbind(xenevtchn_handle* xce, evtchn_port_t port) {
  if (port >= xensim::port_limit) return fail(EINVAL);
  const Lock lock(xce->mutex);
  if (xce->peers[port] == nullptr) return fail(ENOTCONN);
  wire::Reply reply;
  if (!ask_about_port(xce, wire::Op::unbind, 0, port, reply)) return -1;
  xce->peers[port].reset();
  return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* xce) {
  for (;;) {
    std::uint64_t count = 0;
    if (::read(xce->event_fd, &count, sizeof count) < 0) return -1;
    std::uint32_t port = xensim::take_port(*xce->area, xce->last_port.load() + 1);
    if (port == 0) port = any_open_port(xce);
    if (port == 0) continue;
    xce->last_port.store(port);
    return static_cast<int>(port);
  }
}

int xenevtchn_unmask(xenevtchn_handle* xce, evtchn_port_t port) {
  if (port < xensim::port_limit) xensim::unmask_port(*xce->area, xce->event_fd, port);
  return 0;
}

int xenevtchn_restrict(xenevtchn_handle* xce, domid_t domid) {
  wire::Reply reply;
  return ask_about_port(xce, wire::Op::restrict_domid, domid, 0, reply) ? 0 : -1;
}

}  // extern "C"

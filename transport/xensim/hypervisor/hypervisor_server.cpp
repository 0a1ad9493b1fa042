#include "transport/xensim/hypervisor/hypervisor_server.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

#include "transport/xensim/hypervisor/wire.hpp"

namespace xensim::hv {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

/// Requests served in one go before others get their turn.
constexpr int requests_per_turn = 32;

struct Answer {
  wire::Reply reply;
  std::vector<std::uint32_t> words;
  std::vector<int> fds;  ///< borrowed
};

/// The words that came with a map request, as pairs.
std::vector<std::pair<std::uint32_t, GrantRef>> pairs(const std::vector<std::uint32_t>& words) {
  std::vector<std::pair<std::uint32_t, GrantRef>> result;
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    result.emplace_back(words[i], words[i + 1]);
  }
  return result;
}

void put_places(const std::vector<PagePlace>& places, Answer& answer) {
  for (const PagePlace& place : places) {
    std::uint32_t index = 0;
    while (index < answer.fds.size() && answer.fds[index] != place.fd) ++index;
    if (index == answer.fds.size()) answer.fds.push_back(place.fd);
    answer.words.push_back(index);
    answer.words.push_back(place.page);
  }
}

UnmapNotify notification(const wire::Request& request) {
  UnmapNotify result;
  if ((request.flags & wire::flag_clear_byte) != 0) result.clear_offset = request.notify_offset;
  if ((request.flags & wire::flag_send_event) != 0) result.port = request.notify_port;
  return result;
}

}  // namespace

/// One open handle of one process.
class HypervisorServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(HypervisorServer& server, std::shared_ptr<Domain> domain, int fd)
      : server_(server), domain_(std::move(domain)), socket_(server.io_, fd) {}

  Domid domid() const { return domain_->domid; }

  void wait() {
    socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this()](error_code error) {
                         if (!error) self->serve();
                       });
  }

  void close() {
    if (!socket_.is_open()) return;
    socket_.close();
    server_.machine_.close_handle(handle_);
  }

 private:
  void serve() {
    if (!socket_.is_open()) return;
    for (int i = 0; i < requests_per_turn; ++i) {
      wire::Request request;
      std::vector<std::uint32_t> words;
      UniqueFd fd;
      const int error = receive(request, words, fd);
      if (error == EAGAIN) break;
      if (error != 0) return end();
      Answer answer;
      answer.reply.error = answer_to(request, words, std::move(fd), answer);
      if (!send(answer)) return end();
    }
    wait();
  }

  void end() {
    const auto self = shared_from_this();
    close();
    server_.connections_.erase(self);
    server_.on_release_();
  }

  int receive(wire::Request& request, std::vector<std::uint32_t>& words, UniqueFd& fd);
  bool send(const Answer& answer);
  int answer_to(const wire::Request& request, const std::vector<std::uint32_t>& words, UniqueFd fd,
                Answer& answer);
  int open(HandleKind kind, Answer& answer);
  int share(const wire::Request& request, UniqueFd memory, Answer& answer);
  int map(const wire::Request& request, const std::vector<std::uint32_t>& words, Answer& answer);
  int unmap(std::uint32_t id);
  int resolve(std::uint32_t port, Answer& answer);
  int domain_info(std::uint32_t first, Answer& answer);

  HypervisorServer& server_;
  std::shared_ptr<Domain> domain_;
  asio::posix::stream_descriptor socket_;
  Handle handle_;
};

int HypervisorServer::Connection::receive(wire::Request& request, std::vector<std::uint32_t>& words,
                                          UniqueFd& fd) {
  std::array<std::uint32_t, std::size_t{wire::max_pages_per_map} * 2> room{};
  iovec parts[2] = {{&request, sizeof request}, {room.data(), sizeof room}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EINTR ? EAGAIN : errno;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr &&
                                                       header->cmsg_type == SCM_RIGHTS &&
                                                       header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int received = -1;
    std::memcpy(&received, CMSG_DATA(header), sizeof received);
    fd.reset(received);
  }
  const auto size = static_cast<std::size_t>(got);
  if (size < sizeof request || (message.msg_flags & MSG_TRUNC) != 0) return ECONNRESET;
  words.assign(room.data(), room.data() + (size - sizeof request) / sizeof(std::uint32_t));
  return 0;
}

bool HypervisorServer::Connection::send(const Answer& answer) {
  wire::Reply reply = answer.reply;
  reply.words = static_cast<std::uint32_t>(answer.words.size());
  iovec parts[2] = {
      {&reply, sizeof reply},
      {const_cast<std::uint32_t*>(answer.words.data()),
       answer.words.size() * sizeof(std::uint32_t)},
  };
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(wire::max_fds * sizeof(int))] = {};
  if (!answer.fds.empty()) {
    const std::size_t bytes = answer.fds.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), answer.fds.data(), bytes);
  }
  // A library asks only after it has its answer, so there is always room; one that does not read
  // is cut off rather than waited for.
  return ::sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

int HypervisorServer::Connection::open(HandleKind kind, Answer& answer) {
  if (handle_.domain != nullptr) return EINVAL;
  const int error = server_.machine_.open_handle(domain_, kind, handle_);
  if (error == 0 && kind == HandleKind::evtchn) {
    answer.fds = {handle_.ports_memory->event_fd(), handle_.ports_memory->memory_fd()};
  }
  return error;
}

int HypervisorServer::Connection::share(const wire::Request& request, UniqueFd memory,
                                        Answer& answer) {
  const int error = server_.machine_.share(handle_, request.domid, request.words,
                                           (request.flags & wire::flag_writable) != 0,
                                           std::move(memory), answer.reply.id);
  if (error == 0) answer.words = handle_.shares.at(answer.reply.id).refs;
  return error;
}

int HypervisorServer::Connection::map(const wire::Request& request,
                                      const std::vector<std::uint32_t>& words, Answer& answer) {
  std::vector<PagePlace> places;
  const int error = server_.machine_.map(
      handle_, pairs(words), (request.flags & wire::flag_writable) != 0, answer.reply.id, places);
  if (error == 0) put_places(places, answer);
  return error;
}

int HypervisorServer::Connection::unmap(std::uint32_t id) {
  const int error = server_.machine_.unmap(handle_, id);
  server_.on_release_();
  return error;
}

int HypervisorServer::Connection::resolve(std::uint32_t port, Answer& answer) {
  FarEnd far_end;
  const int error = server_.machine_.resolve(handle_, port, far_end);
  answer.reply.generation = far_end.generation;
  answer.reply.port = far_end.port;
  if (error == 0 && far_end.memory != nullptr) {
    answer.reply.flags = wire::flag_bound;
    answer.fds = {far_end.memory->event_fd(), far_end.memory->memory_fd()};
  }
  return error;
}

int HypervisorServer::Connection::domain_info(std::uint32_t first, Answer& answer) {
  if (domain_->domid != 0) return EPERM;
  for (const auto& [domid, domain] : server_.machine_.domains()) {
    if (domid < first) continue;
    answer.reply.domid = domid;
    answer.reply.id = domain->dying ? 1 : 0;
    return 0;
  }
  return ESRCH;
}

int HypervisorServer::Connection::answer_to(const wire::Request& request,
                                            const std::vector<std::uint32_t>& words, UniqueFd fd,
                                            Answer& answer) {
  Machine& machine = server_.machine_;
  switch (request.op) {
    case wire::Op::open_gntshr:
      return open(HandleKind::gntshr, answer);
    case wire::Op::open_gnttab:
      return open(HandleKind::gnttab, answer);
    case wire::Op::open_evtchn:
      return open(HandleKind::evtchn, answer);
    case wire::Op::open_privcmd:
      return open(HandleKind::privcmd, answer);
    default:
      break;
  }
  if (handle_.domain == nullptr) return EBADF;
  switch (request.op) {
    case wire::Op::share:
      return share(request, std::move(fd), answer);
    case wire::Op::unshare:
      return machine.unshare(handle_, request.id);
    case wire::Op::map:
      return map(request, words, answer);
    case wire::Op::unmap:
      return unmap(request.id);
    case wire::Op::set_notify:
      return machine.set_notify(handle_, request.id, notification(request));
    case wire::Op::bind_unbound:
      return machine.bind_unbound(handle_, request.domid, answer.reply.port);
    case wire::Op::bind_interdomain:
      return machine.bind_interdomain(handle_, request.domid, request.port, answer.reply.port);
    case wire::Op::unbind:
      return machine.unbind(handle_, request.port);
    case wire::Op::resolve:
      return resolve(request.port, answer);
    case wire::Op::restrict_domid:
      return machine.restrict_to(handle_, request.domid);
    case wire::Op::domain_info:
      return domain_info(request.domid, answer);
    case wire::Op::close:
      machine.close_handle(handle_);
      server_.on_release_();
      return 0;
    default:
      return ENOSYS;
  }
}

class HypervisorServer::Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(HypervisorServer& server, std::shared_ptr<Domain> domain, int fd)
      : server_(server), domain_(std::move(domain)), socket_(server.io_, fd) {}

  void wait() {
    socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this()](error_code error) {
                         if (!error) self->accept();
                       });
  }

  void close() { socket_.close(); }

 private:
  void accept() {
    if (!socket_.is_open()) return;
    const int fd = ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) {
      auto connection = std::make_shared<Connection>(server_, domain_, fd);
      server_.connections_.insert(connection);
      connection->wait();
    }
    wait();
  }

  HypervisorServer& server_;
  std::shared_ptr<Domain> domain_;
  asio::posix::stream_descriptor socket_;
};

HypervisorServer::HypervisorServer(asio::io_context& io, Machine& machine,
                                   std::function<void()> on_release)
    : io_(io), machine_(machine), on_release_(std::move(on_release)) {}

HypervisorServer::~HypervisorServer() = default;

void HypervisorServer::listen(const std::shared_ptr<Domain>& domain, const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw std::system_error(ENAMETOOLONG, std::system_category(), path);
  }
  path.copy(address.sun_path, path.size());
  ::unlink(path.c_str());
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(fd.get(), SOMAXCONN) != 0) {
    throw std::system_error(errno, std::system_category(), path);
  }
  auto listener = std::make_shared<Listener>(*this, domain, fd.release());
  listener->wait();
  listeners_[domain->domid] = std::move(listener);
}

void HypervisorServer::remove(Domid domid) {
  if (const auto found = listeners_.find(domid); found != listeners_.end()) {
    found->second->close();
    listeners_.erase(found);
  }
  for (auto next = connections_.begin(); next != connections_.end();) {
    const auto connection = *next++;
    if (connection->domid() != domid) continue;
    connection->close();
    connections_.erase(connection);
  }
}

}  // namespace xensim::hv

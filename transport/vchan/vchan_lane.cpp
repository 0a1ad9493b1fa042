// The only file that knows libxenvchan.
#include "transport/vchan/vchan_lane.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <vector>

#include "transport/shared_ring.hpp"

// Xen's headers are C: they use zero-length arrays and old-style casts.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wconversion"
extern "C" {
#include <libxenvchan.h>
}
#pragma GCC diagnostic pop

namespace xenlane::transport {

namespace {

constexpr std::uint32_t page_bytes = 4096;

class VchanLane final : public SharedRingLane {
 public:
  explicit VchanLane(libxenvchan* vchan) : vchan_(vchan) {
    vchan_->blocking = 0;  // libxenvchan leaves it uninitialised
    // A wake-up that turns out to be none must not stop the event loop in read().
    const int events = xenevtchn_fd(vchan_->event);
    ::fcntl(events, F_SETFL, ::fcntl(events, F_GETFL) | O_NONBLOCK);
    // The sizes come from libxenvchan's private copy of the orders, never from the shared page.
    attach({ring_of(vchan_->read), ring_of(vchan_->write), requests(!is_server()),
            requests(is_server())});
  }

  ~VchanLane() override { libxenvchan_close(vchan_); }

  std::string_view kind() const override { return "vchan"; }
  int wait_fd() const override { return xenevtchn_fd(vchan_->event); }

  void acknowledge() override {
    const xenevtchn_port_or_error_t port = xenevtchn_pending(vchan_->event);
    if (port < 0) {
      // Nothing pending after all is not an error on a descriptor that does not block.
      event_channel_failed_ |= errno != EAGAIN && errno != EINTR;
      return;
    }
    event_channel_failed_ |= xenevtchn_unmask(vchan_->event, static_cast<evtchn_port_t>(port)) != 0;
  }

  /// What a close does, but for letting go of anything.
  void announce_end() {
    std::uint8_t* const live = is_server() ? &vchan_->ring->srv_live : &vchan_->ring->cli_live;
    __atomic_store_n(live, std::uint8_t{0}, __ATOMIC_RELEASE);
    nudge();
  }

  bool is_server() const { return vchan_->is_server != 0; }
  xenevtchn_handle* event_channel() { return vchan_->event; }

 private:
  static SharedRing ring_of(const libxenvchan_ring& ring) {
    return {static_cast<std::byte*>(ring.buffer), 1U << static_cast<unsigned>(ring.order),
            &ring.shr->prod, &ring.shr->cons};
  }

  // Confusingly, the server's requests stand in cli_notify (what the client is to notify) and the
  // client's in srv_notify; see xen/io/libxenvchan.h.
  std::uint8_t* requests(bool to_server) const {
    return to_server ? &vchan_->ring->srv_notify : &vchan_->ring->cli_notify;
  }

  LaneState peer_state() override {
    if (event_channel_failed_) return LaneState::closed;
    const std::uint8_t* live = is_server() ? &vchan_->ring->cli_live : &vchan_->ring->srv_live;
    // The byte is the peer's to write, so it is a hint: 0 ends the lane, and 2 ("awaiting client")
    // means something only to a server, before its client has once attached.
    const std::uint8_t untrusted_live = __atomic_load_n(live, __ATOMIC_SEQ_CST);
    if (untrusted_live == 0) return LaneState::closed;
    attached_ |= untrusted_live != 2;
    return attached_ ? LaneState::open : LaneState::awaiting_peer;
  }

  void send_wake_up() override {
    event_channel_failed_ |= xenevtchn_notify(vchan_->event, vchan_->event_port) != 0;
  }

  libxenvchan* vchan_;
  bool attached_ = !is_server();  ///< a client is there because its server is
  bool event_channel_failed_ = false;
};

LaneFailure device_failure(const char* device, const char* module, int error) {
  if (error == EACCES || error == EPERM) {
    return {LaneFailureKind::no_permission,
            fmt::format("{}: {}; run as root or give this user access to it", device,
                        std::strerror(error))};
  }
  return {LaneFailureKind::no_xen,
          fmt::format("{}: {}; is this a Xen domain, and is the module {} loaded?", device,
                      std::strerror(error), module)};
}

// Asks for what a vchan server of this size will need and gives it back. libxenvchan_server_init
// crashes its caller when one of these fails inside it (it closes what it never initialised), so
// the failure has to happen out here, where it is only an error.
boost::system::result<void, LaneFailure> try_resources(Domid client, std::uint32_t ring_bytes) {
  xenevtchn_handle* events = xenevtchn_open(nullptr, 0);
  if (events == nullptr) return device_failure("/dev/xen/evtchn", "xen-evtchn", errno);
  const xenevtchn_port_or_error_t port = xenevtchn_bind_unbound_port(events, client);
  const int bind_error = errno;
  xenevtchn_close(events);
  if (port < 0) {
    return LaneFailure{
        LaneFailureKind::no_event_channel,
        fmt::format("no event channel port for domain {}: {}", client, std::strerror(bind_error))};
  }

  xengntshr_handle* grants = xengntshr_open(nullptr, 0);
  if (grants == nullptr) return device_failure("/dev/xen/gntalloc", "xen-gntalloc", errno);
  const auto pages = static_cast<int>(1 + 2 * (ring_bytes / page_bytes));
  std::vector<std::uint32_t> references(static_cast<std::size_t>(pages));
  void* shared = xengntshr_share_pages(grants, client, pages, references.data(), 1);
  const int share_error = errno;
  if (shared != nullptr) xengntshr_unshare(grants, shared, static_cast<std::uint32_t>(pages));
  xengntshr_close(grants);
  if (shared == nullptr) {
    return LaneFailure{LaneFailureKind::no_grants,
                       fmt::format("gntalloc has no {} pages for rings of {} KiB: {}; raise "
                                   "/sys/module/xen_gntalloc/parameters/limit",
                                   pages, ring_bytes / 1024, std::strerror(share_error))};
  }
  return {};
}

}  // namespace

boost::system::result<void, LaneFailure> probe_vchan(Domid client, std::uint32_t ring_bytes) {
  return try_resources(client, ring_bytes);
}

boost::system::result<void, LaneFailure> probe_vchan_client() {
  xenevtchn_handle* events = xenevtchn_open(nullptr, 0);
  if (events == nullptr) return device_failure("/dev/xen/evtchn", "xen-evtchn", errno);
  xenevtchn_close(events);
  xengnttab_handle* grants = xengnttab_open(nullptr, 0);
  if (grants == nullptr) return device_failure("/dev/xen/gntdev", "xen-gntdev", errno);
  xengnttab_close(grants);
  return {};
}

LaneResult offer_vchan(const VchanOffer& offer) {
  XENLANE_ASSERT(offer.path.size() <= vchan_path_bytes_max);
  XENLANE_ASSERT(std::has_single_bit(offer.ring_bytes_max));
  XENLANE_ASSERT(offer.ring_bytes_max <= vchan_ring_bytes_max);
  LaneFailure failure{LaneFailureKind::no_grants, "no ring size allowed"};
  for (std::uint32_t size = offer.ring_bytes_max;
       size >= std::max(offer.ring_bytes_min, vchan_ring_bytes_min); size /= 2) {
    const auto resources = try_resources(offer.client, size);
    if (resources.has_error()) {
      failure = resources.error();
      if (failure.kind != LaneFailureKind::no_grants) return failure;
      continue;
    }
    libxenvchan* vchan =
        libxenvchan_server_init(nullptr, offer.client, offer.path.c_str(), size, size);
    if (vchan != nullptr) return std::unique_ptr<Lane>(new VchanLane(vchan));
    return LaneFailure{LaneFailureKind::no_ring,
                       fmt::format("no vchan could be offered at {}: {}; if xenstore's data folder "
                                   "was removed, the domain has to be started anew",
                                   offer.path, std::strerror(errno))};
  }
  return failure;
}

LaneResult attach_vchan(Domid server, const std::string& path) {
  XENLANE_ASSERT(path.size() <= vchan_path_bytes_max);
  errno = 0;
  libxenvchan* vchan = libxenvchan_client_init(nullptr, server, path.c_str());
  if (vchan == nullptr) {
    const int error = errno;
    return LaneFailure{
        LaneFailureKind::no_ring,
        fmt::format("no vchan at {}: {}", path, error != 0 ? std::strerror(error) : "unusable")};
  }
  auto lane = std::make_unique<VchanLane>(vchan);
  // From here on this handle can only ever talk to that one domain. A kernel without the call
  // (before 4.10) leaves the handle as it is.
  xenevtchn_restrict(lane->event_channel(), server);
  return std::unique_ptr<Lane>(std::move(lane));
}

void abandon_vchan(std::unique_ptr<Lane> lane) {
  auto* const vchan = dynamic_cast<VchanLane*>(lane.get());
  XENLANE_ASSERT(vchan != nullptr);
  vchan->announce_end();
  // Never destroyed, not even at exit.
  static auto* const abandoned = new std::vector<std::unique_ptr<Lane>>;
  abandoned->push_back(std::move(lane));
}

}  // namespace xenlane::transport

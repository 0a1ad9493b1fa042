#include "host/worker_link.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>

#include "bridge/daemon/negotiation.hpp"
#include "transport/base/spawn.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::host {

namespace asio = boost::asio;
using namespace bridge;  // NOLINT(google-build-using-namespace): this file speaks of little else
using std::chrono::milliseconds;

namespace {

/// A session that lasted this long was a good one: the next attempt need not wait.
constexpr std::chrono::seconds good_session{1};

}  // namespace

WorkerLink::WorkerLink(const asio::any_io_executor& executor, transport::XenStore& store,
                       Peer& peer, const BridgeConfig& config, transport::Domid guest,
                       std::string guest_name)
    : executor_(executor),
      store_(store),
      peer_(peer),
      config_(config),
      guest_(guest),
      guest_name_(std::move(guest_name)),
      pointer_changed_(executor),
      backoff_(milliseconds(config.timeouts.retry_ms_min),
               milliseconds(config.timeouts.retry_ms_max)),
      rings_(config.lanes.rings_per_minute) {}

asio::awaitable<void> WorkerLink::pause() {
  asio::steady_timer timer(executor_, backoff_.next());
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

// Tells the guest to offer a ring of at least this epoch; repeated until xenstored has it. False
// when the domain is no more.
asio::awaitable<bool> WorkerLink::raise_wanted(std::uint64_t epoch) {
  wanted_ = std::max(wanted_, std::min(epoch, epoch_max));
  const std::string path = fmt::format("{}/{}/{}", domain_path(guest_), host_node, wanted_key);
  for (;;) {
    std::vector<transport::XenStoreWrite> writes(1);
    writes[0] = {path, std::to_string(wanted_), {}};
    const auto error = co_await store_.write_all(std::move(writes), domain_path(guest_) + "/domid");
    if (!error) co_return true;
    if (error == boost::system::errc::no_such_file_or_directory) co_return false;
    spdlog::warn("xenstore: writing {}: {}", path, error.message());
    peer_.set_reason("xenstore: " + error.message());
    co_await pause();
  }
}

// Whoever is at rest does not notice that the other end of the console began anew, and that end may
// not speak before it is asked. A wish that is written again, as it was, makes the guest ask.
asio::awaitable<bool> WorkerLink::knock() {
  const bool missed = peer_.misses_console();
  if (!missed || knocked_) {
    knocked_ = missed;
    co_return true;
  }
  knocked_ = true;
  co_return co_await raise_wanted(wanted_);
}

asio::awaitable<WorkerLink::Pointer> WorkerLink::read_pointer() {
  const auto untrusted_pointer =
      co_await store_.read(fmt::format("{}/{}", domain_path(guest_), ring_pointer));
  if (!untrusted_pointer) {
    const int error = untrusted_pointer.error().value();
    co_return Pointer{error == ENOENT || error == EACCES, std::nullopt};
  }
  const auto epoch = parse_epoch(*untrusted_pointer);
  if (!epoch && !bad_pointer_told_) {
    bad_pointer_told_ = true;
    spdlog::warn("{}: {} is not an epoch; ignored", guest_name_, ring_pointer);
  }
  co_return Pointer{true, epoch};
}

asio::awaitable<void> WorkerLink::wait_for_change(bool known) {
  // The event of a change whose reading failed will not come again.
  const std::chrono::milliseconds limit =
      known ? std::chrono::hours(24 * 365) : milliseconds(config_.timeouts.retry_ms_max);
  co_await pointer_changed_.wait_for(limit);
}

asio::awaitable<void> WorkerLink::run() {
  co_await store_.wait_connected(milliseconds(config_.timeouts.xenstore_ms));
  // A ring that is on offer already may have had an earlier worker in it: only a later one will do.
  Pointer stale = co_await read_pointer();
  while (!stale.known) {
    co_await pause();
    stale = co_await read_pointer();
  }
  backoff_.reset();
  if (!co_await raise_wanted(stale.epoch.value_or(0) + 1)) co_return;
  store_.watch(fmt::format("{}/{}", domain_path(guest_), ring_pointer), pointer_changed_);
  peer_.on_lanes_changed([this] { pointer_changed_.raise(); });
  peer_.set_reason("waiting for the guest's bridge to offer a lane");
  for (;;) {
    const auto [known, epoch] = co_await read_pointer();
    if (!co_await knock()) co_return;
    if (!epoch || *epoch < wanted_ || peer_.refuses_vchan()) {
      co_await wait_for_change(known);
      continue;
    }
    const auto begin = std::chrono::steady_clock::now();
    if (const auto wait = rings_.wait(begin); wait > RingBudget::Duration(0)) {
      spdlog::debug("{}: more than {} vchans within a minute; this one waits", guest_name_,
                    config_.lanes.rings_per_minute);
      asio::steady_timer timer(executor_, wait);
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;  // the guest may have thought better of it
    }
    rings_.spend(begin);
    const bool served = co_await serve(*epoch);
    if (served && std::chrono::steady_clock::now() - begin > good_session) backoff_.reset();
    if (*epoch == epoch_max) {
      // There is none that could be asked for; the ring on offer must not be taken again.
      peer_.set_reason("the guest's epochs are used up; start the domain anew");
      spdlog::error("{}: its epochs are used up; start the domain anew", guest_name_);
      for (;;) co_await pointer_changed_.wait();
    }
    if (!co_await raise_wanted(*epoch + 1)) co_return;
    co_await pause();
  }
}

asio::awaitable<bool> WorkerLink::serve(std::uint64_t epoch) {
  bad_pointer_told_ = false;
  auto lane = co_await transport::async_attach_vchan(
      guest_, fmt::format("{}/{}", domain_path(guest_), ring_path(epoch)),
      milliseconds(config_.timeouts.xenstore_ms));
  if (!lane) {
    peer_.set_reason(lane.error().text);
    spdlog::warn("{}: {}", guest_name_, lane.error().text);
    co_return false;
  }
  auto serving = std::make_shared<bool>(true);
  asio::co_spawn(executor_, watch_pointer(epoch, serving), transport::or_throw);
  const std::string reason = co_await peer_.run_lane(LaneKind::vchan, std::move(*lane), epoch);
  *serving = false;
  pointer_changed_.raise();  // ends watch_pointer
  spdlog::info("{}: vchan lane ended: {}", guest_name_, reason);
  co_return true;
}

// A guest that offers a later ring has left this one. As a rule the ring itself tells; but a guest
// that died with its event lost and nothing outstanding tells in no other way, nor does one whose
// kernel was replaced by another (kexec): its live byte stays as it was.
asio::awaitable<void> WorkerLink::watch_pointer(std::uint64_t epoch,
                                                std::shared_ptr<bool> serving) {
  while (*serving) {
    const auto [known, offered] = co_await read_pointer();
    if (!*serving) co_return;
    if (offered && *offered > epoch) {
      peer_.leave_lane(LaneKind::vchan, "the guest offers a new lane");
      co_return;
    }
    co_await wait_for_change(known);
  }
}

}  // namespace xenlane::host

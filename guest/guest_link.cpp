#include "guest/guest_link.hpp"

#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <cstdlib>

#include "bridge/daemon/negotiation.hpp"
#include "guest/channels/folders.hpp"
#include "transport/base/spawn.hpp"
#include "transport/console/console_opener.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::guest {

namespace asio = boost::asio;
using namespace bridge;  // NOLINT(google-build-using-namespace): this file speaks of little else
using std::chrono::milliseconds;

namespace {

/// Channels that a domain can have beside its own console: the last digit of a node's name is all
/// that Linux looks at.
constexpr int consoles_max = 9;

std::string key(std::string_view folder, std::string_view name) {
  return std::string(folder) + '/' + std::string(name);
}

}  // namespace

GuestLink::GuestLink(const asio::any_io_executor& executor, transport::XenStore& store, Peer& peer,
                     const BridgeConfig& config)
    : executor_(executor),
      store_(store),
      peer_(peer),
      config_(config),
      wish_changed_(executor),
      backoff_(milliseconds(config.timeouts.retry_ms_min),
               milliseconds(config.timeouts.retry_ms_max)) {}

asio::awaitable<void> GuestLink::pause() {
  asio::steady_timer timer(executor_, backoff_.next());
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

// Own domid and name, and the epoch that an earlier life of this bridge got to; its leftovers are
// removed.
asio::awaitable<void> GuestLink::learn_identity() {
  for (;;) {
    const auto domid = co_await store_.read("domid");
    if (domid) {
      if (const auto number = transport::parse_domid(*domid)) domid_ = *number;
      break;
    }
    spdlog::warn("xenstore: reading domid: {}", domid.error().message());
    co_await pause();
  }
  if (const auto name = co_await store_.read("name")) guest_name_ = *name;
  if (const auto last = co_await store_.read(std::string(ring_pointer))) {
    epoch_ = parse_epoch(*last).value_or(0);
  }
  co_await store_.remove(std::string(guest_folder));
  restored_ = false;
  backoff_.reset();
}

// Without an answer it is asked again: what is not there is believed for as long as this bridge
// runs.
asio::awaitable<std::optional<std::string>> GuestLink::read_surely(std::string path) {
  for (;;) {
    auto value = co_await store_.read(path);
    if (value) co_return std::move(*value);
    const int error = value.error().value();
    if (error == ENOENT || error == EACCES) co_return std::nullopt;
    spdlog::warn("xenstore: reading {}: {}", path, value.error().message());
    co_await pause();
  }
}

// The device of the channel that is configured, empty when there is none.
asio::awaitable<std::string> GuestLink::find_console() {
  if (config_.console.device == "none") co_return "";
  if (config_.console.device != "auto") co_return config_.console.device;
  for (int number = 1; number <= consoles_max; ++number) {
    const auto name = co_await read_surely(fmt::format("device/console/{}/name", number));
    if (name && *name == config_.console.channel) {
      Folders folders;
      if (const char* dev = std::getenv("XENLANE_DEV_DIR"); dev != nullptr) folders.dev = dev;
      co_return tty_of_channel(folders, *name, number).string();
    }
  }
  co_return "";
}

asio::awaitable<void> GuestLink::start_console() {
  const std::string device = co_await find_console();
  if (device.empty() && vchan_trouble_) throw *vchan_trouble_;
  if (vchan_trouble_) spdlog::warn("{}; the console has to do", vchan_trouble_->what);
  if (device.empty()) co_return;
  spdlog::debug("the console lane is on {}", device);
  console_.emplace(executor_, peer_, transport::ConsoleEnd::guest, config_,
                   config_.console.device == "auto", device, transport::open_console_tty);
  // Before the policy is asked: there is a console, whether it answers or not.
  peer_.set_console_present(true);
  asio::co_spawn(executor_, console_->run(), transport::or_throw);
}

asio::awaitable<GuestLink::HostWish> GuestLink::read_wish() {
  const auto host = co_await store_.read(key(host_node, host_domid_key));
  const auto wanted = co_await store_.read(key(host_node, wanted_key));
  for (const auto* value : {&host, &wanted}) {
    if (*value) continue;
    const int error = value->error().value();
    const bool is_answer = error == ENOENT || error == EACCES;
    const auto without = value == &host ? WishState::absent : WishState::silent;
    co_return HostWish{is_answer ? without : WishState::unknown};
  }
  const auto host_domid = transport::parse_domid(*host);
  const auto epoch = parse_epoch(*wanted);
  if (!host_domid || !epoch) {
    spdlog::warn("xenstore: {} holds no usable wish; is another program using it?", host_node);
    co_return HostWish{};
  }
  // A worker that has just begun, or whose end of the console has, knows nothing of the link that
  // there was, waits to be asked, and writes its wish again, which need not be another.
  peer_.nudge_lane(LaneKind::console);
  co_return HostWish{WishState::present, *host_domid, *epoch};
}

asio::awaitable<void> GuestLink::run() {
  co_await store_.wait_connected(milliseconds(config_.timeouts.xenstore_ms));
  co_await learn_identity();
  co_await start_console();
  store_.watch(std::string(host_node), wish_changed_);
  peer_.on_lanes_changed([this] { wish_changed_.raise(); });
  bool told = false;
  for (;;) {
    const auto wish = co_await read_wish();
    if (wish.state == WishState::present && !peer_.wants_vchan()) {
      co_await wish_changed_.wait();
      continue;
    }
    if (wish.state == WishState::present) {
      told = false;
      // Of a restoration while nothing was on offer, nothing else tells.
      const auto domid = co_await store_.read("domid");
      const bool renamed = domid && transport::parse_domid(*domid) != domid_;
      if (restored_ || renamed) co_await learn_identity();
      // The host paces what it asks for; what this side paces is set-ups that fail.
      if (co_await serve(wish)) backoff_.reset();
      if (superseded_) continue;
    }
    if (wish.state == WishState::silent) {
      co_await wish_changed_.wait();
      continue;
    }
    if (wish.state != WishState::absent) {
      co_await pause();
      continue;
    }
    if (!told) spdlog::info("waiting for a host bridge to show up in xenstore");
    told = true;
    peer_.set_reason("no host bridge serves this guest");
    co_await wish_changed_.wait();
  }
}

asio::awaitable<bool> GuestLink::serve(const HostWish& wish) {
  superseded_ = false;
  const std::uint64_t epoch = std::max(epoch_ + 1, wish.epoch);
  if (epoch > epoch_max) {
    peer_.set_reason("the epochs are used up; restart the guest");
    spdlog::error("the epochs are used up; restart the guest");
    co_await wish_changed_.wait();
    co_return false;
  }
  transport::VchanOffer offer;
  offer.client = wish.host;
  offer.path = ring_path(epoch);
  offer.ring_bytes_max = config_.vchan.ring_bytes_max;
  offer.ring_bytes_min = config_.vchan.ring_bytes_min;
  auto lane =
      co_await transport::async_offer_vchan(offer, milliseconds(config_.timeouts.xenstore_ms));
  if (!lane) {
    peer_.set_reason(lane.error().text);
    // Tried again and again: the same trouble is told once.
    if (lane.error().text != trouble_) spdlog::warn("{}", lane.error().text);
    trouble_ = lane.error().text;
    co_return false;
  }
  trouble_.clear();
  epoch_ = epoch;
  // The pointer goes last: whoever reads it finds the ring's keys in place.
  std::vector<transport::XenStoreWrite> writes(1);
  writes[0].path = ring_pointer;
  writes[0].value = std::to_string(epoch);
  writes[0].permissions = {fmt::format("n{}", domid_), fmt::format("r{}", wish.host)};
  const auto pointed = co_await store_.write_all(std::move(writes));
  if (pointed) {
    spdlog::warn("xenstore: writing {}: {}", ring_pointer, pointed.message());
    peer_.set_reason("xenstore: " + pointed.message());
    co_await transport::async_close_lane(std::move(*lane),
                                         milliseconds(config_.timeouts.xenstore_ms));
    co_return false;
  }
  spdlog::debug("offered epoch {} with rings of {} KiB", epoch, (*lane)->send_ring_bytes() / 1024);
  auto serving = std::make_shared<bool>(true);
  asio::co_spawn(executor_, watch_wish(serving), transport::or_throw);
  const std::string reason = co_await peer_.run_lane(LaneKind::vchan, std::move(*lane), epoch);
  *serving = false;
  wish_changed_.raise();  // ends watch_wish
  spdlog::info("vchan lane ended: {}", reason);
  co_return peer_.lane_carried(LaneKind::vchan);
}

// While a ring is on offer or in use: the host may ask for a later one, or go away.
asio::awaitable<void> GuestLink::watch_wish(std::shared_ptr<bool> serving) {
  while (*serving) {
    // First of all: what is told of a restoration is only that every watch fires, and the keys from
    // before are not there.
    const auto pointer = co_await store_.read(std::string(ring_pointer));
    if (!*serving) co_return;
    if (!pointer && pointer.error() == boost::system::errc::no_such_file_or_directory) {
      restored_ = true;
      const std::string why = "this domain was restored, or its xenstore keys were removed";
      peer_.abandon_vchan(why);
      peer_.end_session(ECONNRESET, why);
      co_return;
    }
    const auto wish = co_await read_wish();
    if (!*serving) co_return;
    if (wish.state == WishState::present && wish.epoch > epoch_) {
      superseded_ = true;
      peer_.stop_lane(LaneKind::vchan, "the host asked for a new lane");
    } else if (wish.state == WishState::absent) {
      peer_.end_session(ECONNRESET, "the host bridge has gone");
      peer_.stop_lane(LaneKind::vchan, "the host bridge has gone");
    } else if (!peer_.wants_vchan() && !peer_.uses(LaneKind::vchan)) {
      peer_.stop_lane(LaneKind::vchan, "not wanted any more");
    }
    // The event of a change whose reading failed will not come again.
    const bool known = pointer && wish.state != WishState::unknown;
    const std::chrono::milliseconds limit =
        known ? std::chrono::hours(24 * 365) : milliseconds(config_.timeouts.retry_ms_max);
    co_await wish_changed_.wait_for(limit);
  }
}

}  // namespace xenlane::guest

#include "bridge/daemon/peer.hpp"

#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <cstring>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::bridge {

namespace json = boost::json;
using std::chrono::milliseconds;

RandomId random_id() {
  RandomId id{};
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return id;
}

namespace {

/// Of why a session ended: the longest that is our own has a REJECT's text in it.
constexpr std::size_t reason_shown_bytes_max = 400;

/// Who looks for work on the only processor keeps those away who would make it.
std::chrono::microseconds poll_max(const VchanConfig& vchan) {
  cpu_set_t usable;
  const bool several =
      ::sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) > 1;
  return std::chrono::microseconds(several ? vchan.poll_us_max : 0);
}

}  // namespace

milliseconds Backoff::next() {
  const auto delay = next_;
  next_ = std::min(next_ * 2, max_);
  return delay;
}

Peer::Peer(const boost::asio::any_io_executor& executor, Role role, std::string name,
           const BridgeConfig& config)
    : executor_(executor),
      role_(role),
      name_(std::move(name)),
      config_(config),
      channels_(executor, role, name_, milliseconds(config.timeouts.dial_ms)) {}

bool Peer::session_up() const {
  return driver_ != nullptr && driver_->session().state() == SessionState::up;
}

boost::asio::awaitable<std::string> Peer::run_session(std::unique_ptr<transport::Lane> lane,
                                                      std::uint64_t epoch) {
  Session::Settings settings{role_, random_id(), instance_, epoch, config_.limits};
  const DriverTimeouts timeouts{milliseconds(config_.timeouts.handshake_ms),
                                milliseconds(config_.timeouts.peer_stall_ms),
                                poll_max(config_.vchan)};
  driver_ = std::make_unique<SessionDriver>(executor_, std::move(lane), settings, timeouts,
                                            static_cast<StreamOwner&>(channels_));
  since_ = std::chrono::steady_clock::now();
  ++sessions_;
  abandoning_ = false;
  channels_.attach(*driver_);
  // A refusing host's own words are in it.
  const std::string untrusted_reason = co_await driver_->run();
  std::string reason = escape_untrusted(untrusted_reason, reason_shown_bytes_max);
  channels_.detach(reason);
  session_was_up_ = driver_->session().has_been_up();
  reason_ = reason;
  since_ = std::chrono::steady_clock::now();
  auto ended = driver_->release_lane();
  driver_.reset();
  if (abandoning_) {
    transport::abandon_vchan(std::move(ended));
  } else {
    co_await transport::async_close_lane(std::move(ended),
                                         milliseconds(config_.timeouts.xenstore_ms));
  }
  co_return reason;
}

void Peer::stop_session(std::string reason) {
  if (driver_) driver_->stop(std::move(reason));
}

void Peer::leave_session(std::string reason) {
  if (!driver_) return;
  if (driver_->lane().state() == transport::LaneState::closed) {
    driver_->wake();
  } else {
    driver_->stop(std::move(reason));
  }
}

void Peer::abandon_session(std::string reason) {
  abandoning_ = true;
  stop_session(std::move(reason));
}

namespace {

json::object describe(const BadEnding& ending) {
  const char* name = ::strerrorname_np(ending.error);
  return {{"what", ending.refused ? "refused" : "broken"},
          {"pid", ending.pid},
          {"errno", name != nullptr ? name : "EIO"},
          {"message", ending.message}};
}

json::object describe(const PollBudget& budget) {
  const auto us = [](PollBudget::Duration time) {
    return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  };
  const PollCounters& counters = budget.counters();
  return {{"max_us", us(budget.max())},
          {"now_us", us(budget.current())},
          {"paid", counters.paid},
          {"missed", counters.missed},
          {"slept", counters.unlooked}};
}

json::object describe(const Channel& channel) {
  const ChannelConfig& config = channel.config;
  const ChannelStats& stats = channel.stats;
  json::object out;
  out["name"] = config.name.text();
  out["end"] = to_string(config.end);
  out["socket"] = channel.socket_path.empty() ? json::value() : json::value(channel.socket_path);
  out["target"] = config.target ? json::value(config.target->uri()) : json::value();
  out["state"] = config.error.empty() ? "ready" : "disabled";
  out["error"] = config.error.empty() ? json::value() : json::value(config.error);
  out["open"] = stats.open;
  out["opened"] = stats.opened;
  out["refused"] = stats.refused;
  out["broken"] = stats.broken;
  out["waiting"] = channel.waiting_local.size() + channel.waiting_remote.size();
  out["bytes_in"] = stats.bytes_in;
  out["bytes_out"] = stats.bytes_out;
  json::array endings;
  out["last_refusal"] = nullptr;
  for (const BadEnding& ending : stats.bad_endings) {
    json::object described = describe(ending);
    if (ending.refused) {
      out["last_refusal"] = {{"errno", described["errno"]}, {"message", ending.message}};
    }
    endings.push_back(std::move(described));
  }
  out["bad_endings"] = std::move(endings);
  return out;
}

}  // namespace

json::object Peer::status() const {
  json::object session;
  json::object lane{{"kind", "none"}};
  json::object streams{{"open", 0}, {"max", 2 * config_.limits.streams_max}};
  json::object counters{{"sessions", sessions_}};
  json::value polling;
  const auto age = std::chrono::steady_clock::now() - since_;
  session["state"] = driver_ ? to_string(driver_->session().state()) : "down";
  session["since_s"] = std::chrono::duration_cast<std::chrono::seconds>(age).count();
  session["reason"] = session_up() ? std::string() : reason_;
  if (driver_) {
    if (driver_->lane().state() == transport::LaneState::awaiting_peer) {
      session["state"] = "down";
      session["reason"] = "offered a lane; waiting for the host to attach";
    }
    session["epoch"] = driver_->session().epoch();
    lane = {{"kind", driver_->lane().kind()},
            {"send_ring_bytes", driver_->lane().send_ring_bytes()},
            {"receive_ring_bytes", driver_->lane().receive_ring_bytes()},
            {"send_limit_bytes", driver_->send_limit().current()}};
    polling = describe(driver_->poll_budget());
    counters["wake_ups"] = driver_->counters().wake_ups;
    counters["nudges"] = driver_->counters().nudges;
    if (const Mux* mux = driver_->mux()) {
      const MuxCounters& mux_counters = mux->counters();
      session["id"] = to_hex(driver_->session().id());
      session["protocol_version"] = driver_->session().peer().version_max;
      streams["open"] = mux->stream_count();
      counters["frames_in"] = mux_counters.frames_in;
      counters["frames_out"] = mux_counters.frames_out;
      counters["data_bytes_in"] = mux_counters.data_bytes_in;
      counters["data_bytes_out"] = mux_counters.data_bytes_out;
      counters["streams_opened"] = mux_counters.streams_opened;
      counters["streams_refused"] = mux_counters.streams_refused;
      counters["streams_reset"] = mux_counters.streams_reset;
      counters["discarded_bytes"] = mux_counters.discarded_bytes;
      counters["held_bytes"] = mux->held_bytes();
    }
  }
  json::array channels;
  for (const auto& channel : channels_.channels()) channels.push_back(describe(*channel));
  return {{"session", std::move(session)},   {"lane", std::move(lane)},
          {"polling", std::move(polling)},   {"streams", std::move(streams)},
          {"channels", std::move(channels)}, {"counters", std::move(counters)}};
}

}  // namespace xenlane::bridge

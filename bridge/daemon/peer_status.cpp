// What a bridge tells of itself: its part of the status reply (docs/control.md).
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "bridge/daemon/peer.hpp"
#include "transport/console/console_lane.hpp"

namespace xenlane::bridge {

namespace json = boost::json;

namespace {

json::object describe(const BadEnding& ending) {
  const char* name = ::strerrorname_np(ending.error);
  const auto age = std::chrono::steady_clock::now() - ending.at;
  return {{"what", ending.refused ? "refused" : "broken"},
          {"pid", ending.pid},
          {"errno", name != nullptr ? name : "EIO"},
          {"message", ending.message},
          {"age_s", std::chrono::duration_cast<std::chrono::seconds>(age).count()}};
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

/// `peer` is the other side's name, on the host the guest's.
json::object describe(const Channel& channel, const std::string& peer) {
  const ChannelConfig& config = channel.config;
  const ChannelStats& stats = channel.stats;
  json::object out;
  out["name"] = config.name.text();
  out["end"] = to_string(config.end);
  out["kind"] = to_string(config.socket);
  out["socket"] = channel.socket_path.empty() ? json::value() : json::value(channel.socket_path);
  out["target"] = config.target ? json::value(config.target->uri()) : json::value();
  out["console"] = nullptr;
  if (!config.console.empty()) out["console"] = path_for_guest(config.console, peer);
  out["state"] = config.error.empty() ? "ready" : "disabled";
  out["error"] = config.error.empty() ? json::value() : json::value(config.error);
  out["open"] = stats.open;
  out["opened"] = stats.opened;
  out["refused"] = stats.refused;
  out["broken"] = stats.broken;
  out["dropped_bytes"] = stats.dropped_bytes;
  out["raw"] = channel.raw != nullptr;
  out["peer"] = nullptr;
  if (channel.peer) {
    out["peer"] = json::object{{"end", to_string(channel.peer->end)}, {"open", channel.peer->open}};
  }
  out["waiting"] = channel.waiting_local.size() + channel.waiting_remote.size();
  out["bytes_in"] = stats.bytes_in;
  out["bytes_out"] = stats.bytes_out;
  json::array endings;
  out["last_refusal"] = nullptr;
  for (const BadEnding& ending : stats.bad_endings) {
    json::object described = describe(ending);
    if (ending.refused) {
      out["last_refusal"] = {{"errno", described["errno"]},
                             {"message", ending.message},
                             {"age_s", described["age_s"]}};
    }
    endings.push_back(std::move(described));
  }
  out["bad_endings"] = std::move(endings);
  return out;
}

}  // namespace

json::object Peer::describe_lane() const {
  const auto now = std::chrono::steady_clock::now();
  json::object lane{{"kind", "none"}};
  if (const SessionDriver* driver = carrying()) {
    auto& carrier = const_cast<SessionDriver&>(*driver);
    lane = {{"kind", carrier.lane().kind()},
            {"epoch", carrier.epoch()},
            {"send_ring_bytes", carrier.lane().send_ring_bytes()},
            {"receive_ring_bytes", carrier.lane().receive_ring_bytes()},
            {"send_limit_bytes", carrier.send_limit().current()}};
  }
  lane["why"] = policy_.why(now, peer_wish_);
  lane["set"] = to_string(policy_.forced());
  lane["holds"] = policy_.holds();
  lane["wish"] = to_string(wish_);
  lane["peer_wish"] = to_string(peer_wish_);
  lane["switches"] = switches_;
  return lane;
}

json::value Peer::describe_console() const {
  const auto& driver = drivers_[index(LaneKind::console)];
  if (!driver) return nullptr;
  const auto* lane = dynamic_cast<transport::ConsoleLane*>(&driver->lane());
  if (lane == nullptr) return nullptr;
  const transport::ConsoleCounters counters = lane->counters();
  return json::object{{"open", policy_.console_open()},
                      {"binary", counters.binary},
                      {"round_trip_us", counters.srtt.count()},
                      {"frames_in", counters.frames_in},
                      {"frames_out", counters.frames_out},
                      {"retransmitted_frames", counters.retransmitted_frames},
                      {"bad_frames", counters.bad_frames},
                      {"echoes", counters.echoes},
                      {"foreign_frames", counters.foreign_frames},
                      {"wire_bytes_in", counters.wire_bytes_in},
                      {"wire_bytes_out", counters.wire_bytes_out},
                      {"raw_bytes_out", counters.raw_bytes_out},
                      {"packed_bytes_out", counters.packed_bytes_out}};
}

json::object Peer::usage() const {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto us = [](const timeval& time) { return time.tv_sec * 1'000'000 + time.tv_usec; };
  json::object out{{"cpu_us", us(used.ru_utime) + us(used.ru_stime)}};
  if (const SessionDriver* driver = carrying()) {
    out["wake_ups"] = driver->counters().wake_ups;
    out["notifications"] = driver->notifications();
  }
  return out;
}

json::object Peer::status() const {
  json::object session;
  json::object streams{{"open", 0}, {"max", 2 * config_.limits.streams_max}};
  json::object counters{{"sessions", sessions_}};
  json::value polling;
  const auto age = std::chrono::steady_clock::now() - since_;
  const SessionState state = session_.state();
  session["state"] = state == SessionState::none ? "down" : to_string(state);
  session["since_s"] = std::chrono::duration_cast<std::chrono::seconds>(age).count();
  session["reason"] = session_up() ? std::string() : reason_;
  const auto& vchan = drivers_[index(LaneKind::vchan)];
  if (state == SessionState::none && vchan) {
    const bool offered = vchan->lane().state() == transport::LaneState::awaiting_peer;
    if (offered) session["reason"] = "offered a lane; waiting for the host to attach";
    if (!offered) session["state"] = "handshake";
  }
  if (const SessionDriver* driver = carrying()) {
    session["epoch"] = driver->epoch();
    polling = describe(driver->poll_budget());
    counters["nudges"] = driver->counters().nudges;
  }
  counters["connects_turned_away"] = channels_.turned_away();
  for (auto& [name, value] : usage()) counters[name] = std::move(value);
  if (const Mux* mux = session_.mux()) {
    const MuxCounters& mux_counters = mux->counters();
    session["id"] = to_hex(session_.id());
    session["protocol_version"] = session_.version();
    session["peer_version"] = session_.peer().version_max;
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
  json::array channels;
  for (const auto& channel : channels_.channels()) channels.push_back(describe(*channel, name_));
  return {{"session", std::move(session)},  {"lane", describe_lane()},
          {"console", describe_console()},  {"polling", std::move(polling)},
          {"streams", std::move(streams)},  {"channels", std::move(channels)},
          {"counters", std::move(counters)}};
}

}  // namespace xenlane::bridge

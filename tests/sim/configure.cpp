// How a simulated guest and its host are configured: limits, channels, and which lanes there are.
// Small thresholds and short times, so that lanes are changed often.
#include <fmt/format.h>

#include "tests/sim/world.hpp"

namespace xenlane::sim {

namespace {

using bridge::BridgeConfig;
using bridge::EndKind;
using bridge::LaneMode;
using std::chrono::milliseconds;

/// What applications send at most where only the console may carry it.
constexpr std::uint64_t console_bytes_max = 12'000;

bridge::ChannelConfig channel(const std::string& name, EndKind end, const std::string& target) {
  bridge::ChannelConfig config{.name = bridge::ChannelName::parse(name).value(), .end = end};
  if (!target.empty()) config.target = bridge::Target::parse("unix:" + target).value();
  return config;
}

LaneMode mode_of(Lanes lanes) {
  if (lanes == Lanes::on_demand) return LaneMode::on_demand;
  return lanes == Lanes::console ? LaneMode::never : LaneMode::always;
}

bool never(const BridgeConfig& config) {
  return config.lanes.policy.mode == LaneMode::never;
}

}  // namespace

std::optional<Lanes> parse_lanes(std::string_view word) {
  if (word == "vchan") return Lanes::vchan;
  if (word == "beside") return Lanes::beside;
  if (word == "console") return Lanes::console;
  if (word == "on_demand") return Lanes::on_demand;
  return std::nullopt;
}

void World::configure(Guest& guest) {
  choose_lanes(guest);
  choose_limits(guest);
  for (auto* config : {&guest.guest_config, &guest.host_config}) {
    config->vchan.ring_bytes_max = 1U << (12 + env_.below(5));
  }
  guest.guest_config.run_dir = fmt::format("{}/run-{}", folder_, guest.index);
  guest.host_config.run_dir = folder_ + "/host";
  guest.guest_config.channels = {channel("org.sim.to-host", EndKind::listen, ""),
                                 channel("org.sim.to-guest", EndKind::dial,
                                         applications_->service_path(guest.index, Side::guest)),
                                 channel("org.sim.port", EndKind::port, "")};
  guest.host_config.channels = {channel("org.sim.to-guest", EndKind::listen, ""),
                                channel("org.sim.to-host", EndKind::dial,
                                        applications_->service_path(guest.index, Side::host)),
                                channel("org.sim.port", EndKind::port, "")};
}

void World::choose_limits(Guest& guest) {
  bridge::Limits limits;
  std::uint32_t poll_us = 100;
  if (options_.random) {
    limits.streams_max = static_cast<std::uint32_t>(env_.between(2, 64));
    limits.open_backlog_max = static_cast<std::uint32_t>(env_.between(1, 16));
    // Each window is a way there and back, which over a console takes a while.
    const std::uint64_t least = guest.has_console ? 48 : 1;
    limits.stream_window_bytes_min =
        env_.one_in(8) ? env_.between(least, 64) : env_.between(64, 40'000);
    if (limits.stream_window_bytes_min <= 64) applications_->limit(guest.index, 2'000);
    limits.stream_window_bytes_max = limits.stream_window_bytes_min * env_.between(1, 20);
    limits.session_window_bytes =
        2 * limits.streams_max * limits.stream_window_bytes_min + env_.below(1'000'000);
    poll_us = static_cast<std::uint32_t>(env_.below(3) * 50);
  }
  for (auto* config : {&guest.guest_config, &guest.host_config}) {
    config->limits = limits;
    config->vchan.poll_us_max = poll_us;
  }
}

void World::choose_lanes(Guest& guest) {
  guest.has_console = options_.random ? !env_.one_in(3) : options_.lanes != Lanes::vchan;
  guest.host_config.console.socket = folder_ + "/console-{guest}";
  if (!options_.random) {
    guest.guest_config.lanes.policy.mode = mode_of(options_.lanes);
    guest.host_config.lanes.policy.mode = mode_of(options_.lanes);
    return;
  }
  if (!guest.has_console) {
    env_.count(Fault::console_missing);
    if (env_.one_in(2)) guest.host_config.console.socket = "none";
    if (env_.one_in(2)) guest.guest_config.console.device = "none";
  }
  guest.vchan_missing = guest.has_console && !guest.spared && env_.one_in(8);
  if (guest.vchan_missing) env_.count(Fault::vchan_missing);
  const bool may_be_never = guest.has_console;
  const auto draw_mode = [&] {
    if (may_be_never && env_.one_in(10)) return LaneMode::never;
    return env_.one_in(4) ? LaneMode::always : LaneMode::on_demand;
  };
  const LaneMode usual = draw_mode();
  for (auto* config : {&guest.guest_config, &guest.host_config}) {
    auto& policy = config->lanes.policy;
    policy.mode = env_.one_in(4) ? draw_mode() : usual;
    policy.backlog_bytes = env_.between(256, 16'000);
    policy.volume_bytes = env_.between(1'000, 64'000);
    policy.idle = milliseconds(env_.between(100, 3'000));
    config->lanes.rings_per_minute = 100'000;  // lanes are cut here more often than anywhere
    config->console.zstd = !env_.one_in(4);
    if (env_.one_in(4)) config->console.own_device = false;
  }
  if (never(guest.guest_config) || never(guest.host_config)) env_.count(Fault::console_only);
  if (!may_have_vchan(guest)) applications_->limit(guest.index, console_bytes_max);
}

bool World::may_have_vchan(const Guest& guest) const {
  return !guest.vchan_missing && !never(guest.guest_config) && !never(guest.host_config);
}

}  // namespace xenlane::sim

#include "bridge/daemon/config_section.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "bridge/daemon/config_channel.hpp"
#include "bridge/daemon/config_identity.hpp"

namespace xenlane::bridge::config_detail {

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint32_t hour_ms = 3600 * 1000;

Key bytes_key(const char* name, std::uint64_t low, std::uint64_t high, std::uint64_t& out) {
  return {name, [=, &out](const toml::node& n) { return read_bytes(n, low, high, out); }};
}

Key count_key(const char* name, std::uint32_t low, std::uint32_t high, std::uint32_t& out) {
  return {name, [=, &out](const toml::node& n) { return read_count(n, low, high, out); }};
}

Key time_key(const char* name, std::uint32_t low_ms, std::uint32_t& out_ms) {
  return {name,
          [=, &out_ms](const toml::node& n) { return read_duration(n, low_ms, hour_ms, out_ms); }};
}

Key ring_key(const char* name, std::uint32_t& out) {
  return {name, [&out](const toml::node& n) {
            std::uint64_t bytes = 0;
            std::string wrong = read_bytes(n, 4 * kib, mib, bytes);
            if (!wrong.empty()) return wrong;
            if (!std::has_single_bit(bytes)) {
              return fmt::format("{} is not a power of two", format_bytes(bytes));
            }
            out = static_cast<std::uint32_t>(bytes);
            return std::string{};
          }};
}

std::string read_run_dir(const toml::node& node, std::string& out) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  if (text.front() != '/') return "is not an absolute path";
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  out = std::move(text);
  return {};
}

std::string read_guests(const toml::node& node, std::vector<std::string>& out) {
  std::vector<std::string> globs;
  std::string wrong = read_texts(node, globs);
  if (!wrong.empty()) return wrong;
  for (const std::string& glob : globs) {
    wrong = check_guest_glob(glob);
    if (!wrong.empty()) return wrong;
  }
  out = std::move(globs);
  return {};
}

std::string read_log_level(const toml::node& node, LogLevel& out) {
  std::size_t index = 0;
  std::string wrong = read_choice(node, {"error", "warn", "info", "debug"}, index);
  if (wrong.empty()) out = static_cast<LogLevel>(index);
  return wrong;
}

std::string read_policy(const toml::node& node, LaneMode& out) {
  std::size_t index = 0;
  std::string wrong = read_choice(node, {"on-demand", "always", "never"}, index);
  if (wrong.empty()) out = static_cast<LaneMode>(index);
  return wrong;
}

/// "" and the words in `words` stand for themselves; anything else is an absolute path.
std::string read_path_or(const toml::node& node, const std::vector<std::string>& words,
                         std::string& out) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  const bool is_word = std::find(words.begin(), words.end(), text) != words.end();
  if (!is_word && text.front() != '/') return "is not an absolute path";
  out = std::move(text);
  return {};
}

std::string read_channel_name(const toml::node& node, std::string& out) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  const auto name = ChannelName::parse(text);
  if (!name) return fmt::format("'{}': {}", escape_untrusted(text), name.error().text);
  out = name->text();
  return {};
}

std::vector<Key> lanes_keys(LanesConfig& lanes) {
  return {{"policy", [&](const toml::node& n) { return read_policy(n, lanes.policy.mode); }},
          bytes_key("backlog_bytes", kib, 64 * kib, lanes.policy.backlog_bytes),
          bytes_key("volume_bytes", kib, 1024 * mib, lanes.policy.volume_bytes),
          time_key("idle_ms", 100, lanes.idle_ms),
          count_key("rings_per_minute", 1, 100000, lanes.rings_per_minute)};
}

std::vector<Key> console_keys(ConsoleConfig& console, Side side) {
  const auto only = [side](Side wanted, auto read) {
    return [=](const toml::node& n) -> std::string {
      if (side == wanted) return read(n);
      return wanted == Side::host ? "is only for the host's files" : "is only for a guest's files";
    };
  };
  return {
      {"socket",
       only(Side::host,
            [&](const toml::node& n) { return read_path_or(n, {"none"}, console.socket); })},
      {"device", only(Side::guest,
                      [&](const toml::node& n) {
                        return read_path_or(n, {"auto", "none"}, console.device);
                      })},
      {"channel", only(Side::guest,
                       [&](const toml::node& n) { return read_channel_name(n, console.channel); })},
      {"own_device",
       [&](const toml::node& n) {
         bool own = false;
         std::string wrong = read_flag(n, own);
         if (wrong.empty()) console.own_device = own;
         return wrong;
       }},
      {"zstd", [&](const toml::node& n) { return read_flag(n, console.zstd); }},
      time_key("give_up_ms", 1000, console.give_up_ms)};
}

}  // namespace

const std::vector<std::string>& section_names() {
  static const std::vector<std::string> names = {"daemon",  "limits",   "vchan",  "lanes",
                                                 "console", "timeouts", "connect"};
  return names;
}

bool is_section(std::string_view name) {
  return std::ranges::find(section_names(), name) != section_names().end();
}

std::vector<Key> section_keys(const std::string& section, BridgeConfig& config, Side side) {
  if (section == "daemon") {
    std::vector<Key> keys = {
        {"run_dir", [&](const toml::node& n) { return read_run_dir(n, config.run_dir); }},
        {"log_level", [&](const toml::node& n) { return read_log_level(n, config.log_level); }},
        {"events_mode", [&](const toml::node& n) { return read_mode(n, config.events_mode); }},
        {"events_group", [&](const toml::node& n) {
           return read_group(n, config.events_group, config.events_gid);
         }}};
    keys.push_back({"guests", [&config, side](const toml::node& n) -> std::string {
                      if (side == Side::guest) return "is only for the host's files";
                      return read_guests(n, config.guests);
                    }});
    return keys;
  }
  if (section == "limits") {
    Limits& limits = config.limits;
    return {count_key("streams_max", 1, 65536, limits.streams_max),
            bytes_key("stream_window_bytes_min", 4 * kib, 16 * mib, limits.stream_window_bytes_min),
            bytes_key("stream_window_bytes_max", 4 * kib, 64 * mib, limits.stream_window_bytes_max),
            bytes_key("session_window_bytes", 64 * kib, 4096 * mib, limits.session_window_bytes),
            count_key("open_backlog_max", 1, 65536, limits.open_backlog_max)};
  }
  if (section == "vchan") {
    return {ring_key("ring_bytes_max", config.vchan.ring_bytes_max),
            ring_key("ring_bytes_min", config.vchan.ring_bytes_min),
            count_key("poll_us_max", 0, 1000, config.vchan.poll_us_max)};
  }
  if (section == "lanes") return lanes_keys(config.lanes);
  if (section == "console") return console_keys(config.console, side);
  Timeouts& timeouts = config.timeouts;
  return {time_key("handshake_ms", 10, timeouts.handshake_ms),
          time_key("xenstore_ms", 10, timeouts.xenstore_ms),
          time_key("dial_ms", 10, timeouts.dial_ms),
          time_key("peer_stall_ms", 100, timeouts.peer_stall_ms),
          time_key("retry_ms_min", 1, timeouts.retry_ms_min),
          time_key("retry_ms_max", 1, timeouts.retry_ms_max),
          time_key("resume_ms", 10, timeouts.resume_ms)};
}

}  // namespace xenlane::bridge::config_detail

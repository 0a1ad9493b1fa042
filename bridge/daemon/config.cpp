// Questions to a loaded configuration, and how its faults are shown.
#include "bridge/daemon/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "bridge/cli/exit_codes.hpp"

namespace xenlane::bridge {

bool ConfigLoad::has_errors() const {
  return std::any_of(diagnostics.begin(), diagnostics.end(),
                     [](const Diagnostic& d) { return d.severity == Severity::error; });
}

bool ConfigLoad::is_fatal() const {
  return std::any_of(diagnostics.begin(), diagnostics.end(), [](const Diagnostic& d) {
    return d.severity == Severity::error && d.scope == Scope::daemon;
  });
}

std::string path_for_guest(std::string path, std::string_view guest) {
  static constexpr std::string_view mark = "{guest}";
  for (auto at = path.find(mark); at != std::string::npos;
       at = path.find(mark, at + guest.size())) {
    path.replace(at, mark.size(), guest);
  }
  return path;
}

std::string console_socket_of(const BridgeConfig& config, std::string_view guest) {
  if (config.console.socket == "none") return {};
  return path_for_guest(config.console.socket, guest);
}

std::string default_run_dir() {
  const char* from_environment = std::getenv("XENLANE_RUN_DIR");
  if (from_environment != nullptr && *from_environment != '\0') return from_environment;
  return "/run/xenlane";
}

std::string channel_device_dir() {
  const char* folder = std::getenv("XENLANE_DEV_DIR");
  return fmt::format("{}/xen-channel", folder != nullptr ? folder : "/dev");
}

std::string default_config_path(Side side) {
  return side == Side::host ? "/etc/xenlane/host.toml" : "/etc/xenlane/guest.toml";
}

Decision decide(const BridgeConfig& config, std::string_view name, std::string_view guest) {
  const auto denial = std::find_if(
      config.denials.begin(), config.denials.end(),
      [&](const Denial& d) { return glob_matches(d.name, name) && glob_matches(d.guest, guest); });
  const std::size_t end =
      denial != config.denials.end() ? denial->position : config.channels.size();
  for (std::size_t i = 0; i < end; ++i) {
    const ChannelConfig& channel = config.channels[i];
    if (channel.name.text() == name && glob_matches(channel.guest, guest)) return {&channel, {}};
  }
  return {nullptr, denial != config.denials.end() ? &*denial : nullptr};
}

const ChannelConfig* find_channel(const BridgeConfig& config, const ChannelName& name,
                                  std::string_view guest) {
  return decide(config, name.text(), guest).channel;
}

std::vector<const ChannelConfig*> channels_for(const BridgeConfig& config, std::string_view guest) {
  std::vector<const ChannelConfig*> found;
  for (const ChannelConfig& channel : config.channels) {
    if (find_channel(config, channel.name, guest) == &channel) found.push_back(&channel);
  }
  return found;
}

bool guest_is_served(const BridgeConfig& config, std::string_view guest) {
  return std::any_of(config.guests.begin(), config.guests.end(),
                     [guest](const std::string& glob) { return glob_matches(glob, guest); });
}

std::string_view to_string(EndKind end) {
  switch (end) {
    case EndKind::listen:
      return "listen";
    case EndKind::dial:
      return "dial";
    case EndKind::port:
      return "port";
    case EndKind::raw:
      return "raw";
  }
  return "unknown";
}

std::string format_diagnostic(const Diagnostic& diagnostic) {
  const char* severity = diagnostic.severity == Severity::error ? "error" : "warning";
  const std::string file = escape_untrusted(diagnostic.where.file, 4096);
  if (diagnostic.where.line == 0)
    return fmt::format("{}: {}: {}", file, severity, diagnostic.message);
  return fmt::format("{}:{}: {}: {}", file, diagnostic.where.line, severity, diagnostic.message);
}

int print_check(const ConfigLoad& load, std::FILE* out) {
  std::size_t errors = 0;
  for (const Diagnostic& diagnostic : load.diagnostics) {
    if (diagnostic.severity == Severity::error) ++errors;
    fmt::print(out, "{}\n", format_diagnostic(diagnostic));
  }
  const auto usable = std::count_if(load.config.channels.begin(), load.config.channels.end(),
                                    [](const ChannelConfig& c) { return c.error.empty(); });
  fmt::print(out, "{}: errors: {}, warnings: {}, usable channels: {} of {}{}\n",
             escape_untrusted(load.config.file, 4096), errors, load.diagnostics.size() - errors,
             usable, load.config.channels.size(),
             load.is_fatal() ? "; the daemon would not start" : "");
  return errors == 0 ? exit_ok : exit_configuration;
}

}  // namespace xenlane::bridge

#include "bridge/toolstack/host_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {
namespace {

/// The host has no setting for it: what a guest's [console] `channel` is by default.
const std::string& lane_channel() {
  static const std::string name = ConsoleConfig{}.channel;
  return name;
}

/// As a TOML basic string. Plain text has no control characters that need more.
std::string toml_text(std::string_view plain) {
  std::string out = "\"";
  for (const char byte : plain) {
    if (byte == '"' || byte == '\\') out += '\\';
    out += byte;
  }
  return out + '"';
}

/// `path` as a [console] `socket`; nothing when the guest's name is not in it.
std::optional<std::string> as_template(std::string path, const std::string& guest) {
  const auto at = path.rfind(guest);
  if (at == std::string::npos) return std::nullopt;
  path.replace(at, guest.size(), "{guest}");
  return path;
}

void write_console(const GuestChannels& guest, const PvChannel& channel, HostConfigText& out) {
  const std::string& name = guest.guest.text();
  const std::string& path = channel.path.text();
  if (path == path_for_guest(ConsoleConfig{}.socket, name)) {
    out.text += fmt::format(
        "\n# {} carries the console lane, and is where [console] looks for it by default.\n",
        channel.name.text());
    return;
  }
  const auto socket = as_template(path, name);
  if (!socket) {
    out.findings.warning({channel.line, 1},
                         fmt::format("left out: '{}' carries the console lane, and its path has "
                                     "not the guest's name in it, so that it would be every "
                                     "guest's",
                                     channel.name.text()));
    return;
  }
  out.text += fmt::format("\n[console]\nsocket = {}\n", toml_text(*socket));
}

/// Gathers a guest's channels, none of a name or a path that another has.
class Description {
 public:
  explicit Description(const DomainName& guest) : channels_{guest, {}} {}

  void add(const ChannelName& name, const std::string& path, const SourceLocation& where) {
    auto checked = SocketPath::parse(path_for_guest(path, channels_.guest.text()));
    if (!checked) return say(where, Severity::error, name, checked.error().text);
    const auto other =
        std::find_if(channels_.channels.begin(), channels_.channels.end(),
                     [&](const PvChannel& c) { return c.name == name || c.path == *checked; });
    if (other != channels_.channels.end()) {
      return say(where, Severity::error, name,
                 fmt::format("its {} is already that of '{}'",
                             other->name == name ? "name" : "console", other->name.text()));
    }
    if (channels_.channels.size() >= guest_channels_max) {
      return say(where, Severity::error, name,
                 fmt::format("more than {} channels for one guest", guest_channels_max));
    }
    channels_.channels.push_back({name, *checked, where.line});
  }

  void say(const SourceLocation& where, Severity severity, const ChannelName& name,
           const std::string& message) {
    result_.diagnostics.push_back(
        {where, severity, Scope::channel, fmt::format("channel '{}': {}", name.text(), message)});
    has_errors_ = has_errors_ || severity == Severity::error;
  }

  GuestDescription finish() {
    if (!has_errors_) result_.guest = std::move(channels_);
    return std::move(result_);
  }

 private:
  GuestChannels channels_;
  GuestDescription result_;
  bool has_errors_ = false;
};

}  // namespace

HostConfigText write_host_config(const GuestChannels& guest) {
  HostConfigText out;
  // A section of its own comes before the channels: behind them it would look like a part of one.
  for (const PvChannel& channel : guest.channels) {
    if (channel.name.text() == lane_channel()) write_console(guest, channel, out);
  }
  for (const PvChannel& channel : guest.channels) {
    if (channel.name.text() == lane_channel()) continue;
    out.text += fmt::format("\n[[channel]]\nname = {}\nguest = {}\nend = \"raw\"\nconsole = {}\n",
                            toml_text(channel.name.text()), toml_text(guest.guest.text()),
                            toml_text(channel.path.text()));
  }
  return out;
}

GuestDescription describe_guest(const BridgeConfig& config, const DomainName& guest) {
  Description description(guest);
  if (const std::string socket = console_socket_of(config, guest.text()); !socket.empty()) {
    description.add(*ChannelName::parse(lane_channel()), socket, {config.file, 0});
  }
  for (const ChannelConfig* channel : channels_for(config, guest.text())) {
    if (channel->console.empty()) continue;
    if (!channel->error.empty()) {
      description.say(channel->where, Severity::warning, channel->name,
                      "left out, because it is disabled");
      continue;
    }
    description.add(channel->name, channel->console, channel->where);
  }
  return description.finish();
}

}  // namespace xenlane::bridge

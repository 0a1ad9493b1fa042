// Between a guest's PV channels as the tool stacks describe them and the host's configuration: a
// channel of theirs is a raw end with the path of QEMU's socket as its `console`, and the channel
// that carries the console lane is [console] `socket`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/toolstack/guest_channels.hpp"

namespace xenlane::bridge {

struct HostConfigText {
  std::string text;  ///< TOML that load_config() takes
  Findings findings;
};

/// The configuration to have `guest`'s channels on the host. The console lane's channel gets a
/// [console] section unless its path is the default; a path without the guest's name in it would be
/// every guest's, and is a warning and left out.
HostConfigText write_host_config(const GuestChannels& guest);

struct GuestDescription {
  std::optional<GuestChannels> guest;  ///< nothing with an error
  std::vector<Diagnostic> diagnostics;
};

/// What the tool stack has to give `guest` for `config` to work: the console lane's channel, unless
/// [console] `socket` is "none", then whatever of the guest's channels has a `console`. Channels
/// that are disabled are left out with a warning.
GuestDescription describe_guest(const BridgeConfig& config, const DomainName& guest);

}  // namespace xenlane::bridge

// One [[channel]] of a configuration file. Private to the configuration loader.
#pragma once

#include <toml++/toml.h>
#include <optional>
#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"

namespace xenlane::bridge::config_detail {

/// A channel as read, or the denial of one, and its faults. Without a valid name there is no
/// channel to keep; but a denial that is not understood denies everything.
struct ChannelRead {
  std::optional<ChannelConfig> channel;
  std::optional<Denial> denial;
  std::vector<Diagnostic> diagnostics;
};

/// Reads one [[channel]] table; every fault is in `diagnostics`, the first also in the channel's
/// error.
ChannelRead read_channel(const toml::table& table, const std::string& file, Side side);

/// Text of what is wrong with a glob of guest names; empty when it is well formed.
std::string check_guest_glob(const std::string& glob);

}  // namespace xenlane::bridge::config_detail

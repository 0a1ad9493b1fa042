// A channel's configuration as JSON: the keys are those of a [[channel]] section and mean the same.
// The tool adds channels so, and the broker tells workers of theirs.
#pragma once

#include <boost/json.hpp>
#include <string>

#include "bridge/daemon/config.hpp"

namespace xenlane::bridge {

/// Every key that differs from its default. Where it was written and its error are not in it.
boost::json::object channel_to_json(const ChannelConfig& channel);

/// A channel, or what is wrong: every fault, parted by "; ".
struct ChannelFromJson {
  std::optional<ChannelConfig> channel;
  std::string error;
};

/// Reads it by the rules of the configuration files. `source` stands for the file's name.
ChannelFromJson channel_from_json(const boost::json::object& untrusted_keys,
                                  const std::string& source, Side side);

}  // namespace xenlane::bridge

// The section [connect] of a configuration file. Private to the configuration loader.
#pragma once

#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/config_reader.hpp"

namespace xenlane::bridge::config_detail {

/// `mode`, and one key for each number that `table` maps to a channel.
std::vector<Key> connect_keys(const toml::table& table, ConnectConfig& connect);

}  // namespace xenlane::bridge::config_detail

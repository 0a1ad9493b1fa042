// The sections of a configuration file other than [[channel]], key by key. Private to the
// configuration loader.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/config_reader.hpp"

namespace xenlane::bridge::config_detail {

const std::vector<std::string>& section_names();
bool is_section(std::string_view name);

/// The keys of a section, which write to `config`; that must outlive them.
std::vector<Key> section_keys(const std::string& section, BridgeConfig& config, Side side);

}  // namespace xenlane::bridge::config_detail

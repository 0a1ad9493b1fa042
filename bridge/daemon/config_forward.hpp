// One [[forward]] of a configuration file. Private to the configuration loader.
#pragma once

#include <toml++/toml.h>

#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"

namespace xenlane::bridge::config_detail {

struct ForwardRead {
  ForwardConfig forward;
  std::vector<Diagnostic> diagnostics;  ///< the first is the forward's error too
};

ForwardRead read_forward(const toml::table& table, const std::string& file, Side side);

}  // namespace xenlane::bridge::config_detail

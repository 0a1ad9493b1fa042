// Runs the built xenlane program and collects what it said.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {

struct ToolResult {
  int exit_code = -1;  ///< 128 + signal when it was killed
  std::string out;
  std::string err;
};

/// Where a run of the tool differs from the plain one.
struct ToolSetting {
  int in = -1;              ///< a descriptor to be its standard input instead of a file
  int out = -1;             ///< likewise its standard output
  bool without_in = false;  ///< run with standard input closed
  bool as_nobody = false;   ///< run as uid and gid 65534; needs root
};

/// Runs `xenlane --run-dir <run_dir> <arguments>` with a file of `input` as its standard input.
ToolResult run_tool(const std::string& run_dir, const std::vector<std::string>& arguments,
                    std::string_view input = {}, const ToolSetting& setting = {});

}  // namespace xenlane::bridge

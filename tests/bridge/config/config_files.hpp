// Configuration files of a test's own, and what their faults look like.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {

class ConfigFiles : public testing::Test {
 protected:
  ConfigLoad load(std::string_view content, Side side = Side::host) {
    return load_config(side, dir_.write("x.toml", content));
  }

  /// The diagnostics as "line: severity: message", without the folder.
  std::vector<std::string> lines(const ConfigLoad& load) const {
    std::vector<std::string> shown;
    for (const Diagnostic& diagnostic : load.diagnostics) {
      std::string line = format_diagnostic(diagnostic);
      EXPECT_TRUE(line.starts_with(dir_.path() + "/")) << line;
      shown.push_back(line.substr(dir_.path().size() + 1));
    }
    return shown;
  }

  static ChannelName name(std::string_view text) { return ChannelName::parse(text).value(); }

  TempDir dir_;
};

}  // namespace xenlane::bridge

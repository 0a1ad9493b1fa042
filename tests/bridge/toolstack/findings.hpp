// What a reader found, as lines that a test can compare.
#pragma once

#include <string>
#include <vector>

#include "bridge/toolstack/findings.hpp"

namespace xenlane::bridge {

/// "line:column: error: text" each.
inline std::vector<std::string> lines_of(const Findings& findings) {
  std::vector<std::string> lines;
  for (const Finding& finding : findings.sorted()) {
    lines.push_back(format_finding("", finding).substr(1));
  }
  return lines;
}

}  // namespace xenlane::bridge

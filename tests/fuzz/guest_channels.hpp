// What must hold of everything that the readers of bridge/toolstack say and yield.
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "bridge/toolstack/guest_channels.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

inline void check_findings(const bridge::Findings& findings, const std::string& text) {
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  const auto sorted = findings.sorted();
  FUZZ_CHECK(sorted.size() <= bridge::findings_max);
  bool has_errors = false;
  for (const bridge::Finding& finding : sorted) {
    has_errors = has_errors || finding.is_error;
    FUZZ_CHECK(finding.where.line >= 1 && finding.where.line <= lines);
    FUZZ_CHECK(finding.where.column >= 1 && finding.where.column <= text.size() + 1);
    FUZZ_CHECK(is_printable(bridge::format_finding("file", finding)));
  }
  FUZZ_CHECK(has_errors == findings.has_errors());
}

inline void check_read(const bridge::ChannelsRead& read, const std::string& text) {
  check_findings(read.findings, text);
  FUZZ_CHECK(read.guest.has_value() == !read.findings.has_errors());
  if (!read.guest) return;
  const std::string& guest = read.guest->guest.text();
  FUZZ_CHECK(bridge::is_plain_text(guest) && !guest.empty() && guest.size() <= 128);
  FUZZ_CHECK(guest.find_first_of("/*?") == std::string::npos);
  FUZZ_CHECK(read.guest->channels.size() <= bridge::guest_channels_max);
  std::set<std::string> names;
  std::set<std::string> paths;
  for (const bridge::PvChannel& channel : read.guest->channels) {
    FUZZ_CHECK(!channel.name.is_reserved());
    FUZZ_CHECK(names.insert(channel.name.text()).second);
    const std::string& path = channel.path.text();
    FUZZ_CHECK(paths.insert(path).second);
    FUZZ_CHECK(path.starts_with('/') && !path.ends_with('/') && path.size() <= 107);
    FUZZ_CHECK(bridge::is_plain_text(path));
  }
}

}  // namespace xenlane::fuzz

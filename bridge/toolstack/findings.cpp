#include "bridge/toolstack/findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

void Findings::error(Place where, std::string text) {
  has_errors_ = true;
  add(where, true, std::move(text));
}

void Findings::warning(Place where, std::string text) {
  add(where, false, std::move(text));
}

void Findings::add(Place where, bool is_error, std::string text) {
  if (found_.size() + 1 < findings_max) {
    found_.push_back({where, is_error, std::move(text)});
  } else if (found_.size() < findings_max) {
    found_.push_back({where, is_error, "there is more to find from here on"});
  } else {
    found_.back().is_error |= is_error;
  }
}

std::vector<Finding> Findings::sorted() const {
  std::vector<Finding> result = found_;
  std::stable_sort(result.begin(), result.end(),
                   [](const Finding& a, const Finding& b) { return a.where < b.where; });
  return result;
}

std::string format_finding(std::string_view file, const Finding& finding) {
  return fmt::format("{}:{}:{}: {}: {}", escape_untrusted(file, 256), finding.where.line,
                     finding.where.column, finding.is_error ? "error" : "warning", finding.text);
}

Place place_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  return {1 + static_cast<std::uint32_t>(std::count(before.begin(), before.end(), '\n')),
          1 + static_cast<std::uint32_t>(before.size() - line_begin)};
}

}  // namespace xenlane::bridge

// What a reader of somebody else's file has to say about it: errors and warnings, each with its
// place. Readers go on after an error, so that one pass shows all of them.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace xenlane::bridge {

/// Most findings that are kept of one file; the last says that there were more.
inline constexpr std::size_t findings_max = 100;

/// Both count from 1, the column in bytes.
struct Place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;

  friend auto operator<=>(const Place&, const Place&) = default;
};

struct Finding {
  Place where;
  bool is_error = true;
  std::string text;  ///< one line, untrusted bytes escaped
};

class Findings {
 public:
  void error(Place where, std::string text);
  void warning(Place where, std::string text);

  bool has_errors() const { return has_errors_; }
  /// In the order of their places.
  std::vector<Finding> sorted() const;

 private:
  void add(Place where, bool is_error, std::string text);

  std::vector<Finding> found_;
  bool has_errors_ = false;
};

/// "file:line:column: error: text"; `file` is escaped.
std::string format_finding(std::string_view file, const Finding& finding);

/// The place of the byte at `offset` of `text`.
Place place_of(std::string_view text, std::size_t offset);

}  // namespace xenlane::bridge

#include "bridge/channel/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace xenlane::bridge {
namespace {

constexpr std::size_t suggestions_max = 3;
// Longer texts are not typing mistakes, and the distance is quadratic in their length.
constexpr std::size_t compared_bytes_max = 256;

/// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string escape_untrusted(std::string_view untrusted, std::size_t bytes_max) {
  std::string out;
  for (const char byte : untrusted.substr(0, bytes_max)) {
    const auto value = static_cast<unsigned char>(byte);
    if (value < 0x20 || value > 0x7e || byte == '\\') {
      out += fmt::format("\\x{:02x}", value);
    } else {
      out += byte;
    }
  }
  if (untrusted.size() > bytes_max) out += "...";
  return out;
}

std::vector<std::string> near_names(std::string_view wanted, std::span<const std::string> known) {
  std::vector<std::pair<std::size_t, std::string>> near;
  if (wanted.empty() || wanted.size() > compared_bytes_max) return {};
  const std::size_t distance_max = std::max<std::size_t>(2, wanted.size() / 3);
  for (const std::string& name : known) {
    if (name.size() > compared_bytes_max) continue;
    // A name that was only begun is as likely a mistake as a mistyped one.
    const bool begun = wanted.size() >= 3 && name.find(wanted) != std::string::npos;
    const std::size_t distance = edit_distance(wanted, name);
    if (begun || (distance <= distance_max && distance < name.size())) {
      near.emplace_back(begun ? 1 : distance, name);
    }
  }
  std::sort(near.begin(), near.end());
  if (near.size() > suggestions_max) near.resize(suggestions_max);
  std::vector<std::string> names;
  for (auto& entry : near) names.push_back(std::move(entry.second));
  return names;
}

bool glob_matches(std::string_view glob, std::string_view text) {
  std::size_t g = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last * seen, to which we go back
  std::size_t star_end = 0;                   // how far into text that * reaches
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_end = t;
    } else if (g < glob.size() && (glob[g] == '?' || glob[g] == text[t])) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++star_end;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

}  // namespace xenlane::bridge

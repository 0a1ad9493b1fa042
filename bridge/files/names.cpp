#include "bridge/files/names.hpp"

#include <algorithm>

#include "bridge/channel/text.hpp"
#include "bridge/files/digest.hpp"

namespace xenlane::bridge::files {

namespace {

constexpr std::string_view partial_suffix = ".xenlane-part";

/// Left-to-right and right-to-left overrides, embeddings, isolates and marks: a name that has them
/// may look like another (CVE-2021-42574).
bool turns_writing(std::uint32_t point) {
  return point == 0x061C || point == 0x200E || point == 0x200F ||
         (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

bool is_control(std::uint32_t point) {
  return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x2028 || point == 0x2029;
}

/// Takes one code point off the front of `text`; nothing if it is no UTF-8 (RFC 3629).
std::optional<std::uint32_t> next_point(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  std::size_t size = 1;
  std::uint32_t point = first;
  std::uint32_t least = 0;
  if (first >= 0xF0 && first <= 0xF4) {
    size = 4, point = first & 0x07U, least = 0x10000;
  } else if (first >= 0xE0 && first < 0xF0) {
    size = 3, point = first & 0x0FU, least = 0x800;
  } else if (first >= 0xC2 && first < 0xE0) {
    size = 2, point = first & 0x1FU, least = 0x80;
  } else if (first >= 0x80) {
    return std::nullopt;
  }
  if (text.size() < size) return std::nullopt;
  for (std::size_t i = 1; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xC0U) != 0x80) return std::nullopt;
    point = (point << 6U) | (byte & 0x3FU);
  }
  text.remove_prefix(size);
  if (point < least || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
    return std::nullopt;
  return point;
}

/// `what` it is that is looked at.
std::string fault_of_writing(std::string_view text, const std::string& what) {
  while (!text.empty()) {
    const auto point = next_point(text);
    if (!point) return what + " is not UTF-8";
    if (is_control(*point)) return "there is a control character in " + what;
    if (turns_writing(*point)) return what + " turns its writing about";
  }
  return {};
}

std::string hex(BytesView bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += digits[static_cast<std::size_t>(byte >> 4)];
    text += digits[static_cast<std::size_t>(byte & std::byte{15})];
  }
  return text;
}

}  // namespace

std::string fault_of_name(std::string_view untrusted_name, NameRule rule) {
  if (untrusted_name.empty()) return "the name is empty";
  if (untrusted_name == "." || untrusted_name == "..") return "the name is a folder's own";
  if (untrusted_name.size() > name_bytes_max) return "the name is too long";
  if (untrusted_name.find('/') != std::string_view::npos) return "the name is a path";
  if (untrusted_name.find('\0') != std::string_view::npos) return "there is a NUL in the name";
  if (untrusted_name.ends_with(partial_suffix)) return "the name is for files that are not whole";
  return rule == NameRule::printable ? fault_of_writing(untrusted_name, "the name") : "";
}

std::string fault_of_link(std::string_view untrusted_target, std::size_t depth, NameRule rule) {
  if (untrusted_target.empty()) return "the link leads nowhere";
  if (untrusted_target.size() > path_bytes_max) return "the link's target is too long";
  if (untrusted_target.find('\0') != std::string_view::npos) return "there is a NUL in the link";
  if (untrusted_target.front() == '/') return "the link's target is absolute";
  if (rule == NameRule::printable) {
    std::string fault = fault_of_writing(untrusted_target, "the link's target");
    if (!fault.empty()) return fault;
  }
  bool climbs = true;
  std::size_t climbed = 0;
  while (!untrusted_target.empty()) {
    const std::size_t slash = std::min(untrusted_target.find('/'), untrusted_target.size());
    const std::string_view component = untrusted_target.substr(0, slash);
    untrusted_target.remove_prefix(std::min(slash + 1, untrusted_target.size()));
    if (component.empty() || component == ".") continue;
    if (component != "..") {
      climbs = false;
      continue;
    }
    if (!climbs) return "the link climbs after it went down";
    if (++climbed > depth) return "the link leads out of the destination";
  }
  return {};
}

std::string partial_name(std::string_view name) {
  const std::size_t room = name_bytes_max - partial_suffix.size() - 1;
  if (name.size() <= room) return "." + std::string(name) + std::string(partial_suffix);
  Hasher hasher(DigestKind::xxh3);
  hasher.update(std::as_bytes(std::span(name)));
  return "." + hex(hasher.digest().view()) + std::string(partial_suffix);
}

Decoded<ServicePath> parse_service_path(std::string_view untrusted_path) {
  ServicePath path;
  path.is_folder = untrusted_path.empty() || untrusted_path.back() == '/';
  while (!untrusted_path.empty()) {
    const std::size_t slash = std::min(untrusted_path.find('/'), untrusted_path.size());
    const std::string_view component = untrusted_path.substr(0, slash);
    untrusted_path.remove_prefix(std::min(slash + 1, untrusted_path.size()));
    if (component.empty()) continue;
    if (component == ".") {
      path.is_folder = path.is_folder || untrusted_path.empty();
      continue;
    }
    if (component == "..") return ParseError{"a path here has no '..'; it begins at the top"};
    if (std::string fault = fault_of_name(component, NameRule::any); !fault.empty()) {
      return ParseError{std::move(fault)};
    }
    path.components.emplace_back(component);
  }
  path.is_folder = path.is_folder || path.components.empty();
  return path;
}

Exclude::Exclude(std::string_view pattern) : glob_(pattern) {
  if (glob_.size() > 1 && glob_.back() == '/') {
    folders_only_ = true;
    glob_.pop_back();
  }
  if (glob_.find('/') == std::string::npos) return;
  whole_path_ = true;
  if (glob_.front() == '/') glob_.erase(0, 1);
}

bool Exclude::matches(std::string_view path, std::string_view name, bool is_folder) const {
  if (folders_only_ && !is_folder) return false;
  return glob_matches(glob_, whole_path_ ? path : name);
}

}  // namespace xenlane::bridge::files

#include "bridge/channel/domain_part.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace xenlane::bridge {
namespace {

constexpr std::size_t labels_min = 3;
/// What an international top-level domain begins with, RFC 5890.
constexpr std::string_view encoded_prefix = "xn--";

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

bool is_letter(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

bool is_domain_label(std::string_view label) {
  return !label.empty() && label.front() != '-' && label.back() != '-' &&
         label.find('_') == std::string_view::npos &&
         !std::all_of(label.begin(), label.end(), is_digit);
}

bool is_top_level(std::string_view label) {
  if (label.starts_with(encoded_prefix)) {
    return label.size() > encoded_prefix.size() && is_domain_label(label);
  }
  return label.size() >= 2 && std::all_of(label.begin(), label.end(), is_letter);
}

std::vector<std::string_view> labels_of(std::string_view text) {
  std::vector<std::string_view> labels;
  while (true) {
    const std::size_t dot = text.find('.');
    labels.push_back(text.substr(0, dot));
    if (dot == std::string_view::npos) return labels;
    text.remove_prefix(dot + 1);
  }
}

}  // namespace

bool has_domain_part(const ChannelName& name) {
  const auto labels = labels_of(name.text());
  return labels.size() >= labels_min && is_top_level(labels[0]) && is_domain_label(labels[1]) &&
         std::none_of(labels.begin(), labels.end(), [](auto label) { return label.empty(); });
}

std::string no_domain_part_warning(const ChannelName& name) {
  return fmt::format(
      "'{}' has no domain name in it, and others may choose it too; better is a domain of yours in "
      "reverse and a word, such as 'org.example.agent'",
      name.text());
}

}  // namespace xenlane::bridge

#include "bridge/toolstack/guest_channels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/locale/utf.hpp>
#include <utility>

#include "bridge/channel/domain_part.hpp"
#include "bridge/channel/target.hpp"
#include "bridge/channel/text.hpp"

namespace xenlane::bridge {
namespace {

constexpr std::string_view guest_placeholder = "{guest}";

bool is_control(boost::locale::utf::code_point point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x2028 || point == 0x2029 ||
         (point & 0xfffe) == 0xfffe;  // the last of each plane are no characters
}

}  // namespace

bool is_plain_text(std::string_view untrusted) {
  using Utf8 = boost::locale::utf::utf_traits<char>;
  const char* at = untrusted.data();
  const char* const end = at + untrusted.size();
  while (at != end) {
    const auto point = Utf8::decode(at, end);
    if (!boost::locale::utf::is_valid_codepoint(point) || is_control(point)) return false;
  }
  return true;
}

boost::system::result<DomainName, ParseError> DomainName::parse(std::string_view untrusted) {
  if (untrusted.empty()) return ParseError{"the guest's name is empty"};
  if (untrusted.size() > domain_name_bytes_max) {
    return ParseError{fmt::format("the guest's name has {} bytes, {} are allowed", untrusted.size(),
                                  domain_name_bytes_max)};
  }
  const std::string shown = escape_untrusted(untrusted);
  if (!is_plain_text(untrusted)) {
    return ParseError{fmt::format("the guest's name '{}' is no text that can be printed", shown)};
  }
  if (untrusted.front() == ' ' || untrusted.back() == ' ') {
    return ParseError{fmt::format("the guest's name '{}' begins or ends with a blank", shown)};
  }
  if (untrusted.find_first_of("/*?") != std::string_view::npos) {
    return ParseError{fmt::format(
        "the guest's name '{}' has a '/', '*' or '?', and would not mean that guest alone", shown)};
  }
  return DomainName(untrusted);
}

boost::system::result<SocketPath, ParseError> SocketPath::parse(std::string_view untrusted) {
  const std::string shown = escape_untrusted(untrusted);
  if (!untrusted.starts_with('/')) {
    return ParseError{fmt::format("the path '{}' is not absolute", shown)};
  }
  if (untrusted.ends_with('/')) {
    return ParseError{fmt::format("the path '{}' ends in '/', and no socket can", shown)};
  }
  if (untrusted.size() > unix_path_bytes_max) {
    return ParseError{fmt::format("the path has {} bytes, a Unix socket's may have {}",
                                  untrusted.size(), unix_path_bytes_max)};
  }
  if (!is_plain_text(untrusted)) {
    return ParseError{fmt::format("the path '{}' is no text that can be printed", shown)};
  }
  if (untrusted.find(guest_placeholder) != std::string_view::npos) {
    return ParseError{
        fmt::format("the path '{}' has {} in it, which stands for the guest's name "
                    "in xenlane's configuration",
                    shown, guest_placeholder)};
  }
  return SocketPath(untrusted);
}

void ChannelsDraft::set_guest(Place where, std::string_view untrusted_name) {
  auto name = DomainName::parse(untrusted_name);
  if (!name) return findings_.error(where, name.error().text);
  guest_ = std::move(*name);
}

void ChannelsDraft::add(Text name, Text path) {
  if (channels_.size() >= guest_channels_max) {
    if (!std::exchange(is_full_, true)) {
      findings_.error(name.where, fmt::format("more than {} channels", guest_channels_max));
    }
    return;
  }
  auto checked_name = ChannelName::parse(name.untrusted);
  auto checked_path = SocketPath::parse(path.untrusted);
  if (!checked_name) {
    findings_.error(name.where, fmt::format("'{}': {}", escape_untrusted(name.untrusted),
                                            checked_name.error().text));
  } else if (checked_name->is_reserved()) {
    findings_.error(name.where,
                    fmt::format("'{}' has no dot, and such names are reserved for xenlane",
                                checked_name->text()));
  } else if (!has_domain_part(*checked_name)) {
    findings_.warning(name.where, no_domain_part_warning(*checked_name));
  }
  if (!checked_path) findings_.error(path.where, checked_path.error().text);
  if (!checked_name || checked_name->is_reserved() || !checked_path) return;
  for (const PvChannel& other : channels_) {
    const bool same_name = other.name == *checked_name;
    if (!same_name && other.path != *checked_path) continue;
    findings_.error(
        same_name ? name.where : path.where,
        fmt::format("{} is already that of the channel in line {}",
                    same_name ? fmt::format("the name '{}'", other.name.text()) : "the path",
                    other.line));
    return;
  }
  channels_.push_back({*checked_name, *checked_path, name.where.line});
}

std::optional<GuestChannels> ChannelsDraft::finish() {
  if (findings_.has_errors() || !guest_) return std::nullopt;
  return GuestChannels{std::move(*guest_), std::move(channels_)};
}

}  // namespace xenlane::bridge

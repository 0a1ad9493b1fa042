// A channel's name: the one word by which both sides know a channel, and the file name of its
// socket. Because it becomes a path component, a name is checked once, here, and only a checked
// one can exist: ChannelName has no other way to be made. Bad names are refused, never rewritten.
#pragma once

#include <boost/system/result.hpp>
#include <compare>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"
#include "bridge/wire/limits.hpp"

namespace xenlane::bridge {

class ChannelName {
 public:
  /// Accepts `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. The error names the length or the first bad byte.
  static boost::system::result<ChannelName, ParseError> parse(std::string_view untrusted);

  const std::string& text() const { return text_; }

  /// Names without a dot belong to xenlane itself ("connect", "control"); users' names have one.
  bool is_reserved() const { return text_.find('.') == std::string::npos; }

  friend bool operator==(const ChannelName&, const ChannelName&) = default;
  friend std::strong_ordering operator<=>(const ChannelName&, const ChannelName&) = default;

 private:
  explicit ChannelName(std::string_view checked) : text_(checked) {}

  std::string text_;
};

}  // namespace xenlane::bridge

template <>
struct std::hash<xenlane::bridge::ChannelName> {
  std::size_t operator()(const xenlane::bridge::ChannelName& name) const noexcept {
    return std::hash<std::string>{}(name.text());
  }
};

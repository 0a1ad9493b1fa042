#include "bridge/channel/name.hpp"

#include <fmt/format.h>

namespace xenlane::bridge {
namespace {

// Not <cctype>: the locale must not decide what a name is.
bool is_alphanumeric(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9');
}

bool may_follow(char byte) {
  return is_alphanumeric(byte) || byte == '.' || byte == '_' || byte == '-';
}

}  // namespace

boost::system::result<ChannelName, ParseError> ChannelName::parse(std::string_view untrusted) {
  if (untrusted.empty()) return ParseError{"the name is empty"};
  if (untrusted.size() > channel_name_bytes_max) {
    return ParseError{fmt::format("the name has {} bytes, {} are allowed", untrusted.size(),
                                  channel_name_bytes_max)};
  }
  for (std::size_t index = 0; index < untrusted.size(); ++index) {
    const char byte = untrusted[index];
    if (!may_follow(byte)) {
      return ParseError{fmt::format("'{}' at byte {} is not one of A-Z a-z 0-9 . _ -",
                                    escape_untrusted({&byte, 1}), index + 1)};
    }
    if (index == 0 && !is_alphanumeric(byte)) {
      return ParseError{fmt::format("'{}' may not come first, a letter or digit must", byte)};
    }
  }
  return ChannelName(untrusted);
}

}  // namespace xenlane::bridge

#include "bridge/channel/connect_request.hpp"

#include <fmt/format.h>

#include <charconv>

namespace xenlane::bridge {

boost::system::result<ConnectRequest, ParseError> parse_connect_request(
    std::string_view untrusted_line, const ConnectNumbers& numbers) {
  if (!untrusted_line.starts_with(connect_verb)) {
    return ParseError{fmt::format("'{}' is not \"CONNECT NAME\"",
                                  escape_untrusted(untrusted_line, connect_line_bytes_max))};
  }
  const std::string_view untrusted_name = untrusted_line.substr(connect_verb.size());
  std::uint32_t number = 0;
  const char* const end = untrusted_name.data() + untrusted_name.size();
  const auto [stop, error] = std::from_chars(untrusted_name.data(), end, number);
  if (error == std::errc{} && stop == end) {
    const auto found = numbers.find(number);
    if (found == numbers.end()) {
      return ParseError{
          fmt::format("no channel has number {}; see [connect] in the configuration", number)};
    }
    return ConnectRequest{found->second, std::to_string(number)};
  }
  auto name = ChannelName::parse(untrusted_name);
  if (!name) {
    return ParseError{fmt::format("'{}': {}", escape_untrusted(untrusted_name), name.error().text)};
  }
  return ConnectRequest{*name, name->text()};
}

}  // namespace xenlane::bridge

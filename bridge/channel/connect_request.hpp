// What a client of the connect socket says. No I/O.
//
// The dialect is Firecracker's hybrid vsock: "CONNECT 22\n" is answered by "OK 22\n", and from then
// on the connection is the channel's. Besides numbers, which the configuration maps to channels, it
// takes channels' names.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "bridge/channel/name.hpp"
#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

inline constexpr std::string_view connect_verb = "CONNECT ";

/// Longest line, its newline included.
inline constexpr std::size_t connect_line_bytes_max =
    connect_verb.size() + channel_name_bytes_max + 1;

/// Which channels are meant by numbers.
using ConnectNumbers = std::map<std::uint32_t, ChannelName>;

struct ConnectRequest {
  ChannelName channel;
  std::string asked;  ///< the name or number as it was given, for the answer
};

/// `untrusted_line` is without its newline. The error is one line for the log.
boost::system::result<ConnectRequest, ParseError> parse_connect_request(
    std::string_view untrusted_line, const ConnectNumbers& numbers);

}  // namespace xenlane::bridge

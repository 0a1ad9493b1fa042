// What a client of the connect socket says, and whether it may have what it asks for. No I/O.
//
// The dialect is Firecracker's hybrid vsock: "CONNECT 22\n" is answered by "OK 22\n", and from then
// on the connection is the channel's. Besides numbers, which the configuration maps to channels, it
// takes channels' names.
#pragma once

#include <sys/types.h>

#include <boost/system/result.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

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

/// Of the process at the other end of a Unix socket, as it was when it connected.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  std::vector<gid_t> groups;  ///< supplementary
};

/// Whether the kernel would let it connect to a socket file with that mode, owner and group: that
/// takes permission to write (unix(7)). Root always may. Access control lists are not looked at.
bool may_write(const PeerCredentials& who, mode_t mode, uid_t owner, gid_t group);

}  // namespace xenlane::bridge

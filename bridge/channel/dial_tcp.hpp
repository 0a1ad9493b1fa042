// Connecting to a TCP target: looking up the host's name, and trying its addresses in turn.
#pragma once

#include <netinet/in.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "bridge/channel/dialer.hpp"

namespace xenlane::bridge {

/// Addresses of one name that are tried.
inline constexpr std::size_t addresses_max = 16;

/// The same addresses in the order in which they are tried: families in turns, beginning with that
/// of the first, else as they were (RFC 8305, section 4). So a family that leads nowhere costs one
/// attempt and not all the time there is.
std::vector<boost::asio::ip::tcp::endpoint> in_turns(
    const std::vector<boost::asio::ip::tcp::endpoint>& found);

/// A connected, non-blocking socket with TCP_NODELAY and SO_KEEPALIVE. `wanted` is asked between
/// the addresses.
boost::asio::awaitable<DialResult> dial_tcp(boost::asio::any_io_executor executor, Target target,
                                            std::chrono::steady_clock::time_point end,
                                            std::function<bool()> wanted);

}  // namespace xenlane::bridge

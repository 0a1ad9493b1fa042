// One forward as a user writes it: -L, -R and -D, in the form of ssh's. No I/O.
#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "bridge/forward/address.hpp"

namespace xenlane::bridge {

enum class ForwardKind : std::uint8_t {
  local,   ///< -L: listens here, its connections go to a target on the far side
  remote,  ///< -R: listens on the far side, its connections go to a target here
  socks,   ///< -D: listens here, each connection says itself where it goes on the far side
};

std::string_view to_string(ForwardKind kind);

/// The far side of a forward in a guest.
inline constexpr std::string_view forward_host_name = "host";
/// The channels of forwards, by where they dial.
inline constexpr std::string_view forward_in_guest_channel = "org.xenlane.forward-in-guest.0";
inline constexpr std::string_view forward_on_host_channel = "org.xenlane.forward-on-host.0";

/// How long a connection waits for the far side unless it is configured.
inline constexpr std::chrono::seconds forward_wait_default{30};

struct ForwardSpec {
  ForwardKind kind = ForwardKind::local;
  std::string text;   ///< as it was written
  std::string guest;  ///< "host" in a guest
  ForwardAddress listen;
  std::optional<ForwardAddress> target = {};  ///< none for socks
  std::string channel;                        ///< a checked name
  std::chrono::seconds wait = forward_wait_default;
  bool refuse = false;  ///< connections do not wait at all

  friend bool operator==(const ForwardSpec&, const ForwardSpec&) = default;
};

/// "[BIND:]PORT:GUEST:[HOST:]PORT", each end a path as well; without the last part for socks. BIND
/// and the first path are on the side that listens; without BIND it is that side's "localhost",
/// without HOST "localhost" of the other. An IPv6 address stands in brackets.
boost::system::result<ForwardSpec, ParseError> parse_forward_spec(ForwardKind kind,
                                                                  std::string_view text);

}  // namespace xenlane::bridge

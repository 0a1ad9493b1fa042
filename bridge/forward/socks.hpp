// The server's half of SOCKS 5 (RFC 1928) without authentication, SOCKS 4 and 4a, for CONNECT only.
// No I/O, no clock: bytes in, bytes out.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "bridge/forward/address.hpp"

namespace xenlane::bridge {

/// A client's greeting and request with the longest name, user and list of methods there are.
inline constexpr std::size_t socks_bytes_max = 1024;

class SocksHandshake {
 public:
  enum class State {
    reading,  ///< more has to come
    wanted,   ///< address() is to be connected to, then reply()
    failed,   ///< send take_output() and close
  };

  /// Takes what the client has said. What belongs to the connection is kept for take_rest().
  State add(std::string_view untrusted_bytes);
  /// What the client is to be told now.
  std::string take_output();
  /// In the state `wanted`.
  const ForwardAddress& address() const { return *address_; }
  /// What the client is told when it is connected (0), or not: an errno value.
  std::string reply(int error) const;
  /// What followed the request.
  std::string take_rest();
  /// Why it failed.
  const std::string& failure() const { return failure_; }

 private:
  State read_greeting();
  State read_request();
  State read_four();
  State fail(std::string why, std::string output = {});
  State want(std::string_view host, std::uint16_t port, std::size_t consumed);

  std::string bytes_;
  std::string output_;
  std::string failure_;
  std::optional<ForwardAddress> address_;
  State state_ = State::reading;
  int version_ = 0;
  bool greeted_ = false;
};

}  // namespace xenlane::bridge

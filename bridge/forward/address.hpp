// What a forward connects to or listens on: a TCP host and port, or a Unix socket's path. In the
// one form in which policy compares it.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

enum class HostKind : std::uint8_t {
  name,  ///< looked up where it is dialled
  ipv4,
  ipv6,
  any,  ///< "*": all addresses of a machine, for listeners only
};

/// Checked. A name is in lower case, without a closing dot, and is none that some resolvers take
/// for an address (its last label is not a number, as "127.1" and "0x7f000001" have it); an address
/// is in its usual form; a path is absolute and has no empty, "." or ".." part.
class ForwardAddress {
 public:
  /// "tcp:HOST:PORT", with an IPv6 address in brackets, or "unix:/path". With `listens` HOST may be
  /// "*".
  static boost::system::result<ForwardAddress, ParseError> parse(std::string_view uri,
                                                                 bool listens = false);
  static boost::system::result<ForwardAddress, ParseError> tcp(std::string_view host,
                                                               std::uint16_t port,
                                                               bool listens = false);
  static boost::system::result<ForwardAddress, ParseError> unix_path(std::string_view path);

  bool is_unix() const { return !path_.empty(); }
  const std::string& path() const { return path_; }
  HostKind host_kind() const { return kind_; }
  /// IPv6 addresses without brackets.
  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  std::string uri() const;

  friend bool operator==(const ForwardAddress&, const ForwardAddress&) = default;

 private:
  ForwardAddress() = default;

  std::string path_;
  HostKind kind_ = HostKind::name;
  std::string host_;
  std::uint16_t port_ = 0;
};

/// A decimal number from 1 to 65535; 0 when it is none.
std::uint16_t parse_port(std::string_view digits);

}  // namespace xenlane::bridge

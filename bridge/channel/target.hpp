// Where a dialled channel's connections go on this side: a target URI.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

/// Longest path of a Unix socket: sockaddr_un's 108 bytes less the closing NUL, unix(7).
inline constexpr std::size_t unix_path_bytes_max = 107;

/// Longest host name, without a closing dot (RFC 1035).
inline constexpr std::size_t host_name_bytes_max = 253;

enum class TargetKind : std::uint8_t {
  unix_socket,  ///< "unix:/absolute/path"
  tcp,          ///< "tcp:HOST:PORT"
  exec,         ///< "exec:/program arguments", a process for each connection
  bench,        ///< "builtin:bench", the far end of `xenlane bench` (bridge/bench)
  forward,      ///< "builtin:forward", that of `xenlane forward`: the stream says where to
};

/// Checked.
class Target {
 public:
  /// A path must be absolute, free of NUL and at most unix_path_bytes_max bytes. HOST is a name, an
  /// IPv4 address, or an IPv6 address in brackets; PORT is a number from 1 to 65535. What follows
  /// "exec:" is read as parse_command_line() says.
  static boost::system::result<Target, ParseError> parse(std::string_view uri);

  TargetKind kind() const { return kind_; }
  /// Of a unix_socket; else empty.
  const std::string& path() const { return path_; }
  /// Of tcp, without brackets; else empty.
  const std::string& host() const { return host_; }
  std::uint16_t port() const { return port_; }
  /// Of exec: the program's path and its arguments; else empty.
  const std::vector<std::string>& command() const { return command_; }
  /// As it was written.
  const std::string& uri() const { return uri_; }

  friend bool operator==(const Target&, const Target&) = default;

 private:
  Target(TargetKind kind, std::string_view uri) : kind_(kind), uri_(uri) {}

  static boost::system::result<Target, ParseError> parse_unix(std::string_view uri);
  static boost::system::result<Target, ParseError> parse_tcp(std::string_view uri);

  TargetKind kind_;
  std::string uri_;
  std::string path_;
  std::string host_;
  std::uint16_t port_ = 0;
  std::vector<std::string> command_;
};

}  // namespace xenlane::bridge

// Where a dialled channel's connections go on this side: a target URI. Only unix: exists.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

/// Longest path of a Unix socket: sockaddr_un's 108 bytes less the closing NUL, unix(7).
inline constexpr std::size_t unix_path_bytes_max = 107;

/// "unix:/absolute/path", checked.
class UnixTarget {
 public:
  /// The path must be absolute, free of NUL and at most unix_path_bytes_max bytes.
  static boost::system::result<UnixTarget, ParseError> parse(std::string_view uri);

  const std::string& path() const { return path_; }
  std::string uri() const { return "unix:" + path_; }

  friend bool operator==(const UnixTarget&, const UnixTarget&) = default;

 private:
  explicit UnixTarget(std::string_view checked) : path_(checked) {}

  std::string path_;
};

}  // namespace xenlane::bridge

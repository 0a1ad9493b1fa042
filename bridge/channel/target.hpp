// Where a dialled channel's connections go on this side: a target URI.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

/// Longest path of a Unix socket: sockaddr_un's 108 bytes less the closing NUL, unix(7).
inline constexpr std::size_t unix_path_bytes_max = 107;

enum class TargetKind : std::uint8_t {
  unix_socket,  ///< "unix:/absolute/path"
  bench,        ///< "builtin:bench", the far end of `xenlane bench` (bridge/bench)
};

/// Checked.
class Target {
 public:
  /// A path must be absolute, free of NUL and at most unix_path_bytes_max bytes.
  static boost::system::result<Target, ParseError> parse(std::string_view uri);

  TargetKind kind() const { return kind_; }
  /// Of a unix_socket; else empty.
  const std::string& path() const { return path_; }
  std::string uri() const;

  friend bool operator==(const Target&, const Target&) = default;

 private:
  Target(TargetKind kind, std::string_view path) : kind_(kind), path_(path) {}

  TargetKind kind_;
  std::string path_;
};

}  // namespace xenlane::bridge

#include "bridge/channel/target.hpp"

#include <fmt/format.h>

namespace xenlane::bridge {

namespace {

constexpr std::string_view unix_scheme = "unix:";
constexpr std::string_view bench_uri = "builtin:bench";

}  // namespace

std::string Target::uri() const {
  switch (kind_) {
    case TargetKind::unix_socket:
      return std::string(unix_scheme) + path_;
    case TargetKind::bench:
      return std::string(bench_uri);
  }
  return {};
}

boost::system::result<Target, ParseError> Target::parse(std::string_view uri) {
  if (uri == bench_uri) return Target(TargetKind::bench, {});
  if (!uri.starts_with(unix_scheme)) {
    return ParseError{fmt::format("'{}' is no target; there are \"unix:/absolute/path\" and \"{}\"",
                                  escape_untrusted(uri, 40), bench_uri)};
  }
  const std::string_view path = uri.substr(unix_scheme.size());
  if (path.empty() || path.front() != '/') {
    return ParseError{fmt::format("the path '{}' is not absolute", escape_untrusted(path, 40))};
  }
  if (path.find('\0') != std::string_view::npos) return ParseError{"the path has a NUL byte"};
  if (path.size() > unix_path_bytes_max) {
    return ParseError{fmt::format("the path has {} bytes, a Unix socket's may have {}", path.size(),
                                  unix_path_bytes_max)};
  }
  if (path.back() == '/') return ParseError{"the path ends in '/', so it names a folder"};
  return Target(TargetKind::unix_socket, path);
}

}  // namespace xenlane::bridge

#include "bridge/channel/target.hpp"

#include <fmt/format.h>

namespace xenlane::bridge {

boost::system::result<UnixTarget, ParseError> UnixTarget::parse(std::string_view uri) {
  constexpr std::string_view scheme = "unix:";
  if (!uri.starts_with(scheme)) {
    return ParseError{fmt::format(
        "'{}' has no known scheme; the only one is unix:, as in \"unix:/absolute/path\"",
        escape_untrusted(uri, 40))};
  }
  const std::string_view path = uri.substr(scheme.size());
  if (path.empty() || path.front() != '/') {
    return ParseError{fmt::format("the path '{}' is not absolute", escape_untrusted(path, 40))};
  }
  if (path.find('\0') != std::string_view::npos) return ParseError{"the path has a NUL byte"};
  if (path.size() > unix_path_bytes_max) {
    return ParseError{fmt::format("the path has {} bytes, a Unix socket's may have {}", path.size(),
                                  unix_path_bytes_max)};
  }
  if (path.back() == '/') return ParseError{"the path ends in '/', so it names a folder"};
  return UnixTarget(path);
}

}  // namespace xenlane::bridge

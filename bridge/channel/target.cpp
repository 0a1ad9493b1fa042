#include "bridge/channel/target.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

#include "bridge/channel/command_line.hpp"

namespace xenlane::bridge {

namespace {

constexpr std::string_view unix_scheme = "unix:";
constexpr std::string_view tcp_scheme = "tcp:";
constexpr std::string_view exec_scheme = "exec:";
constexpr std::string_view bench_uri = "builtin:bench";
constexpr std::string_view forward_uri = "builtin:forward";

bool is_ipv6(const std::string& text) {
  in6_addr address{};
  return ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

/// An IPv4 address is one too, as far as its bytes go.
bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > host_name_bytes_max || text.front() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '.' || byte == '-' || byte == '_';
  });
}

}  // namespace

boost::system::result<Target, ParseError> Target::parse_unix(std::string_view uri) {
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
  Target target(TargetKind::unix_socket, uri);
  target.path_ = path;
  return target;
}

boost::system::result<Target, ParseError> Target::parse_tcp(std::string_view uri) {
  const std::string_view rest = uri.substr(tcp_scheme.size());
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) {
    return ParseError{"a tcp target is \"tcp:HOST:PORT\", as in \"tcp:localhost:22\""};
  }
  Target target(TargetKind::tcp, uri);
  const std::string_view digits = rest.substr(colon + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), target.port_);
  if (error != std::errc{} || end != digits.data() + digits.size() || target.port_ == 0) {
    return ParseError{
        fmt::format("'{}' is not a port from 1 to 65535", escape_untrusted(digits, 40))};
  }
  const std::string_view host = rest.substr(0, colon);
  const bool in_brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  target.host_ = in_brackets ? host.substr(1, host.size() - 2) : host;
  if (in_brackets ? !is_ipv6(target.host_) : !is_host_name(host)) {
    return ParseError{fmt::format(
        "'{}' is neither a host's name nor an address (an IPv6 address stands in brackets)",
        escape_untrusted(host, 40))};
  }
  return target;
}

boost::system::result<Target, ParseError> Target::parse(std::string_view uri) {
  if (uri == bench_uri) return Target(TargetKind::bench, uri);
  if (uri == forward_uri) return Target(TargetKind::forward, uri);
  if (uri.starts_with(unix_scheme)) return parse_unix(uri);
  if (uri.starts_with(tcp_scheme)) return parse_tcp(uri);
  if (uri.starts_with(exec_scheme)) {
    auto command = parse_command_line(uri.substr(exec_scheme.size()));
    if (!command) return command.error();
    Target target(TargetKind::exec, uri);
    target.command_ = std::move(*command);
    return target;
  }
  return ParseError{fmt::format(
      "'{}' is no target; there are \"unix:/absolute/path\", \"tcp:HOST:PORT\", \"exec:/program "
      "arguments\", \"{}\" and \"{}\"",
      escape_untrusted(uri, 40), bench_uri, forward_uri)};
}

}  // namespace xenlane::bridge

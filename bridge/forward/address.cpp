#include "bridge/forward/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

#include "bridge/channel/target.hpp"

namespace xenlane::bridge {

namespace {

using AddressResult = boost::system::result<ForwardAddress, ParseError>;

bool is_decimal(char byte) {
  return byte >= '0' && byte <= '9';
}

/// As the last label of a name it would make the name an address for inet_aton(3).
bool is_number(std::string_view label) {
  if (label.starts_with("0x")) return true;
  return std::ranges::all_of(label, is_decimal);
}

std::string check_name(std::string_view name) {
  if (name.empty()) return "the host is empty";
  if (name.size() > host_name_bytes_max) {
    return fmt::format("the host's name has {} bytes, {} are allowed", name.size(),
                       host_name_bytes_max);
  }
  const bool has_strange_byte = !std::ranges::all_of(name, [](char byte) {
    return (byte >= 'a' && byte <= 'z') || is_decimal(byte) || byte == '.' || byte == '-' ||
           byte == '_';
  });
  if (has_strange_byte || name.front() == '-' || name.front() == '.' || name.back() == '.' ||
      name.find("..") != std::string_view::npos) {
    return fmt::format("'{}' is neither a host's name nor an address", escape_untrusted(name, 40));
  }
  const std::size_t dot = name.rfind('.');
  if (is_number(dot == std::string_view::npos ? name : name.substr(dot + 1))) {
    return fmt::format("'{}' is neither a host's name nor an address in its usual form",
                       escape_untrusted(name, 40));
  }
  return {};
}

}  // namespace

std::uint16_t parse_port(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc{} && end == digits.data() + digits.size() ? port : std::uint16_t{0};
}

AddressResult ForwardAddress::tcp(std::string_view host, std::uint16_t port, bool listens) {
  ForwardAddress address;
  address.port_ = port;
  if (port == 0) return ParseError{"the port is not a number from 1 to 65535"};
  if (host.find('\0') != std::string_view::npos) return ParseError{"the host has a NUL byte"};
  if (listens && host == "*") {
    address.kind_ = HostKind::any;
    address.host_ = host;
    return address;
  }
  const std::string text(host);
  in_addr four{};
  in6_addr six{};
  char shown[INET6_ADDRSTRLEN] = {};
  if (::inet_pton(AF_INET, text.c_str(), &four) == 1) {
    address.kind_ = HostKind::ipv4;
    address.host_ = ::inet_ntop(AF_INET, &four, shown, sizeof shown);
    return address;
  }
  if (::inet_pton(AF_INET6, text.c_str(), &six) == 1) {
    address.kind_ = HostKind::ipv6;
    address.host_ = ::inet_ntop(AF_INET6, &six, shown, sizeof shown);
    return address;
  }
  std::ranges::transform(host, std::back_inserter(address.host_), [](char byte) {
    return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
  });
  if (std::string wrong = check_name(address.host_); !wrong.empty()) return ParseError{wrong};
  return address;
}

AddressResult ForwardAddress::unix_path(std::string_view path) {
  if (!path.starts_with('/')) {
    return ParseError{fmt::format("the path '{}' is not absolute", escape_untrusted(path, 40))};
  }
  if (path.size() > unix_path_bytes_max) {
    return ParseError{fmt::format("the path has {} bytes, a Unix socket's may have {}", path.size(),
                                  unix_path_bytes_max)};
  }
  if (std::ranges::any_of(path, [](char byte) { return byte == '\0' || byte == '\n'; })) {
    return ParseError{"the path has a NUL byte or a newline"};
  }
  for (std::size_t begin = 1; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") {
      return ParseError{fmt::format("the path '{}' has an empty, '.' or '..' part",
                                    escape_untrusted(path, unix_path_bytes_max))};
    }
    begin = end + 1;
  }
  ForwardAddress address;
  address.path_ = path;
  return address;
}

AddressResult ForwardAddress::parse(std::string_view uri, bool listens) {
  constexpr std::string_view unix_scheme = "unix:";
  constexpr std::string_view tcp_scheme = "tcp:";
  if (uri.starts_with(unix_scheme)) return unix_path(uri.substr(unix_scheme.size()));
  const std::size_t colon = uri.rfind(':');
  if (!uri.starts_with(tcp_scheme) || colon < tcp_scheme.size()) {
    return ParseError{fmt::format("'{}' is neither \"tcp:HOST:PORT\" nor \"unix:/path\"",
                                  escape_untrusted(uri, 40))};
  }
  std::string_view host = uri.substr(tcp_scheme.size(), colon - tcp_scheme.size());
  const bool in_brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (in_brackets) host = host.substr(1, host.size() - 2);
  auto address = tcp(host, parse_port(uri.substr(colon + 1)), listens);
  if (address && in_brackets != (address->kind_ == HostKind::ipv6)) {
    return ParseError{fmt::format("'{}': an IPv6 address stands in brackets, and nothing else does",
                                  escape_untrusted(uri, 60))};
  }
  return address;
}

std::string ForwardAddress::uri() const {
  if (is_unix()) return "unix:" + path_;
  return kind_ == HostKind::ipv6 ? fmt::format("tcp:[{}]:{}", host_, port_)
                                 : fmt::format("tcp:{}:{}", host_, port_);
}

}  // namespace xenlane::bridge

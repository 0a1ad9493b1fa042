#include "bridge/forward/rule.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "bridge/channel/target.hpp"

namespace xenlane::bridge {

namespace {

bool is_glob_byte(char byte) {
  return byte == '*' || byte == '?';
}

/// Path by path, so that no star reaches into another folder.
bool path_matches(std::string_view glob, std::string_view path) {
  for (;;) {
    const std::size_t glob_end = glob.find('/');
    const std::size_t path_end = path.find('/');
    if (!glob_matches(glob.substr(0, glob_end), path.substr(0, path_end))) return false;
    if (glob_end == std::string_view::npos || path_end == std::string_view::npos) {
      return glob_end == path_end;
    }
    glob.remove_prefix(glob_end + 1);
    path.remove_prefix(path_end + 1);
  }
}

/// False when it is neither "*", a port nor two.
bool read_ports(std::string_view text, std::uint16_t& low, std::uint16_t& high) {
  if (text == "*") return true;
  const std::size_t dash = text.find('-');
  low = parse_port(text.substr(0, dash));
  high = dash == std::string_view::npos ? low : parse_port(text.substr(dash + 1));
  return low != 0 && high >= low;
}

}  // namespace

boost::system::result<ForwardRule, ParseError> ForwardRule::parse(std::string_view text) {
  ForwardRule rule;
  rule.text_ = text;
  if (text.starts_with("unix:")) {
    // With its stars gone it must be a path like any other.
    std::string plain(text.substr(5));
    std::ranges::replace_if(plain, is_glob_byte, 'x');
    if (auto path = ForwardAddress::unix_path(plain); !path) return path.error();
    rule.path_ = text.substr(5);
    return rule;
  }
  const std::size_t colon = text.rfind(':');
  if (!text.starts_with("tcp:") || colon < 4 || colon == std::string_view::npos) {
    return ParseError{fmt::format("'{}' is neither \"tcp:HOST:PORTS\" nor \"unix:/path\"",
                                  escape_untrusted(text, 60))};
  }
  if (!read_ports(text.substr(colon + 1), rule.port_low_, rule.port_high_)) {
    return ParseError{
        fmt::format("'{}': the ports are a number from 1 to 65535, two as in 8000-8999, or *",
                    escape_untrusted(text, 60))};
  }
  const std::string_view host = text.substr(4, colon - 4);
  if (host == "*") return rule;
  rule.hosts_ = Hosts::every_ipv6;
  if (host == "[*]") return rule;
  // With its stars gone it must be a host like any other.
  const bool has_letter = std::ranges::any_of(host, [](char byte) {
    return byte != '.' && !is_glob_byte(byte) && (byte < '0' || byte > '9');
  });
  std::string plain(host);
  std::ranges::replace_if(plain, is_glob_byte, has_letter ? 'x' : '1');
  const auto address = ForwardAddress::parse(fmt::format("tcp:{}:1", plain));
  const bool is_glob = std::ranges::any_of(host, is_glob_byte);
  if (!has_letter && is_glob) {
    rule.hosts_ = Hosts::ipv4;
    rule.host_ = host;
    return rule;
  }
  if (!address)
    return ParseError{fmt::format("'{}': {}", escape_untrusted(text, 60), address.error().text)};
  if (address->host_kind() == HostKind::ipv6) {
    if (is_glob) {
      return ParseError{fmt::format("'{}': in brackets stands one IPv6 address, or *",
                                    escape_untrusted(text, 60))};
    }
    rule.hosts_ = Hosts::one_ipv6;
  } else {
    rule.hosts_ = address->host_kind() == HostKind::ipv4 ? Hosts::ipv4 : Hosts::names;
  }
  rule.host_ = is_glob ? std::string(host) : address->host();
  std::ranges::transform(rule.host_, rule.host_.begin(), [](char byte) {
    return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
  });
  return rule;
}

bool ForwardRule::allows(const ForwardAddress& address) const {
  if (address.is_unix() != !path_.empty()) return false;
  if (address.is_unix()) return path_matches(path_, address.path());
  if (address.port() < port_low_ || address.port() > port_high_) return false;
  switch (hosts_) {
    case Hosts::every:
      return true;
    case Hosts::names:
      return address.host_kind() == HostKind::name && glob_matches(host_, address.host());
    case Hosts::ipv4:
      return address.host_kind() == HostKind::ipv4 && glob_matches(host_, address.host());
    case Hosts::every_ipv6:
      return address.host_kind() == HostKind::ipv6;
    case Hosts::one_ipv6:
      return address.host_kind() == HostKind::ipv6 && host_ == address.host();
  }
  return false;
}

bool is_allowed(const ForwardRules& rules, const ForwardAddress& address) {
  return std::ranges::any_of(rules, [&](const ForwardRule& rule) { return rule.allows(address); });
}

}  // namespace xenlane::bridge

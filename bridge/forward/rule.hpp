// What a channel with target = "builtin:forward" lets the other side dial or listen on. No I/O.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/text.hpp"
#include "bridge/forward/address.hpp"

namespace xenlane::bridge {

/// Rules of one list, and bytes of all of them together.
inline constexpr std::size_t forward_rules_max = 64;
inline constexpr std::size_t forward_rules_bytes_max = 8 * 1024;

/// One item of `allow` or `allow_listen`: "tcp:HOST:PORTS" or "unix:/path".
///
/// HOST is an address or a glob. A glob of digits, dots, * and ? stands for IPv4 addresses only,
/// one with a letter or a hyphen for names only, so that no name passes for an address; "*" alone
/// stands for every host, "[*]" for every IPv6 address. PORTS is a port, "LOW-HIGH" or "*". A path
/// may have * and ?, which stand for any bytes but '/'.
class ForwardRule {
 public:
  static boost::system::result<ForwardRule, ParseError> parse(std::string_view text);

  bool allows(const ForwardAddress& address) const;
  const std::string& text() const { return text_; }

  friend bool operator==(const ForwardRule& a, const ForwardRule& b) { return a.text_ == b.text_; }

 private:
  enum class Hosts : std::uint8_t { every, names, ipv4, every_ipv6, one_ipv6 };

  std::string text_;
  std::string path_;  ///< glob; empty for tcp
  Hosts hosts_ = Hosts::every;
  std::string host_;  ///< glob, or an address
  std::uint16_t port_low_ = 1;
  std::uint16_t port_high_ = 65535;
};

using ForwardRules = std::vector<ForwardRule>;

bool is_allowed(const ForwardRules& rules, const ForwardAddress& address);

}  // namespace xenlane::bridge

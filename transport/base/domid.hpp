// A domain's number, as Xen counts them (xen/include/public/xen.h, domid_t).
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace xenlane::transport {

using Domid = std::uint16_t;

/// First number that Xen keeps for itself (DOMID_FIRST_RESERVED); a real domain's is below it.
inline constexpr Domid domid_first_reserved = 0x7FF0;

/// Reads decimal digits and nothing else; empty when that is not a number a real domain can have.
inline std::optional<Domid> parse_domid(std::string_view untrusted_text) {
  Domid value = 0;
  const char* end = untrusted_text.data() + untrusted_text.size();
  const auto [stop, error] = std::from_chars(untrusted_text.data(), end, value);
  if (error != std::errc{} || stop != end || value >= domid_first_reserved) return std::nullopt;
  return value;
}

}  // namespace xenlane::transport

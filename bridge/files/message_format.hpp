// What the two directions of message.hpp share: numbers of the format (docs/files.md).
#pragma once

#include <cstdint>

namespace xenlane::bridge::files {

/// So that a connection to anything else is noticed at once: "xenfiles".
inline constexpr std::uint64_t message_magic = 0x73656C69666E6578;

enum RequestFlag : std::uint32_t {
  flag_pull = 1,
  flag_checksum = 2,
  flag_dry_run = 4,
  flag_verify = 8,
  flag_xattrs = 16,
  flag_owner = 32,
  flag_into_folder = 64,
  flags_all = 127,
};

}  // namespace xenlane::bridge::files

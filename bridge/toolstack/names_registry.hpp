// The registry of channel names: who uses which. Files of the form that xen-pv-channel(7) has for
// its own: per name a line N: with it, a line C: with a contact and a line D: with a description,
// the last continued by lines that begin with a blank. docs/names.md is the users' page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/name.hpp"
#include "bridge/toolstack/findings.hpp"

namespace xenlane::bridge {

/// Most registrations of one file; longest contact and description in bytes.
inline constexpr std::size_t registrations_max = 4096;
inline constexpr std::size_t contact_bytes_max = 256;
inline constexpr std::size_t description_bytes_max = 4096;

struct Registration {
  ChannelName name;
  std::string contact;
  std::string description;  ///< its lines joined by blanks
  std::uint32_t line = 0;   ///< of the N:
};

struct RegistryRead {
  std::vector<Registration> entries;  ///< in the order of the file; none with an error in it
  Findings findings;                  ///< names without a domain part are warnings
};

/// Blank lines part the entries, though an N: is enough; lines that begin with # are comments.
/// Contacts and descriptions are UTF-8 without control characters.
RegistryRead parse_names_registry(std::string_view untrusted);

/// The names that come with xenlane, well_known.names beside this file.
std::string_view well_known_names();

/// A registration and the file that it is in.
struct Registered {
  std::string file;
  Registration entry;
};

/// What to warn about `all`, in the order of reading: for each name that was registered before,
/// "file:line: warning: ..." with the place of the earlier one.
std::vector<std::string> find_name_clashes(std::span<const Registered> all);

}  // namespace xenlane::bridge

// The registry of channel names: any text as a file of it.
#include "bridge/toolstack/names_registry.hpp"
#include "tests/fuzz/guest_channels.hpp"

namespace xenlane::fuzz {

void fuzz_names_registry(Bytes input) {
  const std::string text = text_of(input);
  const bridge::RegistryRead read = bridge::parse_names_registry(text);
  check_findings(read.findings, text);
  FUZZ_CHECK(read.entries.size() <= bridge::registrations_max);
  std::uint32_t line = 0;
  std::string again;
  for (const bridge::Registration& entry : read.entries) {
    FUZZ_CHECK(entry.line > line);
    line = entry.line;
    FUZZ_CHECK(!entry.name.is_reserved());
    FUZZ_CHECK(!entry.contact.empty() && entry.contact.size() <= bridge::contact_bytes_max);
    FUZZ_CHECK(!entry.description.empty());
    FUZZ_CHECK(entry.description.size() <= bridge::description_bytes_max);
    FUZZ_CHECK(bridge::is_plain_text(entry.contact) && bridge::is_plain_text(entry.description));
    again += "N: " + entry.name.text() + "\nC: " + entry.contact + "\nD: " + entry.description;
    again += '\n';
  }
  const bridge::RegistryRead reread = bridge::parse_names_registry(again);
  FUZZ_CHECK(!reread.findings.has_errors());
  FUZZ_CHECK(reread.entries.size() == read.entries.size());
}

}  // namespace xenlane::fuzz

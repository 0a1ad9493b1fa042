// The reader of xl configurations: any text. Findings are one line each and in the text; what is
// read keeps what its types promise; and what we write of it is read as the same.
#include "bridge/toolstack/xl_channels.hpp"
#include "tests/fuzz/guest_channels.hpp"

namespace xenlane::fuzz {

void fuzz_xl_channels(Bytes input) {
  const std::string text = text_of(input);
  const bridge::ChannelsRead read = bridge::read_xl_channels(text);
  check_read(read, text);
  if (!read.guest) return;
  const auto written = bridge::write_xl_channels(*read.guest);
  // A comma cannot have come from such a file, nor can the rest of what cannot be written.
  FUZZ_CHECK(written.has_value());
  const bridge::ChannelsRead again = bridge::read_xl_channels(*written);
  FUZZ_CHECK(again.guest == read.guest);
}

}  // namespace xenlane::fuzz

// The reader of libvirt's domain XML: any text. Findings are one line each and in the text; what is
// read keeps what its types promise; and what we write of it is read as the same.
#include "bridge/toolstack/libvirt_channels.hpp"
#include "tests/fuzz/guest_channels.hpp"

namespace xenlane::fuzz {

void fuzz_libvirt_channels(Bytes input) {
  const std::string text = text_of(input);
  const bridge::ChannelsRead read = bridge::read_libvirt_channels(text);
  check_read(read, text);
  if (!read.guest) return;
  const bridge::ChannelsRead again =
      bridge::read_libvirt_channels(bridge::write_libvirt_channels(*read.guest));
  FUZZ_CHECK(again.guest == read.guest);
}

}  // namespace xenlane::fuzz

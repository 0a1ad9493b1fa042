// The console link's blocks: any link bytes, in pieces, as a peer may send them; and any raw bytes,
// which come back as they were.
#include "transport/console/packer.hpp"

#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_console_packer(Bytes input);

namespace {

using namespace transport;  // NOLINT(google-build-using-namespace): this file is about little else

ReadableSpans cut_at(Bytes bytes, std::size_t place) {
  place = std::min(place, bytes.size());
  return {bytes.first(place), bytes.subspan(place)};
}

/// Until a fault, or until what is left is no whole block.
void unpack_all(Bytes bytes, std::size_t place) {
  BlockUnpacker unpacker(true);
  while (true) {
    const auto result = unpacker.unpack(cut_at(bytes, place));
    FUZZ_CHECK(is_printable(result.fault));
    FUZZ_CHECK(result.used <= bytes.size() && result.raw.size() <= block_bytes_max);
    FUZZ_CHECK((result.used == 0) == result.raw.empty());
    if (result.used == 0) return;
    FUZZ_CHECK(result.fault.empty());
    bytes = bytes.subspan(result.used);
  }
}

void check_round_trip(Input& choices) {
  BlockPacker packer;
  BlockUnpacker unpacker(true);
  while (!choices.empty()) {
    const bool may_pack = choices.take<std::uint8_t>() % 4 != 0;
    const std::size_t place = choices.take<std::uint8_t>();
    auto raw = choices.piece(1 + choices.below(300));
    if (raw.empty()) return;
    // Now and then long and dull.
    if (choices.flag()) raw.resize(block_raw_bytes, raw.back());
    const auto block = packer.pack(cut_at(raw, place), may_pack);
    FUZZ_CHECK(block.size() <= BlockPacker::bytes_max(raw.size()));
    const auto result = unpacker.unpack(cut_at(block, place));
    FUZZ_CHECK(result.fault.empty() && result.used == block.size());
    FUZZ_CHECK(std::ranges::equal(result.raw, raw));
  }
}

}  // namespace

void fuzz_console_packer(Bytes input) {
  Input choices(input);
  if (choices.flag()) {
    check_round_trip(choices);
  } else {
    const std::size_t place = choices.take<std::uint16_t>();
    unpack_all(choices.rest(), place);
  }
}

}  // namespace xenlane::fuzz

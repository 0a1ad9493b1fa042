// The entry that libFuzzer calls, once for each program; XENLANE_FUZZ_TARGET names its target.
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {
void XENLANE_FUZZ_TARGET(Bytes input);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  xenlane::fuzz::XENLANE_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}

// What every target shares: the fuzzer's bytes as a sequence of choices, and a check that ends the
// program. Each target is one function, fuzz_NAME(input); libfuzzer.cpp hands it libFuzzer's
// inputs, replay_test.cpp the corpus.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "transport/base/assert.hpp"

/// What must hold whatever the input. Unlike XENLANE_ASSERT it is never compiled away: without it
/// the target would look for crashes only.
#define FUZZ_CHECK(condition)   \
  (static_cast<bool>(condition) \
       ? static_cast<void>(0)   \
       : ::xenlane::transport::assertion_failed(#condition, __FILE__, __LINE__))

namespace xenlane::fuzz {

using Bytes = std::span<const std::byte>;

inline std::string text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char byte) { return byte >= ' ' && byte <= '~'; });
}

/// Takes the input apart from its front. Past the end every number is zero and every piece empty,
/// so that each input is a valid one.
class Input {
 public:
  explicit Input(Bytes bytes) : left_(bytes) {}

  bool empty() const { return left_.empty(); }

  template <std::unsigned_integral T>
  T take() {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T) && !left_.empty(); ++i) {
      value |= std::to_integer<std::uint64_t>(left_.front()) << (8 * i);
      left_ = left_.subspan(1);
    }
    return static_cast<T>(value);
  }
  bool flag() { return take<std::uint8_t>() % 2 == 1; }
  /// A number below `bound` (at least 1); takes no more bytes than it needs for that.
  std::uint32_t below(std::uint32_t bound) {
    if (bound <= 1) return 0;
    if (bound <= 0x100) return take<std::uint8_t>() % bound;
    return (bound <= 0x10000 ? take<std::uint16_t>() : take<std::uint32_t>()) % bound;
  }
  /// The next `count` bytes, or as many as there are, in memory of exactly that size: a read past
  /// their end is one that AddressSanitizer sees.
  std::vector<std::byte> piece(std::size_t count) {
    const Bytes taken = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }
  std::vector<std::byte> rest() { return piece(left_.size()); }
  std::string text(std::size_t count) { return text_of(piece(count)); }

 private:
  Bytes left_;
};

}  // namespace xenlane::fuzz

// Copying between spans. std::ranges::copy of GCC 12 goes byte by byte when the source is const.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace xenlane::transport {

/// Copies all of `from` to `to`, where there is room, and returns the end of what it wrote. The two
/// do not overlap.
inline std::byte* copy_bytes(std::span<const std::byte> from, std::byte* to) {
  return std::copy(from.begin(), from.end(), to);
}

}  // namespace xenlane::transport

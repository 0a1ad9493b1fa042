// XENLANE_ASSERT states what only a bug of ours can break; it stays on in release builds.
// What a peer can break is never asserted: it is checked and ends that peer's session.
#pragma once

namespace xenlane::transport {

/// Prints the condition and where it stood, then aborts.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace xenlane::transport

// A build without them (cmake -D XENLANE_ASSERTS=OFF) exists only to measure what they cost.
#ifdef XENLANE_NO_ASSERTS
#define XENLANE_ASSERT(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define XENLANE_ASSERT(condition) \
  (static_cast<bool>(condition)   \
       ? static_cast<void>(0)     \
       : ::xenlane::transport::assertion_failed(#condition, __FILE__, __LINE__))
#endif

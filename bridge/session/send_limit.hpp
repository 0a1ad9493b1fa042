// How much data may lie in the peer's ring unread. A ring is first come first served: what a small
// message finds in front of it, it waits for, and so it does for a bridge that is busy copying. So
// while small messages come by, bulk gets one short frame at a time; when none has come for a
// while, all of the ring.
//
// Policy only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xenlane::bridge {

class SendLimit {
 public:
  explicit SendLimit(std::size_t ring_bytes) : ring_bytes_(ring_bytes), limit_(ring_bytes) {}

  std::size_t current() const { return limit_; }
  /// How much of `room` free bytes in the ring data may use.
  std::size_t allowed(std::size_t room) const;

  /// A stream that had been silent had so many bytes to send while others were busy.
  void silence_ended(std::uint32_t bytes);
  void sent(std::size_t bytes);

 private:
  std::size_t ring_bytes_;
  std::size_t limit_;
  std::size_t sent_ = 0;  ///< since the last small message, or since the limit rose after it
};

}  // namespace xenlane::bridge

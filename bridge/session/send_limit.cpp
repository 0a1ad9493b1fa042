#include "bridge/session/send_limit.hpp"

#include <algorithm>

#include "bridge/wire/limits.hpp"

namespace xenlane::bridge {

namespace {

/// What a stream says in one go without being bulk.
constexpr std::uint32_t small_message_bytes = 4096;

/// The limit while small messages come by: a frame that takes about as long to copy as it takes to
/// wake a sleeper.
constexpr std::size_t limit_bytes_min = frame_header_bytes + 32 * 1024;

/// Ringfuls without a small message before the limit doubles.
constexpr std::size_t rings_until_higher = 2;

}  // namespace

std::size_t SendLimit::allowed(std::size_t room) const {
  if (limit_ == ring_bytes_) return room;
  const std::size_t unconsumed = ring_bytes_ - room;
  const std::size_t left = limit_ - std::min(limit_, unconsumed);
  // Slivers would cost more than waiting for the peer to take the rest of what it has.
  return left < limit_ / 2 ? 0 : left;
}

void SendLimit::silence_ended(std::uint32_t bytes) {
  if (bytes > small_message_bytes) return;
  limit_ = std::min(ring_bytes_, limit_bytes_min);
  sent_ = 0;
}

void SendLimit::sent(std::size_t bytes) {
  if (limit_ == ring_bytes_) return;
  sent_ += bytes;
  if (sent_ < rings_until_higher * ring_bytes_) return;
  sent_ = 0;
  limit_ = std::min(ring_bytes_, 2 * limit_);
}

}  // namespace xenlane::bridge

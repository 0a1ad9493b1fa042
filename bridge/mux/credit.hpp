// Credit: how many bytes a sender may still send. Positions are absolute and counted from the
// stream's first byte, so an update that arrives twice changes nothing and no sum can wrap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "transport/base/assert.hpp"

namespace xenlane::bridge {

/// The sender's half. Invariant: sent <= limit.
class SendCredit {
 public:
  explicit SendCredit(std::uint64_t initial) : limit_(initial) {}

  std::uint64_t available() const { return limit_ - sent_; }
  std::uint64_t sent() const { return sent_; }

  void spend(std::uint64_t bytes) {
    XENLANE_ASSERT(bytes <= available());
    sent_ += bytes;
  }
  /// A limit from the peer. One that is not ahead of the last is an old one and ignored.
  void raise(std::uint64_t untrusted_limit) { limit_ = std::max(limit_, untrusted_limit); }

 private:
  std::uint64_t sent_ = 0;
  std::uint64_t limit_;
};

/// The receiver's half. Invariant: delivered <= received <= limit, limit <= delivered + window.
class ReceiveCredit {
 public:
  explicit ReceiveCredit(std::uint64_t window) : limit_(window), window_(window) {}

  /// False when the peer sent more than it may; then nothing is counted.
  [[nodiscard]] bool receive(std::uint64_t untrusted_bytes) {
    if (untrusted_bytes > limit_ - received_) return false;
    received_ += untrusted_bytes;
    return true;
  }

  /// Bytes have left for the application (or were thrown away).
  void deliver(std::uint64_t bytes) {
    XENLANE_ASSERT(bytes <= held());
    delivered_ += bytes;
  }

  /// The limit to tell the peer, once half a window has become free since it was last told: often
  /// enough that it never waits for the reader, seldom enough to cost nothing.
  std::optional<std::uint64_t> poll_update() {
    const std::uint64_t next = delivered_ + window_;
    if (next - limit_ < (window_ + 1) / 2) return std::nullopt;
    limit_ = next;
    return limit_;
  }
  bool update_due() const { return delivered_ + window_ - limit_ >= (window_ + 1) / 2; }

  /// Received and not yet delivered.
  std::uint64_t held() const { return received_ - delivered_; }
  std::uint64_t received() const { return received_; }
  std::uint64_t window() const { return window_; }
  void widen(std::uint64_t window) {
    XENLANE_ASSERT(window >= window_);
    window_ = window;
  }

 private:
  std::uint64_t received_ = 0;
  std::uint64_t delivered_ = 0;
  std::uint64_t limit_;
  std::uint64_t window_;
};

}  // namespace xenlane::bridge

// Index arithmetic of a shared ring, without the ring: two free-running counters, a size that is a
// power of two, and the rule that a peer may only move its own counter forward and never past the
// other's. XSA-86 is what happens without the rule, XSA-155 without reading the counter once.
//
// Templated on the counter so that a test can walk through every state of an 8-bit one.
#pragma once

#include <concepts>
#include <cstddef>

#include "transport/base/assert.hpp"

namespace xenlane::transport {

/// The half of a ring that this side reads: our consumer counter and what we saw of the producer's.
template <std::unsigned_integral Index>
class ReceiveCursor {
 public:
  ReceiveCursor() = default;
  /// `size` in bytes, a power of two that the counter can represent.
  ReceiveCursor(Index size, Index position)
      : size_(size), consumer_(position), producer_(position) {}

  /// Takes a producer counter as just loaded. False, and nothing changes, when no honest peer could
  /// have written it: it moved back, or past what the ring can hold.
  [[nodiscard]] bool observe(Index untrusted_producer) {
    const Index advance = static_cast<Index>(untrusted_producer - producer_);
    const Index room = static_cast<Index>(size_ - ready());
    if (advance > room) return false;
    producer_ = untrusted_producer;
    return true;
  }

  Index ready() const { return static_cast<Index>(producer_ - consumer_); }
  void consume(std::size_t count) {
    XENLANE_ASSERT(count <= ready());
    consumer_ = static_cast<Index>(consumer_ + count);
  }
  Index consumer() const { return consumer_; }
  /// Where the next byte to read lies in the ring.
  std::size_t offset() const { return consumer_ & static_cast<Index>(size_ - 1); }
  std::size_t size() const { return size_; }

 private:
  Index size_ = 1;
  Index consumer_ = 0;
  Index producer_ = 0;
};

/// The half of a ring that this side writes: our producer counter and what we saw of the
/// consumer's.
template <std::unsigned_integral Index>
class SendCursor {
 public:
  SendCursor() = default;
  SendCursor(Index size, Index position) : size_(size), producer_(position), consumer_(position) {}

  /// Takes a consumer counter as just loaded. False, and nothing changes, when it moved back or
  /// past what was produced.
  [[nodiscard]] bool observe(Index untrusted_consumer) {
    const Index advance = static_cast<Index>(untrusted_consumer - consumer_);
    if (advance > unconsumed()) return false;
    consumer_ = untrusted_consumer;
    return true;
  }

  Index unconsumed() const { return static_cast<Index>(producer_ - consumer_); }
  Index room() const { return static_cast<Index>(size_ - unconsumed()); }
  void commit(std::size_t count) {
    XENLANE_ASSERT(count <= room());
    producer_ = static_cast<Index>(producer_ + count);
  }
  Index producer() const { return producer_; }
  /// Where the next byte to write lies in the ring.
  std::size_t offset() const { return producer_ & static_cast<Index>(size_ - 1); }
  /// Where the oldest byte lies that was not consumed.
  std::size_t consumer_offset() const { return consumer_ & static_cast<Index>(size_ - 1); }
  std::size_t size() const { return size_; }

 private:
  Index size_ = 1;
  Index producer_ = 0;
  Index consumer_ = 0;
};

}  // namespace xenlane::transport

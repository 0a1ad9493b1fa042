// One end of a pair of shared rings as a Lane sees it: private cursors over memory and counters
// that the peer can write. The vchan lane and the memory lane differ only in where the memory comes
// from and how a wake-up travels, so what must be right lives here once.
#pragma once

#include <cstdint>

#include "transport/lane.hpp"
#include "transport/ring_cursor.hpp"

namespace xenlane::transport {

/// Where one ring lies: `size` bytes (a power of two) and its two shared counters. Not owned.
struct SharedRing {
  std::byte* buffer = nullptr;
  std::uint32_t size = 0;
  std::uint32_t* producer = nullptr;
  std::uint32_t* consumer = nullptr;
};

/// Notify bits as in xen/io/libxenvchan.h: which action of the peer this side wants to hear of.
inline constexpr std::uint8_t notify_on_write = 0x1;
inline constexpr std::uint8_t notify_on_read = 0x2;

/// The two rings, our requests to the peer and the peer's requests to us.
struct SharedRingPair {
  SharedRing receive;
  SharedRing send;
  std::uint8_t* our_requests = nullptr;   ///< bits we set and the peer clears when it notifies
  std::uint8_t* peer_requests = nullptr;  ///< bits the peer sets and we clear when we notify
};

/// Implements the data half of Lane. A derived class supplies liveness and the wake-up.
class SharedRingLane : public Lane {
 public:
  std::size_t receive_ring_bytes() const final { return receive_.size(); }
  std::size_t send_ring_bytes() const final { return send_.size(); }
  LaneState state() final { return violated_ ? LaneState::violated : peer_state(); }
  ReadableSpans readable() final;
  void consume(std::size_t count) final;
  WritableSpans writable() final;
  void commit(std::size_t count) final;
  void publish() final;
  std::size_t unconsumed_bytes() final;
  ReadableSpans unconsumed() final;
  bool arm(bool want_readable, bool want_writable) final;
  void nudge() final { notify(); }
  std::uint64_t notifications() const final { return notifications_; }

 protected:
  /// Takes over rings whose counters this side has just read or set; see vchan_lane.cpp.
  void attach(const SharedRingPair& rings);

 private:
  virtual LaneState peer_state() = 0;
  virtual void send_wake_up() = 0;

  void notify();
  void observe_producer();
  void observe_consumer();

  SharedRingPair rings_;
  ReceiveCursor<std::uint32_t> receive_;
  SendCursor<std::uint32_t> send_;
  bool consumed_unpublished_ = false;
  bool committed_unpublished_ = false;
  bool violated_ = false;
  std::uint64_t notifications_ = 0;
};

}  // namespace xenlane::transport

// A lane is one live, ordered byte pipe between two domains, seen as two rings *in place*: bytes
// are read where the peer put them and written where the peer will read them. A lane knows no
// frames, streams or sessions. When it breaks it is gone; a new one is made.
//
// The one idea needed: cursors are private and advance freely (consume, commit); the peer sees
// them at publish(), which costs at most one notify however many frames were handled. A driver
// sleeps only after arm() has said that there is nothing to do.
//
// The readable bytes lie in memory that the peer can write at any time. Whoever parses them copies
// them out first and checks the copy.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace xenlane::transport {

/// Bytes of a ring in order: `second` is where the ring wraps, empty when it does not.
template <typename Byte>
struct RingSpans {
  std::span<Byte> first;
  std::span<Byte> second;

  std::size_t size() const { return first.size() + second.size(); }
  bool empty() const { return first.empty() && second.empty(); }

  /// The part that begins `offset` bytes in and is at most `count` bytes long.
  RingSpans slice(std::size_t offset, std::size_t count) const {
    RingSpans out;
    if (offset < first.size()) {
      out.first = first.subspan(offset, std::min(count, first.size() - offset));
      out.second = second.first(std::min(count - out.first.size(), second.size()));
    } else {
      offset -= first.size();
      offset = std::min(offset, second.size());
      out.first = second.subspan(offset, std::min(count, second.size() - offset));
    }
    return out;
  }
};

using ReadableSpans = RingSpans<const std::byte>;
using WritableSpans = RingSpans<std::byte>;

enum class LaneState : std::uint8_t {
  awaiting_peer,  ///< offered; the other domain has not attached yet
  open,           ///< both ends attached
  closed,         ///< the other end went away; what it committed before can still be read
  violated,       ///< the other end wrote an impossible index; nothing more is read or written
};

class Lane {
 public:
  Lane() = default;
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  virtual ~Lane() = default;

  /// "vchan", "console" or "memory".
  virtual std::string_view kind() const = 0;
  virtual LaneState state() = 0;
  virtual std::size_t receive_ring_bytes() const = 0;
  virtual std::size_t send_ring_bytes() const = 0;

  /// Bytes from the peer that were not consumed yet; reads the peer's index once.
  virtual ReadableSpans readable() = 0;
  /// Gives back the first `count` readable bytes. The peer learns of it at publish().
  virtual void consume(std::size_t count) = 0;

  /// Room in the peer's ring; reads the peer's index once.
  virtual WritableSpans writable() = 0;
  /// The first `count` writable bytes are filled in. The peer sees them at publish().
  virtual void commit(std::size_t count) = 0;

  /// Shows the peer both cursors and wakes it if it asked to be woken.
  virtual void publish() = 0;

  /// Committed bytes that the peer has not consumed, by its latest index.
  virtual std::size_t unconsumed_bytes() = 0;
  /// Those bytes, oldest first: what another lane has to carry when this one has ended. They are
  /// as the peer may have left them, and valid until the lane is used again.
  virtual ReadableSpans unconsumed() = 0;
  /// How many of them keep the lane busy; more would only lie there in front of what comes next.
  virtual std::size_t useful_bytes_max() const { return send_ring_bytes(); }

  /// Asks the peer for a wake-up when bytes or room appear. True when there is something to do
  /// already (bytes, room, or an end of the lane), in which case nobody should sleep; unless what
  /// there is to do has made wait_fd() readable.
  virtual bool arm(bool want_readable, bool want_writable) = 0;
  /// Becomes readable when the peer woke this side. Owned by the lane.
  virtual int wait_fd() const = 0;
  /// Takes the wake-up back; call after wait_fd() became readable or the deadline has passed.
  virtual void acknowledge() = 0;
  /// When the lane wants to be looked at although nothing woke it; none when it need not be.
  virtual std::optional<std::chrono::steady_clock::time_point> deadline() const { return {}; }
  /// To be asked before each wait. Zero: wait for wait_fd(). Otherwise input, of which small
  /// pieces are on their way, does not make it readable until this is asked again: call
  /// acknowledge() after that long.
  virtual std::chrono::microseconds look_away() { return {}; }
  /// Wakes the peer whether it asked or not: the cure for a lost event.
  virtual void nudge() = 0;
  /// How often it has told the peer that something is new: events sent, writes to the device.
  virtual std::uint64_t notifications() const { return 0; }
  /// Why the lane has ended, where it knows more than its state tells; else empty.
  virtual std::string_view trouble() const { return {}; }
};

}  // namespace xenlane::transport

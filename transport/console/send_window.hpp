// What one side of the console link has to send: link bytes until the peer has them, which of them
// go out next, and which again. The channel keeps the order of what it does not lose, so a gap that
// the peer reports is a loss, and exactly the gap is sent again. No I/O; time is a parameter.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "transport/console/frame.hpp"
#include "transport/console/receive_window.hpp"
#include "transport/console/rtt.hpp"

namespace xenlane::transport {

/// Frames begin with this length: what is risked before it is known how much the channel loses.
inline constexpr std::size_t frame_payload_bytes_first = 1024;
/// Where losses are many, frames are made this short but no shorter.
inline constexpr std::size_t frame_payload_bytes_min = 64;
/// A channel is taken to be a good one when so many bytes have arrived without a loss.
inline constexpr std::size_t proven_bytes = 16 * 1024;
/// So many frames must arrive without a loss before they are made longer again.
inline constexpr std::size_t frames_until_longer = 16;

/// How far the peer has released what it got: whole blocks before `position`, and `part` raw bytes
/// of the block that begins there.
struct LinkPlace {
  std::uint32_t position = 0;
  std::uint16_t part = 0;
  bool operator==(const LinkPlace&) const = default;
};

class SendWindow {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Segment {
    std::uint32_t position = 0;
    std::span<const std::byte> bytes;  ///< valid until more is written
    bool again = false;
    bool more = false;  ///< the next poll() has bytes, too
  };
  enum class Heard : std::uint8_t {
    nothing,     ///< old, or no bytes more than before
    progress,    ///< the peer has more than before
    impossible,  ///< no honest peer could have said it
  };

  /// Link bytes that may be written.
  std::size_t room() const { return link_window_bytes - (end_ - released_.position); }
  void write(std::span<const std::byte> bytes);
  std::uint32_t end() const { return end_; }

  /// The next bytes to send, at most `bytes_max` of them; they count as sent. Less than a frame
  /// waits while bytes are unacknowledged, unless `all` are to go.
  std::optional<Segment> poll(std::size_t bytes_max, bool all, TimePoint now);
  /// What a frame of the peer says about what it has.
  Heard handle(const LinkFrame& untrusted_frame, TimePoint now);
  /// No answer in time: sends again what the peer is known to lack, or else the first bytes that it
  /// may lack, to find out.
  void handle_timeout(TimePoint now);

  /// Bytes were sent that the peer is not known to have.
  bool has_unacknowledged() const { return acknowledged_ != next_; }
  LinkPlace released() const { return released_; }
  const RoundTrip& round_trip() const { return round_trip_; }
  /// So many bytes have arrived since the last loss that few losses are to be expected.
  bool is_proven() const { return trust_.arrived_since_loss >= proven_bytes; }

 private:
  bool waits(bool all) const;
  void send_again(std::uint32_t from, std::uint32_t to, TimePoint now);
  void repeat(std::uint32_t from, std::uint32_t to, TimePoint now);
  bool was_sent_again(std::uint32_t position, TimePoint now) const;
  void take_released(std::uint32_t position, std::uint16_t part);
  void take_sample(TimePoint now);
  void look_for_losses(bool progress, TimePoint now);
  void handle_loss();
  void handle_arrived(std::uint32_t bytes);

  std::array<std::byte, link_window_bytes> ring_{};
  // In this order, modulo 2^32: released, acknowledged, next, end.
  LinkPlace released_;
  std::uint32_t acknowledged_ = 0;
  std::uint32_t next_ = 0;
  std::uint32_t end_ = 0;
  bool promised_ = false;  ///< the last frame said that more follows

  std::uint32_t hole_ = 0;        ///< what the peer said last about the gap at acknowledged_
  std::uint32_t again_from_ = 0;  ///< waits to be sent again
  std::uint32_t again_to_ = 0;
  std::uint32_t repeated_from_ = 0;  ///< was sent again at repeated_at_, or waits to be
  std::uint32_t repeated_to_ = 0;
  TimePoint repeated_at_{};
  bool timed_out_ = false;          ///< and nothing was heard since that tells what was lost
  std::uint32_t timed_out_at_ = 0;  ///< what was sent before it

  /// What the channel is trusted with.
  struct Trust {
    /// How much is risked in one frame: the longer, the likelier that a run of lost bytes hits it.
    std::size_t frame_bytes = frame_payload_bytes_first;
    std::size_t arrived = 0;             ///< since the last loss, or since frame_bytes grew
    std::size_t arrived_since_loss = 0;  ///< up to proven_bytes
  };
  Trust trust_;
  Trust trust_before_timeout_;

  RoundTrip round_trip_;
  std::optional<TimePoint> sampling_since_;  ///< one at a time, and none of what is sent again
  std::uint32_t sampling_end_ = 0;
};

}  // namespace xenlane::transport

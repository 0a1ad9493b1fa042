// The console link: a reliable, ordered pipe of bytes each way over a console that is neither
// (docs/protocol.md section 10). It opens when a frame shows that the other end is alive now, sends
// again what was lost, and ends with a reason when the other end is gone, began anew or does not
// answer. No I/O; time is a parameter.
//
// A link has a life: it opens at most once, with one life of the other end, and its nonce is in
// every frame. Frames with other nonces are a former life's, or noise.
#pragma once

#include <optional>
#include <string_view>

#include "transport/console/frame.hpp"
#include "transport/console/receive_window.hpp"
#include "transport/console/send_window.hpp"

namespace xenlane::transport {

/// Whoever has got or released so many link bytes since it last said so says so, although more
/// follows: half of the window, so that the sender does not run dry.
inline constexpr std::uint32_t link_acknowledged_at_once = link_window_bytes / 2;
/// Of a window that the sender believes to be fuller than this, any release is told at once: the
/// sender may have no room for one more block.
inline constexpr std::uint32_t link_held_many = link_window_bytes / 4 * 3;

struct LinkSettings {
  ConsoleEnd end = ConsoleEnd::guest;
  std::uint32_t nonce = 0;  ///< random, not 0
  std::uint8_t flags = 0;   ///< link_own_device, link_zstd, link_roomy
  std::chrono::milliseconds give_up{15000};
};

enum class LinkState : std::uint8_t {
  opening,   ///< the guest asks, the host waits to be asked
  open,      ///< the other end has answered
  closed,    ///< it is gone or does not answer; what came before is still there
  violated,  ///< it said what no honest peer could have
};

struct LinkCounters {
  std::uint64_t retransmitted_frames = 0;
  std::uint64_t echoes = 0;          ///< our own frames come back
  std::uint64_t foreign_frames = 0;  ///< of or to another life
};

class ConsoleLink {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  ConsoleLink(const LinkSettings& settings, TimePoint now);

  LinkState state() const { return state_; }
  bool is_open() const { return state_ == LinkState::open; }
  /// Why the link has ended; else empty.
  std::string_view trouble() const { return trouble_; }
  /// What the peer says of itself; 0 until the link is open.
  std::uint8_t peer_flags() const { return peer_flags_; }
  bool peer_is_roomy() const { return (peer_flags_ & link_roomy) != 0; }
  LinkEncoding encoding() const;

  void handle_frame(const LinkFrame& untrusted_frame, TimePoint now);
  /// Does what the deadline asks for. May be called at any time.
  void handle_time(TimePoint now);
  std::optional<TimePoint> deadline() const;
  /// The next frame to send; its payload is valid until bytes are written. With `all`, bytes do not
  /// wait for what is under way to be acknowledged.
  std::optional<LinkFrame> poll_frame(TimePoint now, bool all = false);
  /// The last frame to send, for a link that is given up; none when nobody waits for it.
  std::optional<LinkFrame> poll_close();
  /// Gives up the link: what it carried was impossible.
  void fail(std::string_view text);
  /// Asks for an acknowledgement.
  void probe(TimePoint now);

  std::size_t room() const { return is_open() ? sending_.room() : 0; }
  void write(std::span<const std::byte> bytes) { sending_.write(bytes); }
  std::uint32_t written() const { return sending_.end(); }
  bool has_unacknowledged() const { return sending_.has_unacknowledged(); }
  bool is_proven() const { return sending_.is_proven(); }
  LinkPlace peer_released() const { return sending_.released(); }
  /// Whether more would be written if the peer released something: then it is asked now and then.
  void want_release(bool wanted, TimePoint now);

  ReadableSpans unread() const { return receiving_.unread(); }
  /// The peer has said that more comes right behind what came last.
  bool more_follows() const { return is_open() && more_follows_; }
  void take(std::size_t count) { receiving_.take(count); }
  std::uint32_t taken() const { return receiving_.taken(); }
  /// The peer is told at once if that is all there was, if it may be waiting for room, or if it is
  /// much: half of the window, or what the caller takes for it. Else with the next frame.
  void release(LinkPlace place, bool is_much);

  RoundTrip::Duration round_trip() const { return sending_.round_trip().smoothed(); }
  const LinkCounters& counters() const { return counters_; }

 private:
  void handle_unverified(const LinkFrame& untrusted_frame, TimePoint now);
  void handle_opening(const LinkFrame& untrusted_frame, TimePoint now);
  void handle_of_another_life(const LinkFrame& untrusted_frame, TimePoint now);
  void handle_of_peer(const LinkFrame& untrusted_frame, TimePoint now);
  void handle_payload(const LinkFrame& untrusted_frame);
  void open(const LinkFrame& untrusted_frame, TimePoint now);
  void end(LinkState state, std::string_view text);
  void handle_foreign(const LinkFrame& untrusted_frame, TimePoint now);
  LinkFrame frame_of(LinkFrameType type, std::uint32_t to) const;
  std::size_t payload_bytes_max() const;
  std::optional<LinkFrame> poll_open(TimePoint now, bool all);
  bool expects_answer() const;
  void note_progress(TimePoint now);
  void forget_retries();
  void watch(TimePoint now);

  LinkSettings settings_;
  LinkState state_ = LinkState::opening;
  std::string_view trouble_;
  bool peer_ended_it_ = false;  ///< and needs no CLOSE
  std::uint32_t peer_ = 0;      ///< its nonce, once the link is open
  std::uint8_t peer_flags_ = 0;
  SendWindow sending_;
  ReceiveWindow receiving_;
  std::uint16_t part_ = 0;  ///< of the first block held, released
  // What this side has said last of what it has, and whether the peer has said that more follows.
  std::uint32_t told_got_ = 0;
  LinkPlace told_place_;
  bool more_follows_ = false;

  // What is owed: at most one frame of each.
  bool syn_due_ = false;
  bool acknowledgement_due_ = false;
  bool probe_due_ = false;
  std::uint32_t syn_answer_to_ = 0;
  std::uint32_t close_to_ = 0;
  std::optional<TimePoint> closed_unknown_at_;

  bool probing_ = false;  ///< a PROBE is unanswered
  bool wants_release_ = false;
  std::optional<TimePoint> retry_at_;
  unsigned backoff_ = 0;     ///< retries since a frame of the peer's came
  unsigned retries_ = 0;     ///< since progress
  TimePoint progress_at_{};  ///< or since when an answer is expected
  LinkCounters counters_;
};

}  // namespace xenlane::transport

// The mux: many streams over one session, without I/O or clock. It knows no sockets and no lanes;
// it is told what happened and asked what to do next.
//
// Payload never passes through it. For output it says "stream S may send up to N bytes now"; the
// driver reads that socket straight into the ring behind the room for a header and asks for the
// header afterwards. For input it reads a header and says "the next N bytes belong to stream S".
//
// Control frames are not queued as frames: each stream remembers which it still owes, so that a
// peer that never reads can make no queue grow. What a peer may not do ends the session with a
// Violation; what a stream may not do resets that stream.
//
// Driver's contract: after every handle_* and mutator, poll_output until NoOutput or the lane is
// full. Call source_ready when a socket has bytes, source_drained when it had none after all.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>

#include "bridge/mux/stream.hpp"
#include "bridge/wire/frame.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

// --- what the driver is to do next -------------------------------------------------------------

struct NoOutput {};
/// A control frame to write as it is.
using ControlOutput = EncodedFrame;
/// Read up to `bytes_max` from the stream's socket into the ring, after frame_header_bytes of room.
struct DataTurn {
  StreamId id;
  std::uint32_t bytes_max;
  bool fresh;  ///< the stream was silent for a round: it has probably little to say, and first
};
using Output = std::variant<NoOutput, ControlOutput, DataTurn>;

// --- what the peer did -------------------------------------------------------------------------

/// Nothing that concerns the driver, or not enough bytes yet (then consumed is zero).
struct NoEvent {};
/// `size` payload bytes follow; they belong to `id`, or are to be thrown away when it is zero.
struct Chunk {
  StreamId id;
  std::uint32_t size;
};
struct OpenRequested {
  StreamId id;
  EndShape shape;
  std::string untrusted_name;
  SocketKind kind = SocketKind::stream;
  std::uint32_t untrusted_uid = uid_unknown;  ///< whose connection it is, as the peer says
};
struct Accepted {
  StreamId id;
};
struct Refused {
  StreamId id;
  std::uint16_t error;
  std::string untrusted_reason;
};
/// The peer has sent all it will; what was received before is complete.
struct PeerFinished {
  StreamId id;
};
/// The peer reads no more. The mux has finished this side's direction already.
struct StopRequested {
  StreamId id;
};
struct PeerReset {
  StreamId id;
  StreamError error;
};
struct PeerGoesAway {
  std::string untrusted_reason;
};
struct PongReceived {
  std::uint64_t nonce;
};
/// What the peer wants of the lane; a level, told again when it changes.
struct PeerWishes {
  LaneWish wish;
};
/// What the peer has of a channel; a level, told again when it changes.
struct PeerNotices {
  NoticedEnd end;
  std::uint32_t open;
  std::string untrusted_name;
};
/// Nothing more comes on this lane.
struct PeerLeaves {
  std::uint32_t turn;
};
/// The peer broke the protocol; the session must end. Section numbers are those of protocol.md.
struct Violation {
  std::string text;
};
using InputEvent = std::variant<NoEvent, Chunk, OpenRequested, Accepted, Refused, PeerFinished,
                                StopRequested, PeerReset, PeerGoesAway, PongReceived, PeerWishes,
                                PeerNotices, PeerLeaves, Violation>;

struct InputStep {
  std::size_t consumed = 0;  ///< header and control bytes; a Chunk's payload comes on top
  InputEvent event;
};

struct MuxCounters {
  std::uint64_t frames_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t data_bytes_in = 0;
  std::uint64_t data_bytes_out = 0;
  std::uint64_t streams_opened = 0;   ///< by either side
  std::uint64_t streams_refused = 0;  ///< by either side
  std::uint64_t streams_reset = 0;    ///< by either side
  std::uint64_t discarded_bytes = 0;  ///< for streams that are gone
};

class Mux {
 public:
  /// `ours` is what this side allows, `theirs` what the peer said in the handshake; `version` is
  /// the one agreed on there.
  Mux(Role role, const MuxLimits& ours, const MuxLimits& theirs,
      std::uint16_t version = protocol_version_max);

  // --- getters
  std::size_t stream_count() const { return streams_.size(); }
  bool has_stream(StreamId id) const { return streams_.contains(id); }
  const MuxCounters& counters() const { return counters_; }
  /// Of the protocol that this session speaks.
  std::uint16_t version() const { return version_; }
  /// Whether streams of that kind can be opened: a peer of version 2 knows no messages.
  bool speaks(SocketKind kind) const { return kind == SocketKind::stream || version_ >= 3; }
  /// False while the peer's limits or a go-away forbid another open.
  bool can_open() const;
  /// True when poll_output has something to say if only there is room.
  bool has_output() const;
  /// Received bytes the driver holds for slow sockets; never more than the session window.
  std::uint64_t held_bytes() const { return session_receive_.held(); }
  /// Bytes that the peer's session credit still allows this side to send.
  std::uint64_t session_credit() const { return session_send_.available(); }
  /// OPENs of either side whose answer is still to come or to be sent.
  std::size_t unanswered() const { return std::size_t{own_unanswered_} + peer_unanswered_; }
  /// Entries in the queues; at most two for each stream and one for each unanswered OPEN, plus a
  /// constant.
  std::size_t queued() const {
    return owing_.size() + fresh_.size() + ready_.size() + refusals_.size();
  }

  // --- what applications want; ids must be of streams that has_stream
  /// Opens a stream; only when can_open(), and of a kind that the session speaks. Data may follow
  /// at once. `uid` is the user on whose behalf.
  StreamId open(EndShape shape, std::string name, SocketKind kind = SocketKind::stream,
                std::uint32_t uid = uid_unknown);
  void accept(StreamId id);
  void refuse(StreamId id, std::uint16_t error, std::string reason);
  void source_ready(StreamId id);
  void finish(StreamId id);
  void stop_sending(StreamId id, StreamError error);
  void reset(StreamId id, StreamError error);
  void ping(std::uint64_t nonce);
  void go_away(std::string reason);
  /// Tells the peer of an end of a channel, unless its version knows no notices. Of one channel the
  /// newest counts; the caller has no more names than it has channels.
  void notice(NoticeFrame notice);
  /// `bytes` of a Chunk have left for the application. The stream may be gone by now. Returns the
  /// stream's window in bytes if that has just grown.
  std::optional<std::uint64_t> delivered(StreamId id, std::uint64_t bytes);
  /// `bytes` of a Chunk are kept elsewhere for a reader who is not there yet: the peer may send on,
  /// and the window stays as it is. They are not reported as delivered any more.
  void set_aside(StreamId id, std::uint64_t bytes);
  /// How far the peer may be ahead of the reader, in bytes.
  std::uint64_t window(StreamId id) const { return streams_.at(id).receive.window(); }

  // --- output
  /// What to write into `room` bytes of ring.
  Output poll_output(std::size_t room);
  /// How much of its turn a stream may use in one go: small where the lane is slow, so that others
  /// need not wait for it.
  void set_quantum(std::uint32_t bytes) { quantum_bytes_ = bytes; }
  /// Streams that had their turn lately are in line for another.
  bool has_other_turns() const { return !ready_.empty(); }
  /// The turn's socket gave `bytes` (> 0); the frame header to write in front of them.
  EncodedFrame data_sent(StreamId id, std::uint32_t bytes);
  /// The turn's socket had nothing; it gets no more turns until source_ready.
  void source_drained(StreamId id);

  // --- how much moves, for whoever chooses the lane
  /// From here on volume is counted anew.
  void begin_period() {
    ++period_;
    period_volume_ = 0;
  }
  /// The most payload that one stream has moved, both ways together, since begin_period.
  std::uint64_t period_volume() const { return period_volume_; }
  /// A stream whose bytes do not count as volume.
  void set_weightless(StreamId id) { stream(id).weightless = true; }

  // --- input
  InputStep handle_input(const transport::ReadableSpans& untrusted_bytes);

 private:
  Stream& stream(StreamId id);
  Stream* find(StreamId id);
  bool is_ours(StreamId id) const { return (id & 1) == own_parity_; }
  /// Ended on the wire, but its reader has not taken all of it: the bytes and the window count on,
  /// or streams that nobody reads could use up the session by ending and opening others.
  struct Lingering {
    bool opened_by_us;
    ReceiveCredit receive;
  };

  bool was_opened(StreamId id) const;
  /// The peer has not been told yet: for it the id is still in use.
  bool is_refused(StreamId id) const;
  void owe(Stream& stream, Owed what);
  void schedule(Stream& stream);
  void erase_if_done(StreamId id);
  void erase(StreamId id);
  void release_window(const ReceiveCredit& receive);
  std::optional<DataTurn> poll_turn(std::size_t room);
  std::uint32_t turn_bytes(const Stream& stream, std::size_t room) const;
  bool grow_window(Stream& stream);
  void count_volume(StreamId id, std::uint64_t bytes);

  std::optional<EncodedFrame> poll_session_frame();
  std::optional<EncodedFrame> poll_owed_frame();
  std::optional<EncodedFrame> take_owed(Stream& stream);

  InputStep handle_data_header(const FrameHeader& header);
  InputEvent handle_frame(const Frame& frame);
  InputEvent handle(const OpenFrame& frame);
  InputEvent handle(const AcceptFrame& frame);
  InputEvent handle(const RefuseFrame& frame);
  InputEvent handle(const DataFrame& frame);
  InputEvent handle(const CreditFrame& frame);
  InputEvent handle(const FinishFrame& frame);
  InputEvent handle(const StopSendingFrame& frame);
  InputEvent handle(const ResetFrame& frame);
  InputEvent handle(const PingFrame& frame);
  InputEvent handle(const PongFrame& frame);
  InputEvent handle(const GoAwayFrame& frame);
  InputEvent handle(const LaneWishFrame& frame);
  InputEvent handle(const LeaveFrame& frame);
  InputEvent handle(const NoticeFrame& frame);

  MuxLimits ours_;
  MuxLimits theirs_;
  std::uint16_t version_;
  StreamId own_parity_;
  StreamId last_own_id_;
  StreamId last_peer_id_;
  std::unordered_map<StreamId, Stream> streams_;
  std::unordered_map<StreamId, Lingering> lingering_;
  std::deque<StreamId> owing_;        ///< streams with control frames to send, each once
  std::deque<StreamId> fresh_;        ///< streams that had nothing to send for a round, each once
  std::deque<StreamId> ready_;        ///< the other streams whose socket has bytes, in turn order
  std::deque<RefuseFrame> refusals_;  ///< for streams without an entry; <= open_backlog_max

  SendCredit session_send_;
  ReceiveCredit session_receive_;
  std::uint64_t window_pool_bytes_;  ///< session window not promised to any stream
  std::uint32_t own_streams_ = 0;
  std::uint32_t peer_streams_ = 0;
  std::uint32_t own_lingering_ = 0;
  std::uint32_t peer_lingering_ = 0;
  std::uint32_t own_unanswered_ = 0;
  std::uint32_t peer_unanswered_ = 0;

  std::optional<std::uint64_t> ping_to_send_;
  std::optional<std::uint64_t> pong_to_send_;
  std::optional<std::string> go_away_to_send_;
  std::map<std::string, NoticeFrame> notices_;  ///< by channel
  bool going_away_ = false;
  bool peer_going_away_ = false;

  std::uint32_t quantum_bytes_ = data_payload_bytes_max;
  std::uint64_t period_ = 0;
  std::uint64_t period_volume_ = 0;

  StreamId data_stream_ = 0;     ///< whose DATA payload is being received
  std::uint32_t data_left_ = 0;  ///< bytes of it still to come
  MuxCounters counters_;
};

}  // namespace xenlane::bridge

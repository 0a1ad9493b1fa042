// What the peer's frames do. Every rule of docs/protocol.md sections 5 to 7 that a peer could break
// is checked here, once, on values that were copied out of the ring.
#include <algorithm>
#include <array>
#include <cerrno>

#include "bridge/mux/mux.hpp"
#include "bridge/session/session.hpp"
#include "transport/base/assert.hpp"

namespace xenlane::bridge {

namespace {

Violation violation(std::string_view section, std::string_view what) {
  return {std::string(what) + " (protocol section " + std::string(section) + ")"};
}

/// True when `id` comes after `last` in a counter that wraps (RFC 1982's comparison).
bool comes_after(StreamId id, StreamId last) {
  return static_cast<std::int32_t>(id - last) > 0;
}

}  // namespace

bool Mux::was_opened(StreamId id) const {
  const auto found = streams_.find(id);
  // One whose OPEN still waits for room is known to this side only.
  if (found != streams_.end()) return !found->second.owes(Owed::open);
  return !comes_after(id, is_ours(id) ? last_own_id_ : last_peer_id_);
}

bool Mux::is_refused(StreamId id) const {
  return std::any_of(refusals_.begin(), refusals_.end(),
                     [id](const RefuseFrame& refusal) { return refusal.id == id; });
}

InputStep Mux::handle_input(const transport::ReadableSpans& untrusted_bytes) {
  if (data_left_ > 0) {
    const auto size =
        static_cast<std::uint32_t>(std::min<std::size_t>(data_left_, untrusted_bytes.size()));
    if (size == 0) return {0, NoEvent{}};
    data_left_ -= size;
    return {0, Chunk{data_stream_, size}};
  }
  if (untrusted_bytes.size() < frame_header_bytes) return {0, NoEvent{}};
  std::array<std::byte, frame_header_bytes + control_payload_bytes_max> copy;
  copy_out(untrusted_bytes, 0, std::span(copy).first<frame_header_bytes>());
  const auto header = decode_header(std::span(copy).first<frame_header_bytes>(), version_);
  if (!header) return {0, violation("4.1", header.error().text)};
  if (header->type == FrameType::data) return handle_data_header(*header);

  const std::size_t size = frame_header_bytes + header->payload_bytes;
  if (untrusted_bytes.size() < size) return {0, NoEvent{}};
  const auto payload = std::span(copy).subspan(frame_header_bytes, header->payload_bytes);
  copy_out(untrusted_bytes, frame_header_bytes, payload);
  const auto frame = decode_frame(*header, payload, version_);
  if (!frame) return {0, violation("4.2", frame.error().text)};
  ++counters_.frames_in;
  return {size, handle_frame(*frame)};
}

InputEvent Mux::handle_frame(const Frame& frame) {
  return std::visit([this](const auto& typed) { return handle(typed); }, frame);
}

InputStep Mux::handle_data_header(const FrameHeader& header) {
  if (!was_opened(header.id)) return {0, violation("5.1", "DATA for a stream never opened")};
  if (!session_receive_.receive(header.payload_bytes)) {
    return {0, violation("6.2", "DATA beyond the session's credit")};
  }
  ++counters_.frames_in;
  counters_.data_bytes_in += header.payload_bytes;
  count_volume(header.id, header.payload_bytes);
  data_left_ = header.payload_bytes;
  data_stream_ = 0;
  Stream* receiver = find(header.id);
  if (receiver == nullptr || receiver->abandoned) {
    counters_.discarded_bytes += header.payload_bytes;
    return {frame_header_bytes, NoEvent{}};
  }
  if (receiver->opened_by_us && !receiver->answered) {
    return {0, violation("5.2", "DATA before ACCEPT")};
  }
  if (receiver->finish_received) {
    return {0, violation("5.4", "DATA after FINISH")};
  }
  if (!receiver->receive.receive(header.payload_bytes)) {
    return {0, violation("6.1", "DATA beyond the stream's credit")};
  }
  if (receiver->discarding) {
    receiver->receive.deliver(header.payload_bytes);
    counters_.discarded_bytes += header.payload_bytes;
  } else {
    data_stream_ = header.id;
  }
  return {frame_header_bytes, NoEvent{}};
}

InputEvent Mux::handle(const OpenFrame& frame) {
  if (is_ours(frame.id)) return violation("5.1", "OPEN with an id of the other side's");
  if (!comes_after(frame.id, last_peer_id_) || has_stream(frame.id) || is_refused(frame.id)) {
    return violation("5.1", "OPEN with an id that was used before");
  }
  if (peer_unanswered_ >= ours_.open_backlog_max) {
    return violation("5.1", "more unanswered OPENs than the backlog allows");
  }
  if (peer_streams_ >= ours_.streams_max) {
    return violation("5.1", "more streams than this side allows");
  }
  last_peer_id_ = frame.id;
  ++peer_streams_;
  ++peer_unanswered_;
  ++counters_.streams_opened;
  streams_.try_emplace(frame.id, frame.id, false, theirs_.stream_window_bytes_min,
                       ours_.stream_window_bytes_min);
  if (going_away_) {
    refuse(frame.id, ESHUTDOWN, "shutting down");
    return NoEvent{};
  }
  if (lingering_.contains(frame.id)) {
    // Its ids have come around; two streams of one id could not be told apart.
    refuse(frame.id, EAGAIN, "a stream of this id has ended and nobody has read all its bytes");
    return NoEvent{};
  }
  if (peer_streams_ + peer_lingering_ > ours_.streams_max) {
    // The peer counts the ended ones as gone, so this is no fault of its.
    refuse(frame.id, EAGAIN, "too many ended streams whose bytes nobody has read");
    return NoEvent{};
  }
  return OpenRequested{frame.id, frame.shape, frame.name, frame.kind, frame.uid};
}

InputEvent Mux::handle(const AcceptFrame& frame) {
  Stream* accepted = find(frame.id);
  if (accepted == nullptr || !accepted->opened_by_us || accepted->answered ||
      accepted->owes(Owed::open)) {
    return violation("5.2", "ACCEPT of nothing that was asked for");
  }
  --own_unanswered_;
  accepted->answered = true;
  if (accepted->abandoned) {
    erase(frame.id);
    return NoEvent{};
  }
  if (accepted->owes(Owed::reset)) return NoEvent{};  // its application gave up meanwhile
  return Accepted{frame.id};
}

InputEvent Mux::handle(const RefuseFrame& frame) {
  Stream* refused = find(frame.id);
  if (refused == nullptr || !refused->opened_by_us || refused->answered ||
      refused->owes(Owed::open)) {
    return violation("5.2", "REFUSE of nothing that was asked for");
  }
  --own_unanswered_;
  ++counters_.streams_refused;
  const bool forgotten = refused->abandoned || refused->owes(Owed::reset);
  erase(frame.id);
  if (forgotten) return NoEvent{};
  return Refused{frame.id, frame.error, frame.reason};
}

InputEvent Mux::handle(const DataFrame&) {
  const bool handled_by_its_header = false;
  XENLANE_ASSERT(handled_by_its_header);
  return NoEvent{};
}

InputEvent Mux::handle(const CreditFrame& frame) {
  if (frame.id == 0) {
    session_send_.raise(frame.limit);
    return NoEvent{};
  }
  if (!was_opened(frame.id)) return violation("5.1", "CREDIT for a stream never opened");
  if (Stream* sender = find(frame.id)) {
    sender->send.raise(frame.limit);
    schedule(*sender);
  }
  return NoEvent{};
}

InputEvent Mux::handle(const FinishFrame& frame) {
  if (!was_opened(frame.id)) return violation("5.1", "FINISH of a stream never opened");
  Stream* finished = find(frame.id);
  if (finished == nullptr || finished->abandoned) return NoEvent{};
  if (finished->opened_by_us && !finished->answered) {
    return violation("5.2", "FINISH before ACCEPT");
  }
  if (finished->finish_received) return violation("5.4", "FINISH twice");
  if (finished->receive.received() != frame.size) {
    return violation("5.4", "FINISH whose size is not what was sent");
  }
  finished->finish_received = true;
  const bool wanted = !finished->discarding;
  erase_if_done(frame.id);
  if (!wanted) return NoEvent{};
  return PeerFinished{frame.id};
}

InputEvent Mux::handle(const StopSendingFrame& frame) {
  if (!was_opened(frame.id)) return violation("5.1", "STOP_SENDING of a stream never opened");
  Stream* stopped = find(frame.id);
  if (stopped == nullptr || stopped->finish_wanted) return NoEvent{};
  finish(frame.id);
  return StopRequested{frame.id};
}

InputEvent Mux::handle(const ResetFrame& frame) {
  if (!was_opened(frame.id)) return violation("5.1", "RESET of a stream never opened");
  Stream* dropped = find(frame.id);
  if (dropped == nullptr || dropped->abandoned) return NoEvent{};
  if (dropped->opened_by_us && !dropped->answered) {
    return violation("5.2", "RESET before ACCEPT or REFUSE");
  }
  ++counters_.streams_reset;
  const bool known_gone = dropped->owes(Owed::reset);
  if (!dropped->opened_by_us && (!dropped->answered || dropped->owes(Owed::accept))) {
    // Every OPEN gets an answer, this one too: the opener counts them.
    refusals_.push_back({frame.id, ECANCELED, "reset by the opener"});
  }
  erase(frame.id);
  if (known_gone) return NoEvent{};
  return PeerReset{frame.id, frame.error};
}

InputEvent Mux::handle(const PingFrame& frame) {
  pong_to_send_ = frame.nonce;
  return NoEvent{};
}

InputEvent Mux::handle(const PongFrame& frame) {
  return PongReceived{frame.nonce};
}

InputEvent Mux::handle(const LaneWishFrame& frame) {
  return PeerWishes{frame.wish};
}

InputEvent Mux::handle(const LeaveFrame& frame) {
  return PeerLeaves{frame.turn};
}

InputEvent Mux::handle(const GoAwayFrame& frame) {
  peer_going_away_ = true;
  return PeerGoesAway{frame.reason};
}

}  // namespace xenlane::bridge

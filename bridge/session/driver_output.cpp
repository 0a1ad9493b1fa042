// What a driver puts on its lane, in this order: the handshake, what is sent again, what this side
// has to say of the lane, and the mux's frames.
#include <algorithm>

#include "bridge/session/driver.hpp"

namespace xenlane::bridge {

namespace {

/// How many bytes one pass puts out before input gets its turn.
constexpr std::size_t output_bytes_per_pass = 256 * 1024;
/// On a slow lane: so many turns keep it busy, and a turn is never longer than so many times its
/// usual length.
constexpr std::size_t turns_under_way = 4;
constexpr std::size_t slow_turns_max = 4;

}  // namespace

// True when there is more to send and room for it, but others should have a turn first.
bool SessionDriver::pump_output() {
  if (is_slow() && phase_ == Phase::carrying) session_.mux()->set_quantum(turn_bytes_max());
  std::size_t sent = 0;
  std::uint64_t frames = 0;
  while (sent < output_bytes_per_pass && frames++ < frames_per_pass) {
    const auto room = lane_->writable();
    std::size_t count = 0;
    if (const auto ahead = write_ahead_of_mux(room)) {
      if (*ahead == 0) return false;
      sent += *ahead;
      continue;
    }
    const Output output = session_.mux()->poll_output(room_for_frames(room.size()));
    if (std::holds_alternative<NoOutput>(output)) return false;
    if (const auto* control = std::get_if<ControlOutput>(&output)) {
      count = write_frame(*control, room);
    } else {
      const auto& turn = std::get<DataTurn>(output);
      // A long copy may follow: what is written already need not wait for it. Short frames go
      // together, where each publish costs a system call.
      if (!turn.fresh && !is_slow()) publish();
      count = write_data(turn, room);
    }
    lane_->commit(count);
    session_.count_sent(count);
    carried_out_ += count;
    sent += count;
    send_limit_.sent(count);
    unpublished_ += count;
    if (unpublished_ >= publish_bytes) publish();
  }
  return true;
}

// The handshake, what is sent again, and what this side has to say of the lane. Returns what was
// written, zero when there is no room; nothing when it is the mux's turn.
std::optional<std::size_t> SessionDriver::write_ahead_of_mux(const transport::WritableSpans& room) {
  if (const auto greeting = handshake_.output(); !greeting.empty()) {
    const std::size_t count = std::min(greeting.size(), room.size());
    copy_in(room, 0, greeting.first(count));
    lane_->commit(count);
    handshake_.count_sent(count);
    return count;
  }
  if (phase_ != Phase::carrying || leave_sent_) return 0;
  if (const auto again = session_.resend(); !again.empty()) {
    const std::size_t count = std::min({again.size(), room.size(), publish_bytes});
    copy_in(room, 0, again.first(count));
    lane_->commit(count);
    carried_out_ += count;
    session_.count_resent(count);
    publish();
    return count;
  }
  const bool tells_wish = wish_ != wish_told_;
  if (!tells_wish && !leave_wanted_) return std::nullopt;
  const EncodedFrame frame =
      tells_wish ? encode_frame(LaneWishFrame{wish_}) : encode_frame(LeaveFrame{handshake_.turn()});
  if (room.size() < frame.size) return 0;
  if (tells_wish) {
    wish_told_ = wish_;
  } else {
    leave_sent_ = true;
  }
  const std::size_t count = write_frame(frame, room);
  lane_->commit(count);
  session_.count_sent(count);
  carried_out_ += count;
  return count;
}

// What one stream may send before it is another's turn: on a slow lane more where it packs well.
std::uint32_t SessionDriver::turn_bytes_max() const {
  if (!is_slow()) return terms_.payload_bytes_max;
  const std::size_t shared = lane_->useful_bytes_max() / turns_under_way;
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(
      shared, terms_.payload_bytes_max, slow_turns_max * std::size_t{terms_.payload_bytes_max}));
}

// Of `room` bytes in the ring, those that the limits leave. Control frames always have what there
// is.
std::size_t SessionDriver::room_for_frames(std::size_t room) const {
  const std::size_t in_flight = lane_->send_ring_bytes() - room;
  std::size_t for_data = send_limit_.allowed(room);
  if (is_slow()) {
    const std::size_t frame_bytes = frame_header_bytes + turn_bytes_max();
    for_data = in_flight <= lane_->useful_bytes_max() ? std::min(for_data, frame_bytes) : 0;
  }
  return std::max(for_data, std::min(room, frame_header_bytes + control_payload_bytes_max));
}

void SessionDriver::publish() {
  lane_->publish();
  unpublished_ = 0;
}

std::size_t SessionDriver::write_frame(const EncodedFrame& frame,
                                       const transport::WritableSpans& room) {
  copy_in(room, 0, frame.view());
  return frame.size;
}

bool SessionDriver::wants_room() const {
  if (!handshake_.output().empty()) return true;
  if (phase_ != Phase::carrying || leave_sent_) return false;
  return !session_.resend().empty() || wish_ != wish_told_ || leave_wanted_ ||
         session_.mux()->has_output();
}

// Payload first, straight from the socket, behind the room for the header that is only known then.
std::size_t SessionDriver::write_data(const DataTurn& turn, const transport::WritableSpans& room) {
  const auto got = owner_.read_source(turn.id, room.slice(frame_header_bytes, turn.bytes_max));
  if (turn.fresh && got.bytes > 0 && session_.mux()->has_other_turns())
    send_limit_.silence_ended(got.bytes);
  if (got.bytes > 0) copy_in(room, 0, session_.mux()->data_sent(turn.id, got.bytes).view());
  if (got.drained) session_.mux()->source_drained(turn.id);
  return got.bytes > 0 ? frame_header_bytes + got.bytes : 0;
}

}  // namespace xenlane::bridge

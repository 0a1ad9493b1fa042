#include "transport/console/send_window.hpp"

#include <algorithm>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

namespace {

/// What is sent again of them to learn from the answer what the peer has.
std::uint32_t first_of(std::uint32_t bytes) {
  return std::min<std::uint32_t>(bytes, link_text_payload_bytes_max);
}

}  // namespace

void SendWindow::write(std::span<const std::byte> bytes) {
  XENLANE_ASSERT(bytes.size() <= room());
  const std::size_t offset = end_ % link_window_bytes;
  const auto first = bytes.first(std::min(bytes.size(), link_window_bytes - offset));
  copy_bytes(first, ring_.data() + offset);
  copy_bytes(bytes.subspan(first.size()), ring_.data());
  end_ += static_cast<std::uint32_t>(bytes.size());
}

// Less than a frame waits, as in RFC 896, for what is under way to arrive; unless the peer was told
// that more follows, and holds its answer back.
bool SendWindow::waits(bool all) const {
  return !all && !promised_ && has_unacknowledged() && end_ - next_ < trust_.frame_bytes;
}

std::optional<SendWindow::Segment> SendWindow::poll(std::size_t bytes_max, bool all,
                                                    TimePoint now) {
  trust_.frame_bytes = std::min(trust_.frame_bytes, bytes_max);
  const bool again = again_from_ != again_to_;
  if (!again && waits(all)) return std::nullopt;
  std::uint32_t& from = again ? again_from_ : next_;
  const std::uint32_t to = again ? again_to_ : end_;
  if (from == to) return std::nullopt;
  const std::size_t offset = from % link_window_bytes;
  const std::size_t size =
      std::min({trust_.frame_bytes, std::size_t{to - from}, link_window_bytes - offset});
  Segment out{from, std::span(ring_).subspan(offset, size), again};
  from += static_cast<std::uint32_t>(size);
  promised_ = false;
  promised_ = out.more = again_from_ != again_to_ || (next_ != end_ && !waits(all));
  if (again) {
    repeated_at_ = now;
    sampling_since_.reset();  // its acknowledgement would not tell which of the two it is for
  } else if (!sampling_since_) {
    sampling_since_ = now;
    sampling_end_ = next_;
  }
  return out;
}

SendWindow::Heard SendWindow::handle(const LinkFrame& untrusted_frame, TimePoint now) {
  const std::uint32_t got = untrusted_frame.got;
  if (is_after(acknowledged_, got)) return Heard::nothing;
  if (got - acknowledged_ > next_ - acknowledged_ || untrusted_frame.held > link_window_bytes ||
      (untrusted_frame.hole != 0 && untrusted_frame.hole >= next_ - got)) {
    return Heard::impossible;
  }
  const bool progress = got != acknowledged_;
  handle_arrived(got - acknowledged_);
  acknowledged_ = got;
  take_released(got - untrusted_frame.held, untrusted_frame.part);
  if (is_after(acknowledged_, again_from_)) again_from_ = acknowledged_;
  if (is_after(again_from_, again_to_)) again_to_ = again_from_;
  hole_ = untrusted_frame.hole;
  if (progress) take_sample(now);
  look_for_losses(progress, now);
  return progress ? Heard::progress : Heard::nothing;
}

void SendWindow::take_released(std::uint32_t position, std::uint16_t part) {
  if (is_after(released_.position, position)) return;
  const bool same = position == released_.position;
  released_ = {position, same ? std::max(released_.part, part) : part};
}

void SendWindow::take_sample(TimePoint now) {
  if (!sampling_since_ || is_after(sampling_end_, acknowledged_)) return;
  round_trip_.sample(std::chrono::duration_cast<RoundTrip::Duration>(now - *sampling_since_));
  sampling_since_.reset();
}

void SendWindow::look_for_losses(bool progress, TimePoint now) {
  if (hole_ != 0) {
    timed_out_ = false;
    if (!was_sent_again(acknowledged_, now)) {
      send_again(acknowledged_, acknowledged_ + hole_, now);
    }
    return;
  }
  if (!timed_out_ || !progress) return;
  const bool more_than_sent_again = is_after(acknowledged_, repeated_to_);
  if (is_after(timed_out_at_, acknowledged_) && more_than_sent_again) {
    // What was sent before is arriving, only late (RFC 5682); or its end was lost. The answer to
    // its next bytes tells which.
    repeat(acknowledged_, acknowledged_ + first_of(timed_out_at_ - acknowledged_), now);
    return;
  }
  timed_out_ = false;
  if (is_after(timed_out_at_, acknowledged_)) {
    // The peer has what was sent again, and knows of no gap: the rest never came.
    send_again(again_from_, timed_out_at_, now);
  } else if (more_than_sent_again) {
    trust_ = trust_before_timeout_;  // nothing was lost but time
  }
}

void SendWindow::handle_timeout(TimePoint now) {
  if (!has_unacknowledged()) return;
  std::uint32_t count = hole_;
  if (hole_ == 0) {
    if (!timed_out_) trust_before_timeout_ = trust_;
    timed_out_ = true;
    timed_out_at_ = next_;
    count = first_of(next_ - acknowledged_);
  }
  send_again(acknowledged_, acknowledged_ + count, now);
}

void SendWindow::handle_loss() {
  trust_.frame_bytes = std::max(trust_.frame_bytes / 2, frame_payload_bytes_min);
  trust_.arrived = trust_.arrived_since_loss = 0;
}

void SendWindow::handle_arrived(std::uint32_t bytes) {
  trust_.arrived += bytes;
  trust_.arrived_since_loss = std::min(trust_.arrived_since_loss + bytes, proven_bytes);
  if (trust_.arrived < frames_until_longer * trust_.frame_bytes) return;
  trust_.frame_bytes = std::min(2 * trust_.frame_bytes, link_binary_payload_bytes_max);
  trust_.arrived = 0;
}

void SendWindow::send_again(std::uint32_t from, std::uint32_t to, TimePoint now) {
  handle_loss();
  repeat(from, to, now);
}

void SendWindow::repeat(std::uint32_t from, std::uint32_t to, TimePoint now) {
  again_from_ = repeated_from_ = from;
  again_to_ = repeated_to_ = to;
  repeated_at_ = now;
}

bool SendWindow::was_sent_again(std::uint32_t position, TimePoint now) const {
  return position - repeated_from_ < repeated_to_ - repeated_from_ &&
         now - repeated_at_ < round_trip_.usual_max();
}

}  // namespace xenlane::transport

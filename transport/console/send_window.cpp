#include "transport/console/send_window.hpp"

#include <algorithm>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

void SendWindow::write(std::span<const std::byte> bytes) {
  XENLANE_ASSERT(bytes.size() <= room());
  const std::size_t offset = end_ % link_window_bytes;
  const auto first = bytes.first(std::min(bytes.size(), link_window_bytes - offset));
  copy_bytes(first, ring_.data() + offset);
  copy_bytes(bytes.subspan(first.size()), ring_.data());
  end_ += static_cast<std::uint32_t>(bytes.size());
}

std::optional<SendWindow::Segment> SendWindow::poll(std::size_t bytes_max, TimePoint now) {
  const bool again = again_from_ != again_to_;
  std::uint32_t& from = again ? again_from_ : next_;
  const std::uint32_t to = again ? again_to_ : end_;
  if (from == to) return std::nullopt;
  const std::size_t offset = from % link_window_bytes;
  frame_bytes_ = std::min(frame_bytes_, bytes_max);
  const std::size_t size =
      std::min({frame_bytes_, std::size_t{to - from}, link_window_bytes - offset});
  Segment out{from, std::span(ring_).subspan(offset, size), again};
  from += static_cast<std::uint32_t>(size);
  out.more = from != to || next_ != end_;
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
  // The peer has what was sent again, and knows of no gap: what was sent before that never came.
  timed_out_ = false;
  if (is_after(timed_out_at_, acknowledged_)) send_again(again_from_, timed_out_at_, now);
}

void SendWindow::handle_timeout(TimePoint now) {
  if (!has_unacknowledged()) return;
  std::uint32_t count = hole_;
  if (hole_ == 0) {
    timed_out_ = true;
    timed_out_at_ = next_;
    count = std::min<std::uint32_t>(next_ - acknowledged_, link_text_payload_bytes_max);
  }
  send_again(acknowledged_, acknowledged_ + count, now);
}

void SendWindow::handle_loss() {
  frame_bytes_ = std::max(frame_bytes_ / 2, frame_payload_bytes_min);
  arrived_ = arrived_since_loss_ = 0;
}

void SendWindow::handle_arrived(std::uint32_t bytes) {
  arrived_ += bytes;
  arrived_since_loss_ = std::min(arrived_since_loss_ + bytes, proven_bytes);
  if (arrived_ < frames_until_longer * frame_bytes_) return;
  frame_bytes_ = std::min(2 * frame_bytes_, link_binary_payload_bytes_max);
  arrived_ = 0;
}

void SendWindow::send_again(std::uint32_t from, std::uint32_t to, TimePoint now) {
  handle_loss();
  again_from_ = repeated_from_ = from;
  again_to_ = repeated_to_ = to;
  repeated_at_ = now;
}

bool SendWindow::was_sent_again(std::uint32_t position, TimePoint now) const {
  return position - repeated_from_ < repeated_to_ - repeated_from_ &&
         now - repeated_at_ < round_trip_.usual_max();
}

}  // namespace xenlane::transport

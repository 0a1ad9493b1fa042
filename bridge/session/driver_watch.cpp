// What a driver waits for with a limit: the handshake, a lane that has timers, a peer that reads,
// and events that arrive.
#include "bridge/session/driver.hpp"

namespace xenlane::bridge {

namespace {

using Clock = std::chrono::steady_clock;

/// How often a peer that leaves bytes lying is woken again: the cure for a lost event.
constexpr std::chrono::milliseconds stall_tick{250};
/// Ticks in a row in which the peer did what an event was asked for and none came: one may be lost,
/// not all.
constexpr unsigned unheard_ticks_max = 4;

}  // namespace

bool SessionDriver::arm_lane() {
  asked_for_room_ = wants_room();
  return lane_->arm(true, asked_for_room_);
}

void SessionDriver::wait_for_peer() {
  // After the last look at the lane, which may have sent what wants an answer, or ceased to ask.
  keep_deadline();
  watch_stall();
  slept_ = true;
  if (waiting_) return;
  if (const auto pause = lane_->look_away(); pause > pause.zero()) return look_away(pause);
  waiting_ = true;
  wake_up_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                      [this, alive = alive_](const boost::system::error_code& error) {
                        if (!*alive) return;
                        waiting_ = false;
                        if (!error) handle_wake_up();
                      });
}

void SessionDriver::look_away(std::chrono::microseconds pause) {
  if (pausing_) return;
  pausing_ = true;
  pause_timer_.expires_after(pause);
  pause_timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!*alive) return;
    pausing_ = false;
    if (!error) handle_wake_up();
  });
}

void SessionDriver::handle_wake_up() {
  if (phase_ == Phase::ended) return;
  ++counters_.wake_ups;
  lane_->acknowledge();
  if (is_slow() && !arm_lane()) {
    wait_for_peer();  // a part of something; there will be more of it
  } else {
    pump();
  }
}

// Some lanes want to be looked at although nothing woke them.
void SessionDriver::keep_deadline() {
  const auto due = lane_->deadline();
  // Deadlines mostly move on, with every answer. A timer that is early then looks again.
  if (!due || (lane_due_ && *lane_due_ <= *due)) return;
  lane_due_ = due;
  lane_timer_.expires_at(*due);
  lane_timer_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive || phase_ == Phase::ended) return;
    lane_due_.reset();
    lane_->acknowledge();
    pump();
  });
}

void SessionDriver::check_lane(bool more_input) {
  const auto why = [this](std::string_view otherwise) {
    return std::string(lane_->trouble().empty() ? otherwise : lane_->trouble());
  };
  switch (lane_->state()) {
    case transport::LaneState::awaiting_peer:
      return;
    case transport::LaneState::open:
      limit_handshake();
      return;
    case transport::LaneState::closed:
      // What the peer committed before it went is still to be read, and it may have committed
      // between our last look and the close: only a pass begun after the close may end the lane.
      if (close_seen_ && !more_input) end(why("the peer closed the lane"));
      close_seen_ = true;
      return;
    case transport::LaneState::violated:
      end(why("the peer wrote an impossible ring index"));
      return;
  }
}

void SessionDriver::limit_handshake() {
  const bool greets = phase_ == Phase::greeting && (!terms_.standby || heard_ || has_spoken());
  if (handshake_timed_ || !(greets || leave_sent_)) return;
  handshake_timed_ = true;
  handshake_timer_.expires_after(timeouts_.handshake);
  handshake_timer_.async_wait([this, alive = alive_](const auto& error) {
    // Who slept for long finds timers that are due beside what they waited for.
    if (error || !*alive || !handshake_timed_ || Clock::now() < handshake_timer_.expiry()) return;
    const std::string limit = " within " + std::to_string(timeouts_.handshake.count()) + " ms";
    end((phase_ == Phase::carrying ? "the peer did not leave the lane" : "no handshake") + limit);
  });
}

void SessionDriver::watch_stall() {
  // A lane with a deadline looks after itself.
  const bool owed = lane_->unconsumed_bytes() > 0 || waits_for_hello();
  if (stall_watched_ || lane_->deadline() || !owed ||
      lane_->state() != transport::LaneState::open) {
    return;
  }
  stall_watched_ = true;
  stalled_for_ = {};
  stalled_bytes_ = lane_->unconsumed_bytes();
  stalled_sent_ = carried_out_;
  stall_timer_.expires_after(stall_tick);
  stall_timer_.async_wait([this, alive = alive_](const auto& error) {
    if (!error && *alive) handle_stall_tick();
  });
}

void SessionDriver::handle_stall_tick() {
  stall_watched_ = false;
  if (phase_ == Phase::ended) return;
  const std::size_t unconsumed = lane_->unconsumed_bytes();
  const std::uint64_t sent = carried_out_;
  if (lane_->state() != transport::LaneState::open) {
    schedule();  // it ended and no event told: a pass finds out how
    return;
  }
  const bool moved = sent - unconsumed != stalled_sent_ - stalled_bytes_;
  const bool heard = counters_.wake_ups != std::exchange(wake_ups_seen_, counters_.wake_ups);
  const bool slept = std::exchange(slept_, false);
  // A peer that reads what this side need not hear of tells nothing.
  const bool owed_event = (moved && asked_for_room_) || std::exchange(found_unheard_, false);
  unheard_ticks_ = owed_event && slept && !heard ? unheard_ticks_ + 1 : 0;
  if (unheard_ticks_ >= unheard_ticks_max) {
    end("the peer is at work and none of its events arrives");
    return;
  }
  ticked_ = true;
  if (waits_for_hello()) lane_->nudge();
  if (unconsumed == 0 || moved) {
    // There is room, and perhaps the event that told so was lost: a pass uses it, and watches on.
    schedule();
    return;
  }
  const auto stalled = stalled_for_ + stall_tick;
  if (stalled >= timeouts_.peer_stall) {
    stop("the peer has not read for " + std::to_string(stalled.count()) + " ms");
    return;
  }
  ++counters_.nudges;
  lane_->nudge();
  keep_deadline();
  watch_stall();
  stalled_for_ = stalled;
}

}  // namespace xenlane::bridge

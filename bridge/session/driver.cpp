#include "bridge/session/driver.hpp"

#include <sched.h>

#include <algorithm>
#include <boost/asio/post.hpp>

namespace xenlane::bridge {

namespace {

using Clock = std::chrono::steady_clock;

/// How many bytes one pass takes in before output and other work get their turn.
constexpr std::size_t input_bytes_per_pass = 256 * 1024;
/// How many bytes one pass puts out before input gets its turn.
constexpr std::size_t output_bytes_per_pass = 256 * 1024;
/// How many frames either of them handles: a system call each, however few bytes they carry.
constexpr std::uint64_t frames_per_pass = 512;
/// Bytes after which the peer is shown progress in mid-pass, so that both ends work at once.
constexpr std::size_t publish_bytes = 64 * 1024;
/// How often a peer that leaves bytes lying is woken again: the cure for a lost event.
constexpr std::chrono::milliseconds stall_tick{250};

}  // namespace

SessionDriver::SessionDriver(const boost::asio::any_io_executor& executor,
                             std::unique_ptr<transport::Lane> lane,
                             const Session::Settings& settings, const DriverTimeouts& timeouts,
                             StreamOwner& owner)
    : executor_(executor),
      lane_(std::move(lane)),
      session_(settings),
      timeouts_(timeouts),
      owner_(owner),
      wake_up_(executor, lane_->wait_fd()),
      handshake_timer_(executor),
      stall_timer_(executor),
      ended_(executor),
      poll_budget_(timeouts.poll_max),
      send_limit_(lane_->send_ring_bytes()) {}

SessionDriver::~SessionDriver() {
  *alive_ = false;
  if (wake_up_.is_open()) wake_up_.release();  // the lane owns the descriptor
}

boost::asio::awaitable<std::string> SessionDriver::run() {
  const std::size_t ring_bytes = std::min(lane_->receive_ring_bytes(), lane_->send_ring_bytes());
  if (ring_bytes < ring_bytes_min) {
    // The peer chose it. The mux would wait for ever for room that such a ring cannot have.
    session_.fail("the lane's rings of " + std::to_string(ring_bytes) + " bytes are smaller than " +
                  std::to_string(ring_bytes_min));
  }
  schedule();
  while (session_.state() != SessionState::down) co_await ended_.wait();
  handshake_timer_.cancel();
  stall_timer_.cancel();
  // A REJECT is the peer's only explanation; it reads what was committed before the lane closed.
  if (const auto last_words = session_.poll_greeting(); !last_words.empty()) {
    const auto room = lane_->writable();
    if (room.size() >= last_words.size()) lane_->commit(write_bytes(last_words, room));
  }
  lane_->publish();
  wake_up_.release();
  co_return session_.reason();
}

std::unique_ptr<transport::Lane> SessionDriver::release_lane() {
  return std::move(lane_);
}

void SessionDriver::wake() {
  if (!pumping_) schedule();  // a pump under way looks for output before it ends
}

void SessionDriver::stop(std::string reason) {
  session_.fail(std::move(reason));
  ended_.raise();
}

void SessionDriver::schedule() {
  if (scheduled_ || session_.state() == SessionState::down) return;
  scheduled_ = true;
  boost::asio::post(executor_, [this, alive = alive_] {
    if (!*alive) return;
    scheduled_ = false;
    pump();
  });
}

void SessionDriver::pump() {
  if (session_.state() == SessionState::down) return;
  pumping_ = true;
  const bool more_input = pump_input();
  const bool more_output = session_.state() != SessionState::down && pump_output();
  pumping_ = false;
  publish();
  owner_.handle_pass_over();
  check_lane(more_input);
  if (session_.state() == SessionState::down) {
    ended_.raise();
    return;
  }
  watch_stall();
  note_work();
  const bool wants_room = !session_.poll_greeting().empty() || (mux_ && mux_->has_output());
  if (more_input || more_output || keep_looking() || lane_->arm(true, wants_room)) {
    schedule();
  } else {
    wait_for_peer();
  }
}

// True when there is more to read but others should have a turn first.
bool SessionDriver::pump_input() {
  std::size_t taken = 0;
  const std::uint64_t frames_before = frames_in();
  while (taken < input_bytes_per_pass && frames_in() - frames_before < frames_per_pass) {
    const auto bytes = lane_->readable();
    if (bytes.empty()) return false;
    const std::size_t count = handle_bytes(bytes);
    if (count == 0) return false;
    lane_->consume(count);
    publish();
    taken += count;
    if (session_.state() == SessionState::down) return false;
  }
  return true;
}

// Handles frames at the front of what is readable, up to publish_bytes or so of it.
std::size_t SessionDriver::handle_bytes(const transport::ReadableSpans& bytes) {
  if (session_.state() == SessionState::greeting) {
    const std::size_t count = session_.handle_greeting(bytes);
    if (session_.state() == SessionState::up) {
      handshake_timer_.cancel();
      mux_.emplace(session_.role(), session_.local_limits(), session_.peer().limits);
      owner_.handle_session_up();
    }
    return count;
  }
  std::size_t used = 0;
  const std::uint64_t frames_before = frames_in();
  while (used < bytes.size() && used < publish_bytes &&
         frames_in() - frames_before < frames_per_pass) {
    const auto step = mux_->handle_input(bytes.slice(used, bytes.size()));
    used += step.consumed;
    if (const auto* chunk = std::get_if<Chunk>(&step.event)) {
      const auto payload = bytes.slice(used, chunk->size);
      if (chunk->id == 0) {
        mux_->delivered(0, chunk->size);
      } else {
        owner_.deliver(chunk->id, payload);
      }
      used += chunk->size;
    } else if (const auto* violation = std::get_if<Violation>(&step.event)) {
      session_.fail("the peer broke the protocol: " + violation->text);
      break;
    } else if (!std::holds_alternative<NoEvent>(step.event)) {
      owner_.handle_event(step.event);
    } else if (step.consumed == 0) {
      break;
    }
  }
  session_.count_consumed(used);
  return used;
}

// True when there is more to send and room for it, but others should have a turn first.
bool SessionDriver::pump_output() {
  std::size_t sent = 0;
  std::uint64_t frames = 0;
  while (sent < output_bytes_per_pass && frames++ < frames_per_pass) {
    const auto room = lane_->writable();
    std::size_t count = 0;
    if (const auto greeting = session_.poll_greeting(); !greeting.empty()) {
      count = write_bytes(greeting.first(std::min(greeting.size(), room.size())), room);
      session_.greeting_sent(count);
      lane_->commit(count);
      if (count == 0) return false;
      continue;
    }
    if (!mux_) return false;
    const Output output = mux_->poll_output(room_for_frames(room.size()));
    if (std::holds_alternative<NoOutput>(output)) return false;
    if (const auto* control = std::get_if<ControlOutput>(&output)) {
      count = write_bytes(control->view(), room);
    } else {
      const auto& turn = std::get<DataTurn>(output);
      // A long copy may follow: what is written already need not wait for it.
      if (!turn.fresh) publish();
      count = write_data(turn, room);
    }
    lane_->commit(count);
    session_.count_sent(count);
    sent += count;
    send_limit_.sent(count);
    unpublished_ += count;
    if (unpublished_ >= publish_bytes) publish();
  }
  return true;
}

// Of `room` bytes in the ring, those that the limit leaves. Control frames always have what there
// is.
std::size_t SessionDriver::room_for_frames(std::size_t room) const {
  return std::max(send_limit_.allowed(room),
                  std::min(room, frame_header_bytes + control_payload_bytes_max));
}

void SessionDriver::publish() {
  lane_->publish();
  unpublished_ = 0;
}

std::size_t SessionDriver::write_bytes(std::span<const std::byte> bytes,
                                       const transport::WritableSpans& room) {
  copy_in(room, 0, bytes);
  return bytes.size();
}

// Payload first, straight from the socket, behind the room for the header that is only known then.
std::size_t SessionDriver::write_data(const DataTurn& turn, const transport::WritableSpans& room) {
  const auto got = owner_.read_source(turn.id, room.slice(frame_header_bytes, turn.bytes_max));
  if (turn.fresh && got.bytes > 0 && mux_->has_other_turns()) send_limit_.silence_ended(got.bytes);
  if (got.bytes > 0) copy_in(room, 0, mux_->data_sent(turn.id, got.bytes).view());
  if (got.drained) mux_->source_drained(turn.id);
  return got.bytes > 0 ? frame_header_bytes + got.bytes : 0;
}

// Ends a wait if this pass has moved anything.
void SessionDriver::note_work() {
  const std::uint64_t moved = session_.bytes_sent() + session_.bytes_consumed();
  if (moved == bytes_moved_) return;
  bytes_moved_ = moved;
  if (!idle_since_) return;
  if (asleep_) {
    poll_budget_.found_asleep(Clock::now() - *idle_since_);
  } else {
    poll_budget_.found_looking();
  }
  idle_since_.reset();
  asleep_ = false;
}

// True when the next pass should come at once although this one found nothing more to do. Between
// the two, the event loop looks at every socket without waiting and whoever else wants this
// processor gets it: often the very program that makes the work.
bool SessionDriver::keep_looking() {
  if (!mux_ || asleep_ || poll_budget_.max() == PollBudget::Duration::zero()) return false;
  const auto now = Clock::now();
  if (!idle_since_) idle_since_ = now;
  if (now - *idle_since_ >= poll_budget_.current()) {
    asleep_ = true;
    return false;
  }
  ::sched_yield();
  if (Clock::now() - now > poll_budget_.max()) poll_budget_.crowded_out();
  return true;
}

void SessionDriver::wait_for_peer() {
  if (waiting_) return;
  waiting_ = true;
  wake_up_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                      [this, alive = alive_](const boost::system::error_code& error) {
                        if (!*alive) return;
                        waiting_ = false;
                        if (error || session_.state() == SessionState::down) return;
                        ++counters_.wake_ups;
                        lane_->acknowledge();
                        pump();
                      });
}

void SessionDriver::check_lane(bool more_input) {
  switch (lane_->state()) {
    case transport::LaneState::awaiting_peer:
      return;
    case transport::LaneState::open:
      if (session_.state() == SessionState::greeting && !handshake_timed_) {
        handshake_timed_ = true;
        handshake_timer_.expires_after(timeouts_.handshake);
        handshake_timer_.async_wait([this, alive = alive_](const auto& error) {
          if (error || !*alive || session_.state() != SessionState::greeting) return;
          stop("no handshake within " + std::to_string(timeouts_.handshake.count()) + " ms");
        });
      }
      return;
    case transport::LaneState::closed:
      // What the peer committed before it went is still to be read, and it may have committed
      // between our last look and the close: only a pass begun after the close may end the session.
      if (close_seen_ && !more_input) session_.fail("the peer closed the lane");
      close_seen_ = true;
      return;
    case transport::LaneState::violated:
      session_.fail("the peer wrote an impossible ring index");
      return;
  }
}

void SessionDriver::watch_stall() {
  if (stall_watched_ || lane_->unconsumed_bytes() == 0 ||
      lane_->state() != transport::LaneState::open) {
    return;
  }
  stall_watched_ = true;
  stalled_for_ = {};
  stalled_bytes_ = lane_->unconsumed_bytes();
  stalled_sent_ = session_.bytes_sent();
  stall_timer_.expires_after(stall_tick);
  stall_timer_.async_wait([this, alive = alive_](const auto& error) {
    if (!error && *alive) handle_stall_tick();
  });
}

void SessionDriver::handle_stall_tick() {
  stall_watched_ = false;
  if (session_.state() == SessionState::down) return;
  const std::size_t unconsumed = lane_->unconsumed_bytes();
  const std::uint64_t sent = session_.bytes_sent();
  if (lane_->state() != transport::LaneState::open) {
    schedule();  // it ended and no event told: a pass finds out how
    return;
  }
  const bool moved = sent - unconsumed != stalled_sent_ - stalled_bytes_;
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
  watch_stall();
  stalled_for_ = stalled;
}

}  // namespace xenlane::bridge

// A driver's life, its passes, and what comes in; what goes out is in driver_output.cpp, what it
// waits for in driver_watch.cpp.
#include "bridge/session/driver.hpp"

#include <sched.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>

namespace xenlane::bridge {

namespace {

using Clock = std::chrono::steady_clock;

/// How many bytes one pass takes in before output and other work get their turn.
constexpr std::size_t input_bytes_per_pass = 256 * 1024;
/// How long a lane may wait for the answer to its HELLO before another may ask too: longer than a
/// console takes to send again what it has lost.
constexpr std::chrono::milliseconds asking_patience{2000};

InputStep frame_behind_leave() {
  return {0, Violation{"a frame behind LEAVE (protocol section 7.4)"}};
}

}  // namespace

SessionDriver::SessionDriver(const boost::asio::any_io_executor& executor,
                             std::unique_ptr<transport::Lane> lane, Session& session,
                             const LaneTerms& terms, const DriverTimeouts& timeouts,
                             StreamOwner& owner, LaneChooser* chooser)
    : executor_(executor),
      lane_(std::move(lane)),
      session_(session),
      terms_(terms),
      handshake_(session, terms.epoch, terms.fresh_id),
      timeouts_(timeouts),
      owner_(owner),
      chooser_(chooser),
      phase_(session.role() == Role::host ? Phase::greeting : Phase::waiting),
      wake_up_(executor, lane_->wait_fd()),
      handshake_timer_(executor),
      asking_timer_(executor),
      stall_timer_(executor),
      lane_timer_(executor),
      pause_timer_(executor),
      ended_(executor),
      poll_budget_(timeouts.poll_max),
      send_limit_(lane_->send_ring_bytes()) {}

SessionDriver::~SessionDriver() {
  *alive_ = false;
  if (session_.carrier() == this) session_.cut(false);
  if (session_.asking() == this) session_.set_asking(nullptr);
  if (wake_up_.is_open()) wake_up_.release();  // the lane owns the descriptor
}

boost::asio::awaitable<std::string> SessionDriver::run() {
  const std::size_t ring_bytes = std::min(lane_->receive_ring_bytes(), lane_->send_ring_bytes());
  if (ring_bytes < ring_bytes_min) {
    // The peer chose it. The mux would wait for ever for room that such a ring cannot have.
    end("the lane's rings of " + std::to_string(ring_bytes) + " bytes are smaller than " +
        std::to_string(ring_bytes_min));
  }
  schedule();
  while (phase_ != Phase::ended) co_await ended_.wait();
  handshake_timer_.cancel();
  asking_timer_.cancel();
  stall_timer_.cancel();
  lane_timer_.cancel();
  pause_timer_.cancel();
  // A REJECT is the peer's only explanation; it reads what was committed before the lane closed.
  if (const auto last_words = handshake_.output(); !last_words.empty()) {
    const auto room = lane_->writable();
    if (room.size() >= last_words.size()) {
      copy_in(room, 0, last_words);
      lane_->commit(last_words.size());
    }
  }
  lane_->publish();
  wake_up_.release();
  co_return reason_;
}

std::unique_ptr<transport::Lane> SessionDriver::release_lane() {
  return std::move(lane_);
}

void SessionDriver::wake() {
  if (!pumping_) schedule();  // a pump under way looks for output before it ends
}

void SessionDriver::stop(std::string reason) {
  end(std::move(reason));
}

void SessionDriver::end(std::string reason) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  reason_ = std::move(reason);
  if (session_.carrier() == this) session_.cut(false);
  if (session_.asking() == this) session_.set_asking(nullptr);
  ended_.raise();
}

void SessionDriver::handle_superseded() {
  superseded_ = true;
  end("another lane carries the session");
}

void SessionDriver::leave() {
  leave_wanted_ = true;
  wake();
}

void SessionDriver::say_wish(LaneWish wish) {
  wish_ = wish;
  if (wish_ != wish_told_ && carries()) wake();
}

void SessionDriver::say_goodbye() {
  if (phase_ != Phase::carrying || leave_sent_ || !session_.resend().empty()) return;
  const EncodedFrame frame = encode_frame(LeaveFrame{0});
  const auto room = lane_->writable();
  if (room.size() < frame.size) return;
  lane_->commit(write_frame(frame, room));
  session_.count_sent(frame.size);
  carried_out_ += frame.size;
  leave_sent_ = true;
  lane_->publish();
}

void SessionDriver::end_session(int error, const std::string& reason) {
  if (session_.state() == SessionState::none) return;
  owner_.handle_session_ended(error, reason);
  session_.end();
}

transport::ReadableSpans SessionDriver::unconsumed() {
  const auto left = lane_->unconsumed();
  // The rest is the handshake's.
  const std::size_t carried = std::min<std::uint64_t>(left.size(), carried_out_);
  return left.slice(left.size() - carried, carried);
}

void SessionDriver::schedule() {
  if (scheduled_ || phase_ == Phase::ended) return;
  scheduled_ = true;
  boost::asio::post(executor_, [this, alive = alive_] {
    if (!*alive) return;
    scheduled_ = false;
    pump();
  });
}

void SessionDriver::pump() {
  if (phase_ == Phase::ended) return;
  take_over_if_due();
  pumping_ = true;
  const std::uint64_t consumed_before = session_.bytes_consumed();
  const bool more_input = pump_input();
  found_unheard_ |= std::exchange(ticked_, false) && session_.bytes_consumed() != consumed_before;
  const bool more_output = phase_ != Phase::ended && pump_output();
  pumping_ = false;
  publish();
  if (phase_ == Phase::carrying) owner_.handle_pass_over();
  check_lane(more_input);
  if (phase_ == Phase::ended) return;
  if (leave_sent_ && peer_left_ && !more_input) return end("both sides left it for another lane");
  watch_stall();
  note_work();
  if (chooser_ != nullptr) chooser_->handle_pass(*this);
  if (phase_ == Phase::ended) return;
  if (more_input || more_output || keep_looking() || arm_lane()) {
    schedule();
  } else {
    wait_for_peer();
  }
}

// The guest's lanes ask for the session: one on demand as soon as it is open, one on standby when
// no lane carries or greets with it, or when the one that carries it is not wanted any more.
void SessionDriver::take_over_if_due() {
  if (phase_ != Phase::waiting || lane_->state() != transport::LaneState::open) return;
  if (terms_.standby && session_.carrier() != nullptr) {
    if (chooser_ != nullptr && chooser_->prefers_standby()) session_.carrier()->leave();
    return;
  }
  if (session_.asking() != nullptr) return;
  phase_ = Phase::greeting;
  session_.set_asking(this);
  handshake_.start();
  asking_timer_.expires_after(asking_patience);
  asking_timer_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive || session_.asking() != this) return;
    session_.set_asking(nullptr);
    if (chooser_ != nullptr) chooser_->handle_no_answer();
  });
}

void SessionDriver::conclude_handshake() {
  if (handshake_.session_spoilt()) end_session(EPROTO, handshake_.failure());
  if (!handshake_.failure().empty()) return end(handshake_.failure());
  const Agreement& agreement = *handshake_.agreement();
  handshake_timer_.cancel();
  asking_timer_.cancel();
  handshake_timed_ = false;
  if (agreement.resumed) {
    session_.resume(agreement.peer.consumed, *this);
    wish_told_.reset();  // what was said of it before may come again behind what is now
  } else {
    session_.cut(true);
    // Whoever has another session than this one has lost it.
    end_session(ENETRESET, "the other side's bridge began anew and knows nothing of the session");
    session_.begin(agreement.id, agreement.peer, *this);
  }
  phase_ = Phase::carrying;
  has_carried_ = true;
  if (session_.asking() == this) session_.set_asking(nullptr);
  session_.mux()->set_quantum(terms_.payload_bytes_max);
  if (chooser_ != nullptr) chooser_->handle_carrying(*this);
  if (!agreement.resumed) owner_.handle_session_up();
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
    // On a slow lane what was consumed is told together with what goes out in this pass.
    if (!is_slow()) publish();
    taken += count;
    if (phase_ == Phase::ended) return false;
  }
  return true;
}

// Handles what is at the front of what is readable, up to publish_bytes or so of it.
std::size_t SessionDriver::handle_bytes(const transport::ReadableSpans& bytes) {
  if (phase_ == Phase::carrying) return handle_frames(bytes);
  if (phase_ != Phase::greeting) return 0;
  heard_ = true;
  const std::size_t count = handshake_.handle(bytes);
  if (handshake_.over()) conclude_handshake();
  return count;
}

std::size_t SessionDriver::handle_frames(const transport::ReadableSpans& bytes) {
  std::size_t used = 0;
  const std::uint64_t frames_before = frames_in();
  while (used < bytes.size() && used < publish_bytes &&
         frames_in() - frames_before < frames_per_pass) {
    Mux& mux = *session_.mux();
    const InputStep step =
        peer_left_ ? frame_behind_leave() : mux.handle_input(bytes.slice(used, bytes.size()));
    used += step.consumed;
    if (const auto* chunk = std::get_if<Chunk>(&step.event)) {
      const auto payload = bytes.slice(used, chunk->size);
      if (chunk->id == 0) {
        mux.delivered(0, chunk->size);
      } else {
        owner_.deliver(chunk->id, payload);
      }
      used += chunk->size;
    } else if (const auto* violation = std::get_if<Violation>(&step.event)) {
      const std::string reason = "the peer broke the protocol: " + violation->text;
      session_.count_consumed(used);
      end_session(ECONNRESET, reason);
      end(reason);
      return used;
    } else if (!std::holds_alternative<NoEvent>(step.event)) {
      handle_event(step.event);
      if (phase_ == Phase::ended) return used;
    } else if (step.consumed == 0) {
      break;
    }
  }
  session_.count_consumed(used);
  return used;
}

void SessionDriver::handle_event(const InputEvent& event) {
  if (const auto* wishes = std::get_if<PeerWishes>(&event)) {
    if (chooser_ != nullptr) chooser_->handle_peer_wish(wishes->wish);
  } else if (const auto* leaves = std::get_if<PeerLeaves>(&event)) {
    handle_leave(leaves->turn);
  } else {
    owner_.handle_event(event);
  }
}

void SessionDriver::handle_leave(std::uint32_t turn) {
  if (turn == handshake_.turn()) peer_left_ = leave_wanted_ = true;
  // Any other that is not 0 was sent again over this lane, and spoke of one before.
  if (turn != 0) return;
  const std::string reason = "the other side's bridge has stopped";
  end_session(ECONNRESET, reason);
  end(reason);
}

// Ends a wait if this pass has moved anything.
void SessionDriver::note_work() {
  const std::uint64_t moved = carried_out_ + session_.bytes_consumed();
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
  if (phase_ != Phase::carrying || asleep_ || poll_budget_.max() == PollBudget::Duration::zero())
    return false;
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

}  // namespace xenlane::bridge

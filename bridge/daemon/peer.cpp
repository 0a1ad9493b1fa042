#include "bridge/daemon/peer.hpp"

#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <cerrno>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "transport/console/packer.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::bridge {

namespace json = boost::json;
using std::chrono::milliseconds;

RandomId random_id() {
  RandomId id{};
  if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  return id;
}

namespace {

using Clock = std::chrono::steady_clock;

/// One of the console lane's blocks: a small message waits for no more of each busy stream.
constexpr std::uint32_t console_payload_bytes_max = transport::block_raw_bytes - frame_header_bytes;

/// Of why a session ended: the longest that is our own has a REJECT's text in it.
constexpr std::size_t reason_shown_bytes_max = 400;

/// Who looks for work on the only processor keeps those away who would make it.
std::chrono::microseconds poll_max(const VchanConfig& vchan) {
  cpu_set_t usable;
  const bool several =
      ::sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) > 1;
  return std::chrono::microseconds(several ? vchan.poll_us_max : 0);
}

}  // namespace

milliseconds Backoff::next() {
  const auto delay = next_;
  next_ = std::min(next_ * 2, max_);
  return delay;
}

std::string_view to_string(LaneKind kind) {
  return kind == LaneKind::vchan ? "vchan" : "console";
}

Peer::Peer(const boost::asio::any_io_executor& executor, Role role, std::string name,
           const BridgeConfig& config)
    : executor_(executor),
      name_(std::move(name)),
      config_(config),
      session_({role, random_id(), config.limits}),
      bench_(executor, [this] { return usage(); }),
      channels_(executor, session_, name_, milliseconds(config.timeouts.dial_ms)),
      policy_(config.lanes.policy),
      review_timer_(executor),
      resume_timer_(executor) {
  channels_.set_down_reason("not connected yet");
  channels_.set_bench([this] { return bench_.start(); });
  review();
}

Peer::~Peer() {
  *alive_ = false;
}

const SessionDriver* Peer::carrying() const {
  for (const auto& driver : drivers_) {
    if (driver && driver->carries()) return driver.get();
  }
  return nullptr;
}

LaneTerms Peer::terms_of(LaneKind kind, std::uint64_t epoch) const {
  LaneTerms terms;
  terms.epoch = epoch;
  if (session_.role() == Role::host) terms.fresh_id = random_id();
  terms.standby = kind == LaneKind::console;
  if (kind == LaneKind::console) terms.payload_bytes_max = console_payload_bytes_max;
  return terms;
}

boost::asio::awaitable<std::string> Peer::run_lane(LaneKind kind,
                                                   std::unique_ptr<transport::Lane> lane,
                                                   std::uint64_t epoch) {
  auto& driver = drivers_[index(kind)];
  XENLANE_ASSERT(!driver);
  DriverTimeouts timeouts{milliseconds(config_.timeouts.handshake_ms),
                          milliseconds(config_.timeouts.peer_stall_ms),
                          {}};
  if (kind == LaneKind::vchan) {
    timeouts.poll_max = poll_max(config_.vchan);
  } else {
    // The handshake is a few hundred bytes, which may have to be sent often where much is lost.
    timeouts.handshake = std::max(timeouts.handshake, milliseconds(config_.console.give_up_ms));
  }
  const LaneTerms terms = terms_of(kind, epoch);
  driver = std::make_unique<SessionDriver>(executor_, std::move(lane), session_, terms, timeouts,
                                           static_cast<StreamOwner&>(channels_),
                                           static_cast<LaneChooser*>(this));
  abandoning_ = false;
  // A refusing host's own words are in it.
  const std::string untrusted_reason = co_await driver->run();
  std::string reason = escape_untrusted(untrusted_reason, reason_shown_bytes_max);
  carried_[index(kind)] = driver->has_carried();
  const bool superseded = driver->superseded();
  auto ended = driver->release_lane();
  driver.reset();
  if (kind == LaneKind::console) policy_.set_console_open(false, Clock::now());
  if (session_.state() == SessionState::none && (carried_[index(kind)] || sessions_ == 0)) {
    set_reason(reason);
  }
  limit_cut(reason, superseded);
  review();
  wake_lanes();  // one on standby may be due
  if (kind == LaneKind::console) {
    ended.reset();
  } else if (abandoning_) {
    transport::abandon_vchan(std::move(ended));
  } else {
    co_await transport::async_close_lane(std::move(ended),
                                         milliseconds(config_.timeouts.xenstore_ms));
  }
  co_return reason;
}

// A session without a lane waits for one, but not for ever.
void Peer::limit_cut(const std::string& reason, bool superseded) {
  if (carrying() == nullptr) publish(lane_event());
  // A lane that ends without having carried it gives it no more time.
  if (session_.state() != SessionState::cut || cut_limited_) return;
  cut_limited_ = true;
  since_ = Clock::now();
  reason_ = reason;
  if (!superseded) spdlog::info("{}: the session has no lane: {}", name_, reason);
  resume_timer_.expires_after(milliseconds(config_.timeouts.resume_ms));
  resume_timer_.async_wait([this, alive = alive_, reason](const auto& error) {
    if (error || !*alive || !cut_limited_ || session_.state() != SessionState::cut) return;
    if (Clock::now() < resume_timer_.expiry()) return;  // for a cut before this one
    cut_limited_ = false;
    end_session(ECONNRESET,
                fmt::format("{}; no other lane within {} ms", reason, config_.timeouts.resume_ms));
  });
}

void Peer::set_events(EventSink* events) {
  events_ = events;
  channels_.set_events(events);
}

void Peer::publish(const Event& event) {
  if (events_ != nullptr && events_->wants_events()) events_->publish(event);
}

Event Peer::session_event() const {
  const bool up = session_.state() != SessionState::none;
  Event event{"session", {{"state", up ? "up" : "down"}}};
  if (!up) event.details.emplace_back("reason", reason_);
  return event;
}

Event Peer::lane_event() const {
  const SessionDriver* driver = carrying();
  auto kind = std::string(driver != nullptr ? const_cast<SessionDriver*>(driver)->lane().kind()
                                            : std::string_view("none"));
  return {"lane", {{"kind", std::move(kind)}, {"why", policy_.why(Clock::now(), peer_wish_)}}};
}

std::vector<Event> Peer::events_now() const {
  std::vector<Event> events{session_event(), lane_event()};
  for (Event& event : channels_.events_now()) events.push_back(std::move(event));
  return events;
}

void Peer::end_session(int error, const std::string& reason) {
  set_reason(reason);
  for (const auto& driver : drivers_) {
    if (driver && driver->carries()) driver->say_goodbye();
  }
  if (session_.state() != SessionState::none) {
    channels_.handle_session_ended(error, reason);
    session_.end();
    publish(session_event());
  }
  for (const auto& driver : drivers_) {
    if (driver && driver->has_carried()) driver->stop(reason);
  }
}

void Peer::set_reason(std::string reason) {
  channels_.set_down_reason(reason);
  reason_ = std::move(reason);
  since_ = Clock::now();
}

void Peer::stop_lane(LaneKind kind, std::string reason) {
  if (const auto& driver = drivers_[index(kind)]) driver->stop(std::move(reason));
}

void Peer::nudge_lane(LaneKind kind) {
  const auto& driver = drivers_[index(kind)];
  if (!driver) return;
  driver->lane().nudge();
  driver->wake();
}

void Peer::leave_lane(LaneKind kind, std::string reason) {
  const auto& driver = drivers_[index(kind)];
  if (!driver) return;
  if (driver->lane().state() == transport::LaneState::closed) {
    driver->wake();
  } else {
    driver->stop(std::move(reason));
  }
}

void Peer::abandon_vchan(std::string reason) {
  abandoning_ = true;
  stop_lane(LaneKind::vchan, std::move(reason));
}

void Peer::set_console_present(bool present) {
  policy_.set_console_present(present, Clock::now());
  review();
}

void Peer::force_lane(LaneForce force) {
  policy_.force(force);
  spdlog::info("{}: the lane is set to {} by hand", name_, to_string(force));
  review();
}

class Peer::LaneHold {
 public:
  LaneHold(std::weak_ptr<Peer*> peer, std::uint64_t number)
      : peer_(std::move(peer)), number_(number) {}
  LaneHold(const LaneHold&) = delete;
  LaneHold& operator=(const LaneHold&) = delete;
  ~LaneHold() {
    if (const auto peer = peer_.lock()) (*peer)->release_lane(number_);
  }

 private:
  std::weak_ptr<Peer*> peer_;
  std::uint64_t number_;
};

std::shared_ptr<const void> Peer::hold_lane(LaneForce force) {
  if (policy_.holds() == lane_holds_max) return nullptr;
  policy_.hold(++last_hold_, force);
  spdlog::info("{}: a command holds the lane at {}", name_, to_string(force));
  auto hold = std::make_shared<const LaneHold>(self_, last_hold_);
  review();
  return hold;
}

void Peer::release_lane(std::uint64_t hold) {
  policy_.release(hold);
  spdlog::info("{}: a command holds the lane no more; it is set to {}", name_,
               to_string(policy_.forced()));
  review();
}

void Peer::handle_peer_wish(LaneWish wish) {
  peer_wish_ = wish;
  review();
}

void Peer::handle_carrying(SessionDriver& driver) {
  resume_timer_.cancel();
  cut_limited_ = false;
  since_ = Clock::now();
  const std::string id = to_hex(session_.id());
  if (id != last_session_) publish(session_event());
  publish(lane_event());
  if (id != last_session_) {
    last_session_ = id;
    ++sessions_;
    peer_wish_ = LaneWish::none;
  } else {
    ++switches_;
  }
  driver.say_wish(wish_);
  wake_lanes();  // another may have waited for this
  spdlog::info("{}: the {} lane carries the session: {}", name_, driver.lane().kind(),
               policy_.why(since_, peer_wish_));
}

void Peer::handle_pass(SessionDriver& driver) {
  const auto now = Clock::now();
  const bool on_vchan = &driver == drivers_[index(LaneKind::vchan)].get();
  if (!on_vchan) {
    policy_.set_console_open(driver.lane().state() == transport::LaneState::open, now);
  }
  if (Mux* mux = session_.mux(); mux != nullptr && driver.carries()) {
    if (now - period_began_ >= LanePolicy::period) {
      mux->begin_period();
      period_began_ = now;
    }
    policy_.set_eager(channels_.wants_vchan());
    policy_.observe(now, on_vchan, mux->period_volume(), on_vchan ? 0 : driver.backlog_bytes());
  }
  review(now);
}

void Peer::wake_lanes() {
  for (const auto& driver : drivers_) {
    if (driver) driver->wake();
  }
}

// Draws the conclusions, and comes back when time alone may change them.
void Peer::review(std::chrono::steady_clock::time_point now) {
  const LaneWish wish = policy_.wish(now);
  const bool wants = policy_.wants_vchan(now, peer_wish_);
  const bool changed = wish != wish_ || wants != wants_vchan_;
  const bool missed = std::exchange(misses_console_, policy_.console_silent(now));
  wish_ = wish;
  wants_vchan_ = wants;
  if (changed) {
    if (wish_lines_.allows()) {
      spdlog::debug("{}: {} vchan: {}{}", name_, wants ? "wants a" : "needs no",
                    policy_.why(now, peer_wish_), wish_lines_.note());
    }
    for (const auto& driver : drivers_) {
      if (!driver) continue;
      if (driver->carries()) driver->say_wish(wish_);
      driver->wake();
    }
  }
  if (lanes_changed_ && (changed || missed != misses_console_)) lanes_changed_();
  const auto next = policy_.next_review(now);
  if (!next || (review_due_ && *review_due_ <= *next)) return;
  review_due_ = next;
  review_timer_.expires_at(*next);
  review_timer_.async_wait([this, alive = alive_](const auto& error) {
    if (error || !*alive) return;
    review_due_.reset();
    review();
  });
}

}  // namespace xenlane::bridge

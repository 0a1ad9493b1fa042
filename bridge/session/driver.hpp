// Joins a lane, a session and a mux: the only place where the three meet. It decides nothing; it
// moves bytes between the lane and the mux, sleeps when neither has anything, and notices when
// the lane ends, when the peer stalls, and when the handshake takes too long.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "bridge/mux/mux.hpp"
#include "bridge/session/poll_budget.hpp"
#include "bridge/session/send_limit.hpp"
#include "bridge/session/session.hpp"
#include "transport/base/signal.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

struct DriverTimeouts {
  std::chrono::milliseconds handshake{5000};  ///< from the peer's attaching to the session's start
  std::chrono::milliseconds peer_stall{60000};  ///< bytes lie in the ring and nobody reads them
  std::chrono::microseconds poll_max{0};  ///< of looking for work before a sleep; zero: never look
};

struct DriverCounters {
  std::uint64_t wake_ups = 0;  ///< times the peer woke this side
  std::uint64_t nudges = 0;    ///< wake-ups repeated because the peer did not move
};

/// What a turn's socket gave.
struct SourceBytes {
  std::uint32_t bytes = 0;  ///< read into the ring; zero when there was nothing (more)
  bool drained = false;     ///< do not ask again until source_ready
};

/// Who owns the streams' local ends. Calls come from within the driver's pump; none of them may
/// destroy the driver.
class StreamOwner {
 public:
  StreamOwner() = default;
  StreamOwner(const StreamOwner&) = delete;
  StreamOwner& operator=(const StreamOwner&) = delete;

  virtual void handle_session_up() = 0;
  /// Anything but NoEvent, Chunk and Violation.
  virtual void handle_event(const InputEvent& event) = 0;
  /// Reads the stream's socket into the ring. May call the mux's mutators.
  virtual SourceBytes read_source(StreamId id, const transport::WritableSpans& to) = 0;
  /// Payload for a stream; every byte must be reported by Mux::delivered, now or later.
  virtual void deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) = 0;
  /// A pass is over: frames have come and gone, and with them whether another stream may be opened.
  virtual void handle_pass_over() = 0;

 protected:
  ~StreamOwner() = default;
};

class SessionDriver {
 public:
  SessionDriver(const boost::asio::any_io_executor& executor, std::unique_ptr<transport::Lane> lane,
                const Session::Settings& settings, const DriverTimeouts& timeouts,
                StreamOwner& owner);
  SessionDriver(const SessionDriver&) = delete;
  SessionDriver& operator=(const SessionDriver&) = delete;
  ~SessionDriver();

  /// Runs until the session is down and returns why. Call once.
  boost::asio::awaitable<std::string> run();
  /// Something changed on the application's side: look for output soon.
  void wake();
  /// Ends the session.
  void stop(std::string reason);

  const Session& session() const { return session_; }
  transport::Lane& lane() { return *lane_; }
  /// Present once the session is up.
  Mux* mux() { return mux_ ? &*mux_ : nullptr; }
  const DriverCounters& counters() const { return counters_; }
  const PollBudget& poll_budget() const { return poll_budget_; }
  const SendLimit& send_limit() const { return send_limit_; }

  /// The lane back, to be closed elsewhere. Only after run() has returned.
  std::unique_ptr<transport::Lane> release_lane();

 private:
  void schedule();
  void pump();
  std::uint64_t frames_in() const { return mux_ ? mux_->counters().frames_in : 0; }
  bool pump_input();
  bool pump_output();
  std::size_t room_for_frames(std::size_t room) const;
  void publish();
  std::size_t handle_bytes(const transport::ReadableSpans& bytes);
  std::size_t write_data(const DataTurn& turn, const transport::WritableSpans& room);
  std::size_t write_bytes(std::span<const std::byte> bytes, const transport::WritableSpans& room);
  void note_work();
  bool keep_looking();
  void wait_for_peer();
  void check_lane(bool more_input);
  void watch_stall();
  void handle_stall_tick();

  boost::asio::any_io_executor executor_;
  std::unique_ptr<transport::Lane> lane_;
  Session session_;
  std::optional<Mux> mux_;
  DriverTimeouts timeouts_;
  StreamOwner& owner_;
  boost::asio::posix::stream_descriptor wake_up_;
  boost::asio::steady_timer handshake_timer_;
  boost::asio::steady_timer stall_timer_;
  transport::Signal ended_;
  DriverCounters counters_;
  PollBudget poll_budget_;
  SendLimit send_limit_;
  std::size_t unpublished_ = 0;    ///< bytes committed and not yet shown to the peer
  std::uint64_t bytes_moved_ = 0;  ///< in and out, when the last pass looked
  std::optional<std::chrono::steady_clock::time_point> idle_since_;
  bool asleep_ = false;  ///< since idle_since_ plus what was spent looking
  bool waiting_ = false;
  bool pumping_ = false;
  bool close_seen_ = false;
  bool scheduled_ = false;
  bool handshake_timed_ = false;
  bool stall_watched_ = false;
  std::size_t stalled_bytes_ = 0;
  std::uint64_t stalled_sent_ = 0;
  std::chrono::milliseconds stalled_for_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge

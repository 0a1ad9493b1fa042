// Joins a lane to the session and its mux: the only place where the three meet. It decides nothing;
// it moves bytes between the lane and the mux, sleeps when neither has anything, and notices when
// the lane ends, when the peer stalls, and when the handshake takes too long.
//
// One driver for each lane. Several may be there at once, but only one carries the session; the
// others wait for their handshake (a standby lane), or are about to end.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "bridge/session/handshake.hpp"
#include "bridge/session/poll_budget.hpp"
#include "bridge/session/send_limit.hpp"
#include "bridge/session/session.hpp"
#include "transport/base/signal.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

/// How many frames a pass handles each way: a system call each, however few bytes they carry.
inline constexpr std::uint64_t frames_per_pass = 512;
/// Bytes after which the peer is shown progress in mid-pass, so that both ends work at once.
inline constexpr std::size_t publish_bytes = 64 * 1024;

struct DriverTimeouts {
  std::chrono::milliseconds handshake{5000};    ///< from the peer's attaching to the agreement
  std::chrono::milliseconds peer_stall{60000};  ///< bytes lie in the ring and nobody reads them
  std::chrono::microseconds poll_max{0};  ///< of looking for work before a sleep; zero: never look
};

struct LaneTerms {
  std::uint64_t epoch = 0;
  RandomId fresh_id{};  ///< host: of the session that this lane may begin
  /// Waits, with the lane open, until it is wanted: no deadline runs before the guest has spoken.
  bool standby = false;
  /// The longest payload, and what a stream sends in one turn. Less than the most: the lane is
  /// slow, gets whole frames of that size, as it has use for them, and turns of several (see
  /// turn_bytes_max()).
  std::uint32_t payload_bytes_max = data_payload_bytes_max;
};

struct DriverCounters {
  std::uint64_t wake_ups = 0;  ///< by the peer, and looks at a lane that was looked away from
  std::uint64_t nudges = 0;    ///< wake-ups repeated because the peer did not move
};

/// What a turn's socket gave.
struct SourceBytes {
  std::uint32_t bytes = 0;  ///< read into the ring; zero when there was nothing (more)
  bool drained = false;     ///< do not ask again until source_ready
};

/// Who owns the streams' local ends. Calls come from within a driver's pump; none of them may
/// destroy the driver.
class StreamOwner {
 public:
  StreamOwner() = default;
  StreamOwner(const StreamOwner&) = delete;
  StreamOwner& operator=(const StreamOwner&) = delete;

  virtual void handle_session_up() = 0;
  /// The session is about to be no more, with all its streams; its mux is still there. `error` is
  /// an errno value.
  virtual void handle_session_ended(int error, const std::string& reason) = 0;
  /// Anything but NoEvent, Chunk, PeerWishes, PeerLeaves and Violation.
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

class SessionDriver;

/// Who chooses between the lanes.
class LaneChooser {
 public:
  LaneChooser() = default;
  LaneChooser(const LaneChooser&) = delete;
  LaneChooser& operator=(const LaneChooser&) = delete;

  /// Guest: whether a standby lane is to have the session that another lane carries.
  virtual bool prefers_standby() = 0;
  virtual void handle_peer_wish(LaneWish wish) = 0;
  virtual void handle_carrying(SessionDriver& driver) = 0;
  /// A lane waits for the answer to its HELLO for too long: another may ask.
  virtual void handle_no_answer() {}
  /// After each pass of the lane that carries the session, and when a lane opens.
  virtual void handle_pass(SessionDriver& driver) = 0;

 protected:
  ~LaneChooser() = default;
};

class SessionDriver final : private Carrier {
 public:
  /// `chooser` may be null: then no lane is preferred to another.
  SessionDriver(const boost::asio::any_io_executor& executor, std::unique_ptr<transport::Lane> lane,
                Session& session, const LaneTerms& terms, const DriverTimeouts& timeouts,
                StreamOwner& owner, LaneChooser* chooser = nullptr);
  ~SessionDriver();

  /// Runs until the lane is given up and returns why. Call once.
  boost::asio::awaitable<std::string> run();
  /// Something changed on the application's side, or with the lanes: look soon.
  void wake() override;
  /// Gives the lane up; the session may go on over another.
  void stop(std::string reason);
  /// Tells the peer that the session ends here, as far as there is room to say it.
  void say_goodbye();
  /// Tells the peer what this side wants of the lane, if that is not what it was told last.
  void say_wish(LaneWish wish);

  const Session& session() const { return session_; }
  transport::Lane& lane() { return *lane_; }
  std::uint64_t epoch() const { return handshake_.epoch(); }
  bool carries() const { return phase_ == Phase::carrying; }
  /// It has the session, or has asked for it.
  bool in_use() const { return carries() || has_spoken(); }
  /// It had the session, then or now.
  bool has_carried() const { return has_carried_; }
  /// It ended because another lane has taken the session over.
  bool superseded() const { return superseded_; }
  /// Present while there is a session.
  Mux* mux() { return session_.mux(); }
  /// What waits for the peer: on the lane, and to be sent again.
  std::size_t backlog_bytes() { return lane_->unconsumed_bytes() + session_.resend().size(); }
  const DriverCounters& counters() const { return counters_; }
  std::uint64_t notifications() const { return lane_->notifications(); }
  const PollBudget& poll_budget() const { return poll_budget_; }
  const SendLimit& send_limit() const { return send_limit_; }

  /// The lane back, to be closed elsewhere. Only after run() has returned.
  std::unique_ptr<transport::Lane> release_lane();

 private:
  enum class Phase : std::uint8_t {
    waiting,   ///< guest: the lane is not open, or not wanted yet
    greeting,  ///< the handshake is under way
    carrying,
    ended,
  };

  // Carrier
  transport::ReadableSpans unconsumed() override;
  void handle_superseded() override;
  void leave() override;

  void schedule();
  void pump();
  void end(std::string reason);
  void end_session(int error, const std::string& reason);
  void take_over_if_due();
  void conclude_handshake();
  std::uint64_t frames_in() const {
    return session_.mux() ? session_.mux()->counters().frames_in : 0;
  }
  bool pump_input();
  bool pump_output();
  std::optional<std::size_t> write_ahead_of_mux(const transport::WritableSpans& room);
  std::size_t room_for_frames(std::size_t room) const;
  std::uint32_t turn_bytes_max() const;
  bool is_slow() const { return terms_.payload_bytes_max < data_payload_bytes_max; }
  void publish();
  std::size_t handle_bytes(const transport::ReadableSpans& bytes);
  std::size_t handle_frames(const transport::ReadableSpans& bytes);
  void handle_event(const InputEvent& event);
  void handle_leave(std::uint32_t turn);
  std::size_t write_data(const DataTurn& turn, const transport::WritableSpans& room);
  std::size_t write_frame(const EncodedFrame& frame, const transport::WritableSpans& room);
  bool wants_room() const;
  bool has_spoken() const { return handshake_.turn() != 0; }
  /// Host: attached, and the guest may not have heard of it.
  bool waits_for_hello() const {
    return phase_ == Phase::greeting && !terms_.standby && !heard_ && !has_spoken();
  }
  void note_work();
  bool keep_looking();
  bool arm_lane();
  void wait_for_peer();
  void look_away(std::chrono::microseconds pause);
  void handle_wake_up();
  void keep_deadline();
  void check_lane(bool more_input);
  void limit_handshake();
  void watch_stall();
  void handle_stall_tick();

  boost::asio::any_io_executor executor_;
  std::unique_ptr<transport::Lane> lane_;
  Session& session_;
  LaneTerms terms_;
  Handshake handshake_;
  DriverTimeouts timeouts_;
  StreamOwner& owner_;
  LaneChooser* chooser_;
  Phase phase_;
  std::string reason_;
  boost::asio::posix::stream_descriptor wake_up_;
  boost::asio::steady_timer handshake_timer_;
  boost::asio::steady_timer asking_timer_;
  boost::asio::steady_timer stall_timer_;
  boost::asio::steady_timer lane_timer_;
  boost::asio::steady_timer pause_timer_;
  transport::Signal ended_;
  DriverCounters counters_;
  PollBudget poll_budget_;
  SendLimit send_limit_;
  std::size_t unpublished_ = 0;    ///< bytes committed and not yet shown to the peer
  std::uint64_t bytes_moved_ = 0;  ///< in and out, when the last pass looked
  std::uint64_t carried_out_ = 0;  ///< session bytes put on this lane
  std::optional<std::chrono::steady_clock::time_point> idle_since_;
  std::optional<std::chrono::steady_clock::time_point> lane_due_;
  LaneWish wish_ = LaneWish::none;
  std::optional<LaneWish> wish_told_ = LaneWish::none;
  bool has_carried_ = false;
  bool superseded_ = false;
  bool heard_ = false;  ///< the peer has begun to speak
  bool leave_wanted_ = false;
  bool leave_sent_ = false;
  bool peer_left_ = false;
  bool asleep_ = false;  ///< since idle_since_ plus what was spent looking
  bool waiting_ = false;
  bool pausing_ = false;
  bool pumping_ = false;
  bool close_seen_ = false;
  bool scheduled_ = false;
  bool handshake_timed_ = false;
  bool stall_watched_ = false;
  bool asked_for_room_ = false;      ///< when the lane was armed last
  bool ticked_ = false;              ///< the next pass comes of a tick, not of an event
  bool found_unheard_ = false;       ///< such a pass has found input
  bool slept_ = false;               ///< since the last tick: events were asked for
  unsigned unheard_ticks_ = 0;       ///< in a row
  std::uint64_t wake_ups_seen_ = 0;  ///< at the last tick
  std::size_t stalled_bytes_ = 0;
  std::uint64_t stalled_sent_ = 0;
  std::chrono::milliseconds stalled_for_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge

// One peer's object graph: its channels, the session that carries them, and the lanes that carry
// the session. The same for the guest's bridge (whose peer is the host) and for a host worker
// (whose peer is a guest); they differ in who makes the lanes, which is not known here.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "bridge/bench/launcher.hpp"
#include "bridge/channel/channel_table.hpp"
#include "bridge/channel/log_budget.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/session/driver.hpp"

namespace xenlane::bridge {

/// 128 bits from the kernel.
RandomId random_id();

/// Delays between attempts: doubling from min to max, back to min after success.
class Backoff {
 public:
  Backoff(std::chrono::milliseconds min, std::chrono::milliseconds max)
      : min_(min), max_(max), next_(min) {}
  std::chrono::milliseconds next();
  void reset() { next_ = min_; }

 private:
  std::chrono::milliseconds min_;
  std::chrono::milliseconds max_;
  std::chrono::milliseconds next_;
};

enum class LaneKind : std::uint8_t { vchan = 0, console = 1 };

/// Commands that hold one peer's lane at a time.
inline constexpr std::size_t lane_holds_max = 8;

std::string_view to_string(LaneKind kind);

class Peer final : private LaneChooser {
 public:
  /// `name` is how the peer is called in logs and errors. `config` must outlive the peer.
  Peer(const boost::asio::any_io_executor& executor, Role role, std::string name,
       const BridgeConfig& config);
  ~Peer();

  ChannelTable& channels() { return channels_; }
  const Session& session() const { return session_; }
  bool session_up() const { return session_.state() == SessionState::up; }

  /// Offers the session to the lane until that ends, closes the lane, and returns the reason. One
  /// lane of each kind at a time.
  boost::asio::awaitable<std::string> run_lane(LaneKind kind, std::unique_ptr<transport::Lane> lane,
                                               std::uint64_t epoch);
  bool carries(LaneKind kind) const {
    return drivers_[index(kind)] && drivers_[index(kind)]->carries();
  }
  /// The same, or about to.
  bool uses(LaneKind kind) const {
    return drivers_[index(kind)] && drivers_[index(kind)]->in_use();
  }
  /// Whether the last lane of that kind that has ended ever had the session.
  bool lane_carried(LaneKind kind) const { return carried_[index(kind)]; }
  void stop_lane(LaneKind kind, std::string reason);
  /// Something suggests that the other end is not what it was: asks it for a sign of life.
  void nudge_lane(LaneKind kind);
  /// Stops it too, unless the peer has closed the lane: then what it left behind is read first.
  void leave_lane(LaneKind kind, std::string reason);
  /// Stops the vchan too, but it stays as it is (transport::abandon_vchan).
  void abandon_vchan(std::string reason);
  /// No lane and no session any more; streams break with the errno value and the reason.
  void end_session(int error, const std::string& reason);
  /// Why there is no session, for status, while one is being set up.
  void set_reason(std::string reason);

  /// Who is told what happens to the session, its lane and the channels; must outlive the peer.
  void set_events(EventSink* events);
  /// What there is now, as events.
  std::vector<Event> events_now() const;

  // --- which lane
  /// `changed` is called when wants_vchan(), refuses_vchan() or misses_console() may say something
  /// else than before.
  void on_lanes_changed(std::function<void()> changed) { lanes_changed_ = std::move(changed); }
  bool wants_vchan() const { return wants_vchan_; }
  /// This side will have no vchan at all.
  bool refuses_vchan() const { return wish_ == LaneWish::console; }
  /// There is a console, and its far end has not answered for a while.
  bool misses_console() const { return misses_console_; }
  void set_console_present(bool present);
  void force_lane(LaneForce force);
  /// The lane is `force` until what is returned is destroyed, which may be after the peer. Null
  /// when lane_holds_max others hold it.
  std::shared_ptr<const void> hold_lane(LaneForce force);

  /// The session, lane, channels, streams and counters parts of the status reply (docs/control.md).
  boost::json::object status() const;

 private:
  class LaneHold;

  static std::size_t index(LaneKind kind) { return static_cast<std::size_t>(kind); }

  // LaneChooser
  bool prefers_standby() override { return !wants_vchan_; }
  void handle_peer_wish(LaneWish wish) override;
  void handle_carrying(SessionDriver& driver) override;
  void handle_no_answer() override { wake_lanes(); }
  void handle_pass(SessionDriver& driver) override;

  const SessionDriver* carrying() const;
  Event session_event() const;
  Event lane_event() const;
  void publish(const Event& event);
  LaneTerms terms_of(LaneKind kind, std::uint64_t epoch) const;
  void review(std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());
  boost::json::object usage() const;
  void release_lane(std::uint64_t hold);
  void wake_lanes();
  void limit_cut(const std::string& reason, bool superseded);
  boost::json::object describe_lane() const;
  boost::json::value describe_console() const;

  boost::asio::any_io_executor executor_;
  std::string name_;
  const BridgeConfig& config_;
  Session session_;
  BenchLauncher bench_;
  ChannelTable channels_;
  LanePolicy policy_;
  std::uint64_t last_hold_ = 0;
  std::shared_ptr<Peer*> self_ = std::make_shared<Peer*>(this);  ///< gone when this is
  std::unique_ptr<SessionDriver> drivers_[2];
  bool carried_[2] = {false, false};
  std::function<void()> lanes_changed_;
  LaneWish wish_ = LaneWish::none;
  LaneWish peer_wish_ = LaneWish::none;
  bool wants_vchan_ = false;
  LogBudget wish_lines_;  ///< the peer may change its mind as often as it likes
  bool misses_console_ = false;
  std::chrono::steady_clock::time_point period_began_{};
  boost::asio::steady_timer review_timer_;
  std::optional<std::chrono::steady_clock::time_point> review_due_;
  boost::asio::steady_timer resume_timer_;
  bool cut_limited_ = false;  ///< resume_timer_ runs
  std::string reason_ = "starting";
  EventSink* events_ = nullptr;
  std::string last_session_;  ///< hex id, to tell a new one
  std::uint64_t sessions_ = 0;
  std::uint64_t switches_ = 0;  ///< of lanes, within sessions
  bool abandoning_ = false;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge

// The far side of forwards, within a bridge: whose connections are whose, the connections that were
// accepted here and wait to be taken, and the control streams that ask for listeners.
//
// It moves no bytes: a connection that is dialled or taken becomes the local end of its stream and
// is the bridge's like any other (bridge/channel/forward_ends.cpp).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "bridge/forward/request.hpp"
#include "bridge/wire/frame.hpp"
#include "transport/base/signal.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// How long a stream may take to say what it wants.
inline constexpr std::chrono::seconds forward_request_wait{10};
/// How long an accepted connection waits to be taken.
inline constexpr std::chrono::seconds forward_take_wait{15};
/// Control streams of one peer, listeners of one control stream, and its connections that wait to
/// be taken; further ones wait in the kernel.
inline constexpr std::size_t forward_controls_max = 64;
inline constexpr std::size_t forward_listeners_max = 64;
inline constexpr std::size_t forward_pending_max = 64;
/// Connections that were reset, for those who ask how theirs ended.
inline constexpr std::size_t forward_resets_max = 4096;
/// Dials at a time, of names and of what needs no look-up: less than the dialer's own limits
/// (lookups_max, dials_max), so that other channels have their share. More wait for their turn.
inline constexpr std::size_t forward_name_dials_max = 12;
inline constexpr std::size_t forward_dials_max = 192;

/// So many may be within; others wait in a row. Single-threaded.
class ForwardGate {
 public:
  ForwardGate(const boost::asio::any_io_executor& executor, std::size_t places)
      : executor_(executor), state_(std::make_shared<State>(State{places, {}})) {}
  /// False when no place became free within `longest`. leave() must follow when it was true.
  boost::asio::awaitable<bool> enter(std::chrono::steady_clock::duration longest);
  void leave();

 private:
  /// Whoever waits may outlive the gate.
  struct State {
    std::size_t places;
    std::list<std::shared_ptr<transport::Signal>> row;
  };
  boost::asio::any_io_executor executor_;
  std::shared_ptr<State> state_;
};

/// What listeners may be asked for, and whom to tell that one was refused.
struct ForwardTerms {
  /// Asked for each listener, and again for each connection: the configuration may have changed.
  std::function<bool(const ForwardAddress&)> allows;
  std::function<void(int error, const std::string& why)> refused;
};

class ForwardDesk {
 public:
  /// `reset` is called for a connection whose near end was reset; it must end the stream.
  ForwardDesk(const boost::asio::any_io_executor& executor, std::function<void(StreamId)> reset);
  ForwardDesk(const ForwardDesk&) = delete;
  ForwardDesk& operator=(const ForwardDesk&) = delete;
  ~ForwardDesk();

  /// A connection is about to be joined to its stream; its token.
  std::string enlist(StreamId id);
  /// A stream has ended, of a forward or not.
  void handle_end(StreamId id, bool reset);
  /// All have.
  void handle_session_ended();

  /// The accepted connection of that token.
  boost::system::result<transport::UniqueFd, ForwardError> take(const std::string& token);
  /// The bridge's end of a new control stream.
  boost::system::result<transport::UniqueFd, ForwardError> start_control(ForwardTerms terms);

  ForwardGate& gate_for(const ForwardAddress& address);

 private:
  friend class FarControl;
  class FarControlList;
  using Due = std::list<std::pair<std::chrono::steady_clock::time_point, std::string>>;
  struct Pending {
    transport::UniqueFd socket;
    std::weak_ptr<class FarControl> control;
    Due::iterator due;
  };

  std::string new_token() const;
  std::string hold(transport::UniqueFd socket, const std::shared_ptr<FarControl>& control);
  bool was_reset(const std::string& token) const { return resets_.contains(token); }
  void reset(const std::string& token);
  void drop_pending_of(const FarControl* control);
  void expire();

  boost::asio::any_io_executor executor_;
  std::function<void(StreamId)> reset_stream_;
  std::unordered_map<StreamId, std::string> tokens_;
  std::unordered_map<std::string, StreamId> streams_;
  std::set<std::string> resets_;
  std::deque<std::string> reset_order_;
  std::unordered_map<std::string, Pending> pending_;
  Due due_;  ///< of what is pending, oldest first
  boost::asio::steady_timer expiry_;
  bool expiry_runs_ = false;
  std::set<std::shared_ptr<FarControl>> controls_;
  ForwardGate names_;
  ForwardGate addresses_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace xenlane::bridge

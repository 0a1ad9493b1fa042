// One peer's object graph: its channels, and the session that carries them at the moment. The same
// for the guest's bridge (whose peer is the host) and for a host worker (whose peer is a guest);
// they differ in who offers the lane and who decides, which is not known here.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "bridge/channel/channel_table.hpp"
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

class Peer {
 public:
  /// `name` is how the peer is called in logs and errors. `config` must outlive the peer.
  Peer(const boost::asio::any_io_executor& executor, Role role, std::string name,
       const BridgeConfig& config);

  ChannelTable& channels() { return channels_; }
  bool session_up() const;
  /// Whether the last session got beyond its handshake.
  bool session_was_up() const { return session_was_up_; }

  /// Runs one session over the lane until either ends, closes the lane, and returns the reason.
  boost::asio::awaitable<std::string> run_session(std::unique_ptr<transport::Lane> lane,
                                                  std::uint64_t epoch);
  void stop_session(std::string reason);
  /// Stops it too, unless the peer has closed the lane: then what it left behind is read first.
  void leave_session(std::string reason);
  /// Stops it too, but its lane stays as it is (transport::abandon_vchan).
  void abandon_session(std::string reason);
  /// Why there is no session, for status, while one is being set up.
  void set_reason(std::string reason) { reason_ = std::move(reason); }

  /// The session, lane, channels, streams and counters parts of the status reply (docs/control.md).
  boost::json::object status() const;

 private:
  boost::asio::any_io_executor executor_;
  Role role_;
  std::string name_;
  const BridgeConfig& config_;
  RandomId instance_ = random_id();
  ChannelTable channels_;
  std::unique_ptr<SessionDriver> driver_;
  std::string reason_ = "starting";
  std::uint64_t sessions_ = 0;
  bool session_was_up_ = false;
  bool abandoning_ = false;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace xenlane::bridge

// The guest's side of the negotiation: offers a vchan lane whenever the host wants one, runs a
// session over it, and offers the next one when it has ended.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/console_keeper.hpp"
#include "bridge/daemon/peer.hpp"
#include "bridge/daemon/program.hpp"
#include "transport/base/signal.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::guest {

class GuestLink {
 public:
  /// All must outlive run().
  GuestLink(const boost::asio::any_io_executor& executor, transport::XenStore& store,
            bridge::Peer& peer, const bridge::BridgeConfig& config);

  /// Without a console channel there are only vchans; when they cannot be had either, run() throws
  /// this.
  void set_vchan_trouble(bridge::StartFailure trouble) { vchan_trouble_ = std::move(trouble); }
  /// Runs for ever.
  boost::asio::awaitable<void> run();
  /// This domain's; 0 and empty until xenstore has answered.
  transport::Domid domid() const { return domid_; }
  const std::string& guest_name() const { return guest_name_; }

 private:
  /// What the host's node says. `silent` is a host that serves this guest and whose worker has
  /// asked for nothing yet; it may have a session over the console already. `unknown` is when
  /// xenstore did not answer: then nothing may change.
  enum class WishState : std::uint8_t { absent, silent, unknown, present };
  struct HostWish {
    WishState state = WishState::absent;
    transport::Domid host = 0;
    std::uint64_t epoch = 0;  ///< lowest epoch the host will attach to
  };

  boost::asio::awaitable<void> learn_identity();
  boost::asio::awaitable<std::optional<std::string>> read_surely(std::string path);
  boost::asio::awaitable<std::string> find_console();
  boost::asio::awaitable<void> start_console();
  boost::asio::awaitable<HostWish> read_wish();
  /// Offers a ring and runs the session over it. False when none came up.
  boost::asio::awaitable<bool> serve(const HostWish& wish);
  boost::asio::awaitable<void> watch_wish(std::shared_ptr<bool> serving);
  boost::asio::awaitable<void> pause();

  boost::asio::any_io_executor executor_;
  transport::XenStore& store_;
  bridge::Peer& peer_;
  const bridge::BridgeConfig& config_;
  transport::Signal wish_changed_;
  bridge::Backoff backoff_;
  std::optional<bridge::ConsoleKeeper> console_;
  std::optional<bridge::StartFailure> vchan_trouble_;
  std::string trouble_;  ///< what the last offer failed for; empty after one that did not
  transport::Domid domid_ = 0;
  std::string guest_name_;
  std::uint64_t epoch_ = 0;  ///< of the last ring offered
  bool superseded_ = false;  ///< the host has asked for a later one
  bool restored_ = false;    ///< the domain has been saved and restored since that was offered
};

}  // namespace xenlane::guest

// The host's side of the negotiation for one guest: attaches to the ring that the guest offers,
// runs a session over it, and asks for a new one when it has ended. Everything read here was
// written by the guest and is checked before use.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/peer.hpp"
#include "host/ring_budget.hpp"
#include "transport/base/signal.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::host {

class WorkerLink {
 public:
  WorkerLink(const boost::asio::any_io_executor& executor, transport::XenStore& store,
             bridge::Peer& peer, const bridge::BridgeConfig& config, transport::Domid guest,
             std::string guest_name);

  /// Runs until the domain has vanished from xenstore.
  boost::asio::awaitable<void> run();

 private:
  boost::asio::awaitable<bool> raise_wanted(std::uint64_t epoch);
  /// Has the guest look at its console link when this end's is not answered.
  boost::asio::awaitable<bool> knock();
  /// What the guest points to; `known` is false when xenstored did not answer.
  struct Pointer {
    bool known = true;
    std::optional<std::uint64_t> epoch;
  };
  boost::asio::awaitable<Pointer> read_pointer();
  /// Until there may be something new to read, which without an answer is soon.
  boost::asio::awaitable<void> wait_for_change(bool known);
  boost::asio::awaitable<bool> serve(std::uint64_t epoch);
  boost::asio::awaitable<void> watch_pointer(std::uint64_t epoch, std::shared_ptr<bool> serving);
  boost::asio::awaitable<void> pause();

  boost::asio::any_io_executor executor_;
  transport::XenStore& store_;
  bridge::Peer& peer_;
  const bridge::BridgeConfig& config_;
  transport::Domid guest_;
  std::string guest_name_;  ///< for the log, which all guests' workers share
  transport::Signal pointer_changed_;
  bridge::Backoff backoff_;
  RingBudget rings_;
  bool bad_pointer_told_ =
      false;  ///< since the last lane: a guest can write one as often as it likes
  std::uint64_t wanted_ = 1;
  bool knocked_ = false;  ///< since the console answered last
};

}  // namespace xenlane::host

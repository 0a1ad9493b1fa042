// The near side of one forward: who connects to it is joined to the far side.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bridge/channel/dialer.hpp"
#include "bridge/channel/log_budget.hpp"
#include "bridge/forward/acceptor.hpp"
#include "bridge/forward/desk.hpp"
#include "bridge/forward/pump.hpp"
#include "bridge/forward/spec.hpp"
#include "bridge/forward/uplink.hpp"

namespace xenlane::bridge {

/// Connections of one forward that are being made; more wait in the kernel.
inline constexpr std::size_t forward_making_max = 1024;
/// For a SOCKS client to say what it wants.
inline constexpr std::chrono::seconds socks_wait{10};
/// For a target of -R to take the connection.
inline constexpr std::chrono::seconds forward_dial_wait{5};

class NearForward : public std::enable_shared_from_this<NearForward> {
 public:
  using Told = std::function<void(const std::string& line)>;

  /// `sockets` listen already, unless the far side is to. `told` takes lines for the user.
  NearForward(const boost::asio::any_io_executor& executor, ForwardSpec spec,
              std::shared_ptr<Uplink> uplink, std::vector<ForwardSocket> sockets, Told told);

  void start();
  /// Listens no more. Connections that there are go on.
  void stop();
  /// Breaks them off.
  void abort();

  const ForwardSpec& spec() const { return spec_; }
  /// As `xenlane forward --list --json` has it.
  boost::json::object status() const;

 private:
  boost::asio::awaitable<void> serve(transport::UniqueFd local);
  boost::asio::awaitable<void> serve_socks(transport::UniqueFd local);
  boost::asio::awaitable<void> serve_remote(std::string token);
  boost::asio::awaitable<DialResult> dial_target();
  void spawn(boost::asio::awaitable<void> work);
  void handle_listening(const std::optional<ForwardError>& error);
  void join(transport::UniqueFd local, OpenedForward stream, std::string from_local);
  void fail(const transport::UniqueFd& local, const std::string& why);
  void note_failure(const std::string& why);
  bool is_making_many() const { return counters_->waiting >= forward_making_max; }

  boost::asio::any_io_executor executor_;
  ForwardSpec spec_;
  std::shared_ptr<Uplink> uplink_;
  std::shared_ptr<ForwardAcceptor> acceptor_;
  Told told_;
  std::shared_ptr<ForwardCounters> counters_ = std::make_shared<ForwardCounters>();
  std::set<std::shared_ptr<ForwardPump>> pumps_;
  ForwardGate lookups_;  ///< names of -R's targets
  LogBudget lines_;
  std::uint32_t listener_ = 0;  ///< of the far side
  bool far_listens_ = false;
  std::string far_refusal_;
  bool stopped_ = false;
};

}  // namespace xenlane::bridge

// Keeps a console lane for the peer: opens the channel's device, and lets one lane after another
// run on it, on standby or with the session, for as long as the device lasts. The same on both
// sides; only the opening differs.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string>

#include "bridge/daemon/peer.hpp"
#include "transport/console/console_lane.hpp"

namespace xenlane::bridge {

/// How long a console that is not there is looked for. QEMU makes its socket about when the domain
/// begins; channels do not come later (xen-pv-channel(7): no hotplug).
inline constexpr std::chrono::seconds console_search{60};

class ConsoleKeeper {
 public:
  using Opened = boost::system::result<std::shared_ptr<transport::ConsolePort>>;

  /// `path` is what `open` opens, for the log. All must outlive run().
  ConsoleKeeper(const boost::asio::any_io_executor& executor, Peer& peer, transport::ConsoleEnd end,
                const BridgeConfig& config, bool own_device, std::string path,
                std::function<Opened(const std::string&)> open);

  /// Runs until there is certainly no console.
  boost::asio::awaitable<void> run();

 private:
  boost::asio::awaitable<std::shared_ptr<transport::ConsolePort>> open();
  boost::asio::awaitable<void> pause();

  boost::asio::any_io_executor executor_;
  Peer& peer_;
  transport::ConsoleEnd end_;
  transport::ConsoleOptions options_;
  std::string path_;
  std::function<Opened(const std::string&)> open_;
  Backoff backoff_;
};

}  // namespace xenlane::bridge

#include "bridge/daemon/console_keeper.hpp"

#include <spdlog/spdlog.h>

#include <cerrno>

namespace xenlane::bridge {

namespace asio = boost::asio;
using std::chrono::milliseconds;

ConsoleKeeper::ConsoleKeeper(const asio::any_io_executor& executor, Peer& peer,
                             transport::ConsoleEnd end, const BridgeConfig& config, bool own_device,
                             std::string path, std::function<Opened(const std::string&)> open)
    : executor_(executor),
      peer_(peer),
      end_(end),
      options_{config.console.zstd, config.console.own_device.value_or(own_device),
               milliseconds(config.console.give_up_ms)},
      path_(std::move(path)),
      open_(std::move(open)),
      backoff_(milliseconds(config.timeouts.retry_ms_min),
               milliseconds(config.timeouts.retry_ms_max)) {}

asio::awaitable<void> ConsoleKeeper::pause() {
  asio::steady_timer timer(executor_, backoff_.next());
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

// Null when it has not been there for so long that it will not come.
asio::awaitable<std::shared_ptr<transport::ConsolePort>> ConsoleKeeper::open() {
  const auto give_up = std::chrono::steady_clock::now() + console_search;
  int told = 0;
  for (;;) {
    auto port = open_(path_);
    if (port) co_return std::move(*port);
    const int error = port.error().value();
    if (error == ENOENT && std::chrono::steady_clock::now() >= give_up) co_return nullptr;
    if (error != told && error != ENOENT) {
      spdlog::warn("console {}: {}; tried again", path_, port.error().message());
    }
    told = error;
    peer_.set_console_present(false);
    co_await pause();
  }
}

asio::awaitable<void> ConsoleKeeper::run() {
  for (;;) {
    const auto port = co_await open();
    if (!port) {
      spdlog::info("no console channel at {}", path_);
      co_return;
    }
    peer_.set_console_present(true);
    while (port->usable()) {
      std::unique_ptr<transport::Lane> lane = transport::make_console_lane(port, end_, options_);
      const std::string reason = co_await peer_.run_lane(LaneKind::console, std::move(lane), 0);
      spdlog::debug("console lane ended: {}", reason);
      if (peer_.lane_carried(LaneKind::console)) backoff_.reset();
      co_await pause();
    }
    spdlog::warn("console {}: {}", path_, port->trouble());
    peer_.set_console_present(false);
    co_await pause();
  }
}

}  // namespace xenlane::bridge

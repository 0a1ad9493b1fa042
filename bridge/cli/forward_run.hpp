// The process of `xenlane forward`: some forwards, the far sides they share, and the control socket
// by which they are found and stopped.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bridge/control/server.hpp"
#include "bridge/forward/near.hpp"

namespace xenlane::bridge::cli {

/// One that listens already, unless the far side is to.
struct BoundForward {
  ForwardSpec spec;
  std::vector<ForwardSocket> sockets;
};

class ForwardRun {
 public:
  /// `told` takes lines for the user.
  ForwardRun(std::string run_dir, std::function<void(const std::string&)> told);
  ForwardRun(const ForwardRun&) = delete;
  ForwardRun& operator=(const ForwardRun&) = delete;

  void add(BoundForward forward);
  /// Has exactly these from now on. What cannot listen is tried again.
  void set(const std::vector<ForwardSpec>& specs);
  /// Asked for again on SIGHUP; without it that ends the process.
  void on_reload(std::function<std::optional<std::vector<ForwardSpec>>()> reload) {
    reload_ = std::move(reload);
  }
  /// `control` listens; may be none. Runs until it is stopped by a signal or by request.
  void run(std::optional<ListenerSocket> control);

 private:
  std::shared_ptr<Uplink> uplink_to(const ForwardSpec& spec);
  void retry_unbound();
  void await_signal();
  void stop();
  boost::json::object answer(const boost::json::object& request);

  std::string run_dir_;
  std::function<void(const std::string&)> told_;
  boost::asio::io_context context_{1};
  boost::asio::signal_set signals_{context_, SIGTERM, SIGINT, SIGHUP};
  boost::asio::steady_timer retry_{context_};
  std::function<std::optional<std::vector<ForwardSpec>>()> reload_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<Uplink>> uplinks_;
  std::vector<std::shared_ptr<NearForward>> forwards_;
  std::vector<ForwardSpec> unbound_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace xenlane::bridge::cli

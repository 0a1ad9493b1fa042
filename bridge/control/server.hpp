// Serves the control protocol on a listening Unix socket, inside the daemon's event loop. Clients
// are untrusted: whatever one sends, stalls or leaves open costs a bounded amount of memory and a
// bounded time, and touches no other client. What a request means is the handler's business.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "bridge/control/protocol.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// What a request is answered with.
struct ControlReply {
  // Most replies are no more than their words.
  ControlReply(boost::json::object reply)
      : body(std::move(reply)) {}  // NOLINT(google-explicit-constructor)
  ControlReply(boost::json::object reply, std::shared_ptr<const void> keep)
      : body(std::move(reply)), held(std::move(keep)) {}

  boost::json::object body;
  /// For what lasts as long as its client: kept until the connection ends, which has no deadline
  /// then, or another request of that connection is answered with another. Who gives these out
  /// limits their number.
  std::shared_ptr<const void> held;
};

class ControlServer {
 public:
  /// Answers one checked request; runs on the executor and must not block. An unknown "op" is
  /// answered with control_error("unknown-op", ...). What it throws becomes an "internal" error.
  using Handler = std::function<ControlReply(const boost::json::object& request)>;

  struct Options {
    std::size_t connections_max = control_connections_max;
    std::chrono::milliseconds idle_deadline = control_idle_deadline;
  };

  /// Takes a listening Unix stream socket (listen_unix() makes one) and starts to accept. The
  /// executor must run its handlers one at a time.
  ControlServer(const boost::asio::any_io_executor& executor, transport::UniqueFd listening,
                Handler handler, Options options);
  ControlServer(const boost::asio::any_io_executor& executor, transport::UniqueFd listening,
                Handler handler)
      : ControlServer(executor, std::move(listening), std::move(handler), Options{}) {}
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  ~ControlServer();

  /// Closes the listening socket and every connection. The handler is not called afterwards.
  void stop();

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace xenlane::bridge

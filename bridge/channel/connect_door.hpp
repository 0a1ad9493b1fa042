// The connect socket: one for each peer, that leads to all its channels whose own sockets are on
// this side. For tools that know Firecracker's hybrid vsock, and for those that can say a line more
// easily than pick a file.
//
// It opens nothing that the channels' own sockets would not: who may use a channel this way is
// decided by the mode, owner and group of that channel's socket file.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <chrono>
#include <memory>

#include "bridge/channel/channel_table.hpp"
#include "bridge/channel/connect_request.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// The socket's file name, beside those of the channels.
inline constexpr std::string_view connect_socket_name = "connect";

/// Clients that have not said their line yet, or wait for room; more wait in the backlog.
inline constexpr std::size_t connect_visitors_max = 64;

/// For a client to say its line.
inline constexpr std::chrono::milliseconds connect_line_deadline{5000};

class ConnectDoor {
 public:
  /// Accepts at once. `table` must outlive the door; `line_deadline` is for tests.
  ConnectDoor(const boost::asio::any_io_executor& executor, transport::UniqueFd listener,
              ChannelTable& table, ConnectNumbers numbers,
              std::chrono::milliseconds line_deadline = connect_line_deadline);
  ConnectDoor(const ConnectDoor&) = delete;
  ConnectDoor& operator=(const ConnectDoor&) = delete;
  ~ConnectDoor();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace xenlane::bridge

// Accepts the connections of a forward's listening sockets, for either side.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "bridge/forward/listen.hpp"

namespace xenlane::bridge {

/// One turn of the event loop takes so many connections of a socket, so that others have theirs.
inline constexpr int accepted_at_once_max = 64;

class ForwardAcceptor : public std::enable_shared_from_this<ForwardAcceptor> {
 public:
  /// `accepted` is given connected sockets that do not block; TCP ones have TCP_NODELAY and
  /// SO_KEEPALIVE.
  using Accepted = std::function<void(transport::UniqueFd)>;
  ForwardAcceptor(const boost::asio::any_io_executor& executor, std::vector<ForwardSocket> sockets,
                  Accepted accepted);

  /// Instead of what the constructor was given; before start().
  void on_accepted(Accepted accepted) { accepted_ = std::move(accepted); }
  void start();
  /// While it is full no connection is accepted: they wait in the kernel.
  void set_full(bool full);
  /// Closes the sockets and removes their files. Nothing is called afterwards.
  void close();

 private:
  void wait(std::size_t door);
  void accept_some(std::size_t door);

  std::vector<ForwardSocket> sockets_;
  std::vector<boost::asio::posix::stream_descriptor> doors_;
  std::vector<bool> waiting_;
  boost::asio::steady_timer pause_;
  Accepted accepted_;
  bool full_ = false;
  bool closed_ = false;
};

/// Of a TCP connection; of others nothing.
void set_prompt(int socket);

}  // namespace xenlane::bridge

// One control stream of a forward at its far end: orders come in, listeners are made, what they
// accept is announced.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <map>
#include <memory>
#include <string>

#include "bridge/forward/acceptor.hpp"
#include "bridge/forward/desk.hpp"
#include "bridge/forward/request.hpp"

namespace xenlane::bridge {

/// What is to be said on a control stream whose other end does not read; beyond that it is closed.
inline constexpr std::size_t forward_unsaid_bytes_max = 64 * 1024;

class FarControl : public std::enable_shared_from_this<FarControl> {
 public:
  FarControl(const boost::asio::any_io_executor& executor, transport::UniqueFd socket,
             ForwardDesk& desk, ForwardTerms terms);

  void start();
  /// Ends it, with its listeners; the desk forgets it.
  void close();
  /// One of its connections was taken, or has waited too long.
  void handle_taken();

 private:
  struct Listener {
    ForwardAddress address;
    std::shared_ptr<ForwardAcceptor> acceptor;
  };

  void wait_readable();
  void read();
  void handle(const ForwardOrder& order);
  void listen(const ForwardListen& order);
  void accepted(std::uint32_t number, transport::UniqueFd socket);
  void say(const ForwardNews& news);
  void flush();

  boost::asio::any_io_executor executor_;
  boost::asio::posix::stream_descriptor socket_;
  ForwardDesk* desk_;  ///< null when closed
  ForwardTerms terms_;
  LineQueue lines_;
  std::string unsaid_;
  bool writing_ = false;
  std::map<std::uint32_t, Listener> listeners_;
  std::size_t pending_ = 0;
};

}  // namespace xenlane::bridge

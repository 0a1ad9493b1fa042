// What a broker tells its worker: which channels the guest has, from the first to every change. One
// message for each, on a SOCK_SEQPACKET pair, with a channel's listening socket riding along; the
// broker parses no answer. Both ends are the same program, so the form is nobody else's business.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <memory>
#include <string>

#include "bridge/daemon/live_channels.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::host {

/// Orders that wait for a worker to take them; one that lets more wait is beyond help.
inline constexpr std::size_t orders_waiting_max = 4 * bridge::channels_max;
/// Longest message: a channel with all its keys, of which the lists of users are the longest.
inline constexpr std::size_t order_bytes_max = 32 * 1024;

/// A connected pair, first the broker's end. Throws std::system_error.
std::pair<transport::UniqueFd, transport::UniqueFd> make_order_pair();

/// The broker's end. Never blocks.
class OrderSender final {
 public:
  OrderSender(const boost::asio::any_io_executor& executor, transport::UniqueFd socket);
  OrderSender(const OrderSender&) = delete;
  OrderSender& operator=(const OrderSender&) = delete;
  ~OrderSender();

  /// `listener` is duplicated; -1: none comes along.
  void set_channel(const bridge::ChannelConfig& channel, const std::string& path, int listener);
  void remove_channel(const bridge::ChannelName& name);
  /// Those so far are what the guest begins with.
  void begin();
  /// False when the worker has gone, or takes nothing.
  bool works() const { return !failed_; }

 private:
  struct Message {
    std::string text;
    transport::UniqueFd listener;
  };
  void send(std::string text, transport::UniqueFd listener);
  void flush();

  boost::asio::posix::stream_descriptor socket_;
  std::deque<Message> waiting_;
  bool flushing_ = false;
  bool failed_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// The worker's end.
class OrderReceiver {
 public:
  /// `server` must outlive run().
  OrderReceiver(transport::UniqueFd socket, bridge::ChannelServer& server)
      : socket_(std::move(socket)), server_(server) {}

  /// Takes what the guest begins with; waits for that. Throws StartFailure when it does not come.
  void take_first();
  /// Takes every order that comes until the broker has gone.
  boost::asio::awaitable<void> run();

 private:
  enum class Taken { order, begin, nothing_now, end };
  Taken take();

  transport::UniqueFd socket_;
  bridge::ChannelServer& server_;
};

}  // namespace xenlane::host

// A level that one coroutine can wait for: raised any number of times, seen once. Watches, lane
// ends and requests all become "something may have changed, look again", which is the only form in
// which xenstore's events can be trusted (they may be spurious, merged or late).
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

namespace xenlane::transport {

/// Single-threaded; at most one waiter at a time. Must outlive its waiter.
class Signal {
 public:
  explicit Signal(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  void raise() {
    raised_ = true;
    timer_.cancel();
  }

  /// Returns when raised; takes the level down again.
  boost::asio::awaitable<void> wait() { co_await wait_for(std::chrono::hours(24 * 365)); }

  /// As wait(), but no longer than `limit`. True when it was raised.
  boost::asio::awaitable<bool> wait_for(std::chrono::steady_clock::duration limit) {
    if (!raised_) {
      timer_.expires_after(limit);
      co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    }
    co_return std::exchange(raised_, false);
  }

 private:
  boost::asio::steady_timer timer_;
  bool raised_ = false;
};

}  // namespace xenlane::transport

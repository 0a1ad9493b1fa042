// Moves the bytes of one connection between its local program and its stream, and passes on how it
// ends: half-close as half-close, a reset as a reset.
//
// A Unix socket cannot tell the end of a stream from its breaking. What can be seen is whether the
// bridge has closed only its writing half, as it does behind the last byte, or the whole socket: in
// the second case, and in it only, the far side is asked how the connection ended.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "bridge/forward/uplink.hpp"

namespace xenlane::bridge {

/// Read at once, and the most that is kept for an end that does not take it.
inline constexpr std::size_t pump_bytes_max = 64 * 1024;
/// For the far side to say how a connection ended, or to reset it.
inline constexpr std::chrono::seconds pump_end_wait{10};

/// Figures of one forward.
struct ForwardCounters {
  std::uint64_t open = 0;      ///< connections that are joined
  std::uint64_t waiting = 0;   ///< that are being made
  std::uint64_t opened = 0;    ///< that were joined, those that have ended included
  std::uint64_t failed = 0;    ///< that could not be made
  std::uint64_t reset = 0;     ///< that did not end well
  std::uint64_t bytes_in = 0;  ///< from the far side
  std::uint64_t bytes_out = 0;
  std::string last_error;
};

class ForwardPump : public std::enable_shared_from_this<ForwardPump> {
 public:
  /// Takes over the local program's connected socket, which does not block, and a stream.
  ForwardPump(const boost::asio::any_io_executor& executor, transport::UniqueFd local,
              OpenedForward stream, std::shared_ptr<Uplink> uplink,
              std::shared_ptr<ForwardCounters> counters);
  ~ForwardPump();

  /// `from_local` was read from the local program already.
  void start(std::string from_local);
  /// Breaks the connection off.
  void abort();
  /// Called once, when it is over.
  void on_end(std::function<void()> ended) { ended_ = std::move(ended); }

 private:
  struct End {
    explicit End(const boost::asio::any_io_executor& executor, int fd) : socket(executor, fd) {}
    boost::asio::posix::stream_descriptor socket;
    std::string aside;           ///< for it to take
    bool in_over = false;        ///< nothing more is read from it
    bool out_over = false;       ///< nothing more is written to it
    bool finish_wanted = false;  ///< half-close when `aside` has gone
    bool waits_readable = false;
    bool waits_writable = false;
  };

  End& other(const End& end) { return &end == &local_ ? stream_ : local_; }
  void move(End& from);
  void give(End& to, std::span<const char> bytes);
  void flush(End& to);
  void wait_readable(End& from);
  void wait_writable(End& to);
  void watch_local();
  void handle_end(End& from);
  void handle_read_error(const End& from);
  void handle_write_error(End& to, int error);
  void finish(End& to);
  void handle_local_reset();
  void handle_stream_over(bool reset);
  void close_if_done();
  void close(bool with_reset);

  boost::asio::any_io_executor executor_;
  End local_;
  End stream_;
  std::string token_;
  std::shared_ptr<Uplink> uplink_;
  std::shared_ptr<ForwardCounters> counters_;
  std::function<void()> ended_;
  boost::asio::steady_timer patience_;
  bool local_is_tcp_ = false;
  bool stream_gone_ = false;  ///< the bridge has closed it altogether
  bool resetting_ = false;
  bool closed_ = false;
};

}  // namespace xenlane::bridge

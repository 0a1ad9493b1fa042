// One local program joined to a PV channel, whose other end is a plain program: bytes pass as they
// are, both ways, as if the program had opened QEMU's socket or the guest's tty itself.
//
// Such a channel has no beginning and no end: who is at its other end, if anybody, cannot be seen,
// and a program that shuts down its write side says nothing by it to the other. So the link lasts
// until the local program closes its socket, or the channel's device hangs up.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "transport/base/signal.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// What is read at once; no more than this waits to be written, each way.
inline constexpr std::size_t raw_bytes = 16 * 1024;
/// How long the channel is still kept for what a program said before it left, if it is not taken.
inline constexpr std::chrono::milliseconds raw_drain_max{2000};

class RawLink : public std::enable_shared_from_this<RawLink> {
 public:
  using Open = std::function<boost::system::result<transport::UniqueFd>()>;

  /// Takes over a connected socket that does not block. `greeting` is what the program is told once
  /// the device is open; short.
  RawLink(const boost::asio::any_io_executor& executor, transport::UniqueFd client,
          std::string greeting = {});

  /// What ended the link; nothing when the local program did.
  struct Ending {
    int error = 0;     ///< errno value
    std::string text;  ///< empty: the program closed its socket
    bool opened = false;
  };
  /// Opens the device, again and again until `deadline` has passed, and carries bytes. Once.
  boost::asio::awaitable<Ending> run(Open open, std::chrono::milliseconds deadline);
  /// Ends run() soon.
  void close();

  std::uint64_t bytes_in() const { return bytes_in_; }    ///< from the channel
  std::uint64_t bytes_out() const { return bytes_out_; }  ///< to it

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;

  boost::asio::awaitable<bool> open_device(Open open, std::chrono::milliseconds deadline);
  boost::asio::awaitable<void> carry_out();
  boost::asio::awaitable<void> watch_client();
  boost::asio::awaitable<void> carry_in();
  boost::asio::awaitable<bool> write_all(Descriptor& to, const char* bytes, std::size_t size);
  void end(int error, const std::string& text);
  bool client_has_gone();

  boost::asio::any_io_executor executor_;
  Descriptor client_;
  std::string greeting_;
  Descriptor device_;
  transport::Signal over_;
  bool is_over_ = false;
  bool is_silent_ = false;  ///< the program says no more, and all it said is out
  Ending ending_;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

}  // namespace xenlane::bridge

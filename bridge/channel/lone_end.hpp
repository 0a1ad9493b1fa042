// A port's local connection that has no partner yet. What its program says meanwhile is kept, up to
// a limit and then not read, or thrown away, as the channel is configured; and a program that goes
// away again without having said anything is noticed.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>

#include "bridge/channel/connection.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

class LoneEnd : public std::enable_shared_from_this<LoneEnd> {
 public:
  /// Takes over a connected socket that does not block. Of what comes `bytes_max` bytes are kept;
  /// with 0 everything is thrown away.
  LoneEnd(const boost::asio::any_io_executor& executor, transport::UniqueFd socket,
          std::uint64_t bytes_max);

  /// `gone` is called once if the program leaves and there is nothing of its to be delivered.
  void start(std::function<void()> gone);

  struct Parts {
    transport::UniqueFd socket;
    ByteQueue bytes;  ///< that were read from it
  };
  /// Ends the waiting. False in `first` when the program has left without a word.
  std::pair<bool, Parts> take();

 private:
  void read();
  void wait_gone();
  bool has_gone();

  boost::asio::posix::stream_descriptor socket_;
  std::uint64_t bytes_max_;
  ByteQueue bytes_;
  std::function<void()> gone_;
};

}  // namespace xenlane::bridge

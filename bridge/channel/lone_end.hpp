// A port's local connection that has no partner yet. What its program says meanwhile is kept, up to
// a limit and then not read, or thrown away, as the channel is configured; and a program that goes
// away again without having said anything is noticed.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <functional>
#include <memory>

#include "bridge/channel/connection.hpp"
#include "bridge/channel/local_end.hpp"

namespace xenlane::bridge {

class LoneEnd : public std::enable_shared_from_this<LoneEnd> {
 public:
  /// What becomes of what the program says.
  enum class Keeps : std::uint8_t {
    bytes,       ///< so many are read and kept, and the rest left in the socket
    nothing,     ///< all is read and thrown away
    all_unread,  ///< all is left in the socket
  };

  /// Takes over a connected socket that does not block. `bytes_max` is for Keeps::bytes.
  LoneEnd(const boost::asio::any_io_executor& executor, LocalEnd local, Keeps keeps,
          std::uint64_t bytes_max);

  /// `gone` is called once if the program leaves and there is nothing of its to be delivered.
  void start(std::function<void()> gone);

  struct Parts {
    LocalEnd local;
    ByteQueue bytes;  ///< that were read from its socket
  };
  /// Drops the connection: its channel is no more.
  void close();
  /// Ends the waiting. False in `first` when the program has left without a word.
  std::pair<bool, Parts> take();

 private:
  void read();
  void wait_gone();
  bool has_gone();
  bool has_unread();

  boost::asio::posix::stream_descriptor socket_;
  LocalEnd local_;  ///< but for its socket
  Keeps keeps_;
  std::uint64_t bytes_max_;
  ByteQueue bytes_;
  std::function<void()> gone_;
};

}  // namespace xenlane::bridge

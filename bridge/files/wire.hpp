// The messages of message.hpp over a connection of a channel: a socket, which may block.
#pragma once

#include <chrono>
#include <functional>
#include <stdexcept>

#include "bridge/files/message.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// The connection ended, or what came over it were no messages: nothing more can be said there.
struct WireBroken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class WireReader {
 public:
  explicit WireReader(int fd);

  /// Called before each wait for the peer.
  void before_wait(std::function<void()> call) { before_wait_ = std::move(call); }

  /// The next message's header; false when the connection ended between two messages.
  bool next(Header& header);
  /// The same without waiting, and only if all of the message has come; not for data.
  bool next_if_whole(Header& header);
  /// The body of any message but data, whole. Valid until the next call.
  BytesView body();
  /// Some more of a data message's body; empty at its end. Valid until the next call.
  BytesView piece();
  /// Waits until something has come that was not read yet, or the time is over.
  void wait(std::chrono::nanoseconds no_longer_than) const;
  /// WireBroken if the other side has ended the connection, whatever of it is still to be read. For
  /// whoever works long on what one short message has said.
  void expect_peer() const;
  /// The body as what T is; WireBroken if it is none.
  template <typename T>
  T read() {
    return checked(decode<T>(body()));
  }
  template <typename T>
  static T checked(Decoded<T> decoded) {
    if (!decoded) throw WireBroken("the other side says " + decoded.error().text);
    return std::move(*decoded);
  }

 private:
  /// At least `size` bytes from begin_ on; false at the end of the connection.
  bool fill(std::size_t size);
  void make_room(std::size_t size);

  int fd_;
  std::function<void()> before_wait_;
  Bytes buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t body_left_ = 0;
};

class WireWriter {
 public:
  explicit WireWriter(int fd);

  /// Called when the peer sends while it does not take anything: it may be waiting for us to read.
  void while_waiting(std::function<void()> call) { while_waiting_ = std::move(call); }

  /// Collected until flush(), or until there are many.
  template <typename... T>
  void say(const T&... message) {
    encode(out_, message...);
    flush_if_long();
  }
  void say_hole(std::uint64_t length) {
    encode_hole(out_, length);
    flush_if_long();
  }
  void say_id(MessageType type, std::uint32_t id) {
    encode_id(out_, type, id);
    flush_if_long();
  }
  void say(MessageType type) { encode_header(out_, type, 0); }
  /// One data message. Long ones go out at once, without another copy.
  void data(BytesView bytes);
  /// The same, of bytes that have been read from `file`, at `offset`. Of many the kernel passes the
  /// file's own pages on, so what it holds when they are taken is what arrives. Whoever calls it
  /// ignores SIGPIPE.
  void data_of_file(BytesView bytes, int file, std::uint64_t offset);
  void flush();

 private:
  void flush_if_long();
  void write_with(BytesView more);
  bool await_room();
  std::size_t into_pipe(BytesView bytes, int file, std::uint64_t offset);
  std::size_t out_of_pipe(std::size_t size);

  int fd_;
  std::size_t never_blocks_bytes_ = 0;  ///< so many fit in when poll() says that some do
  transport::UniqueFd pipe_in_;         ///< of pages on their way from a file to the socket
  transport::UniqueFd pipe_out_;
  std::function<void()> while_waiting_;
  Bytes out_;
};

}  // namespace xenlane::bridge::files

// One local Unix socket joined to one stream: reads it straight into the ring, writes the ring's
// bytes straight to it, keeps aside only what the socket will not take now.
//
// The two directions end apart: an application's shutdown(SHUT_WR) becomes FINISH while the other
// direction goes on. An application that closed altogether (POLLHUP) is told from one that only
// half-closed, because only then may the peer be asked to stop sending.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "bridge/wire/frame.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

/// What a connection tells whoever owns it. None of these may destroy the connection except
/// handle_closed and handle_broken, each of which is always the last.
class ConnectionOwner {
 public:
  ConnectionOwner() = default;
  ConnectionOwner(const ConnectionOwner&) = delete;
  ConnectionOwner& operator=(const ConnectionOwner&) = delete;

  /// The socket has bytes, or has ended.
  virtual void handle_readable(StreamId id) = 0;
  /// Bytes from the ring have gone to the application, or nowhere because it is gone.
  virtual void handle_delivered(StreamId id, std::size_t bytes) = 0;
  /// The application reads no more.
  virtual void handle_reader_gone(StreamId id) = 0;
  /// The application is there, and yet the kernel does not take its bytes: they are lost to it. Or
  /// (EBADMSG) what the peer sent is no messages.
  /// The owner is to close() the connection.
  virtual void handle_broken(StreamId id, int error) = 0;
  /// Both directions are over and everything is flushed.
  virtual void handle_closed(StreamId id) = 0;

 protected:
  ~ConnectionOwner() = default;
};

/// Bytes in order, with a cheap front: append at the end, drop at the beginning.
class ByteQueue {
 public:
  bool empty() const { return head_ == bytes_.size(); }
  std::size_t size() const { return bytes_.size() - head_; }
  std::span<const std::byte> front() const { return std::span(bytes_).subspan(head_); }
  void append(std::span<const std::byte> bytes);
  void drop(std::size_t count);

 private:
  std::vector<std::byte> bytes_;
  std::size_t head_ = 0;
};

/// What a connection of SocketKind::seqpacket has besides. In the stream each message has its size
/// in front of it (docs/protocol.md, section 5.8).
struct MessageState {
  ByteQueue unsent;  ///< the rest of one message that the application sent, with its size
  /// Of the bytes kept aside, so many at the front were told as delivered: those of a message that
  /// has not come whole, or that the socket does not take.
  std::size_t told = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class ReadStatus : std::uint8_t { bytes, nothing_now, ended, broken };
  struct ReadResult {
    ReadStatus status;
    std::uint32_t bytes = 0;
    bool drained = false;    ///< the socket gave less than there was room for
    int error = ECONNRESET;  ///< errno value, when broken
  };

  /// Takes over a connected, non-blocking socket of that kind. The owner must outlive the
  /// connection or call close() first.
  Connection(const boost::asio::any_io_executor& executor, transport::UniqueFd socket, StreamId id,
             ConnectionOwner& owner, SocketKind kind = SocketKind::stream);

  StreamId id() const { return id_; }
  /// Bytes kept aside because the application does not read, and not told as delivered.
  std::size_t held_bytes() const { return aside_.size() - (messages_ ? messages_->told : 0); }

  /// Reads what the socket has, at most to.size() bytes. `ended` is reported once; call
  /// close_if_done() when it has been dealt with.
  ReadResult read_into(const transport::WritableSpans& to);
  /// Bytes that were read from the socket before the connection was made; they come first.
  void put_first(ByteQueue bytes);
  /// Calls handle_readable when there is something to read.
  void wait_readable();
  /// Hands on bytes from the peer; what the socket will not take is copied aside.
  void deliver(const transport::ReadableSpans& bytes);
  /// Lets the socket take `bytes` ahead of its reader, if the kernel allows it: the more it takes,
  /// the longer both sides run without waiting for each other. Never shrinks.
  void widen_send_buffer(std::uint64_t bytes);
  /// No bytes follow those delivered so far: half-close once they are flushed.
  void finish_writing();
  /// The peer reads no more: the application's writes are to fail from now on.
  void stop_reading();
  /// Closes the socket when both directions are over, and tells the owner.
  void close_if_done();
  /// Drops the socket and everything kept aside, without further calls to the owner.
  void close();
  /// The same, and what is behind a TCP socket sees no clean end: it is reset.
  void abort();
  /// Writes a few bytes of our own ahead of all that is delivered. False when the socket does not
  /// take them.
  bool send_first(std::string_view bytes);

 private:
  ReadResult take_first(const transport::WritableSpans& to);
  void wait_writable();
  void flush();
  void write_failed(int error);
  void drop_output();
  void watch_hang_up();
  ReadResult read_message(const transport::WritableSpans& to);
  ReadResult receive_message();
  void deliver_messages(const transport::ReadableSpans& bytes);
  void flush_messages();
  int send_message(std::size_t size);
  bool is_within_message() const;

  boost::asio::posix::stream_descriptor socket_;
  StreamId id_;
  ConnectionOwner* owner_;
  ByteQueue aside_;
  ByteQueue first_;                         ///< read already, and not yet taken
  std::unique_ptr<MessageState> messages_;  ///< null for streams
  bool reading_over_ = false;
  bool writing_over_ = false;
  bool finish_wanted_ = false;
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
};

}  // namespace xenlane::bridge

#include "bridge/channel/connection.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/send_buffer.hpp"

namespace xenlane::bridge {

namespace {

using boost::asio::posix::descriptor_base;

/// Of a socket towards its application, whatever the stream's window.
constexpr std::uint64_t send_buffer_bytes_max = 1024 * 1024;

constexpr std::size_t idle_queue_bytes_max = 4096;  ///< capacity an empty queue may keep

struct IoVectors {
  iovec parts[2];
  msghdr message{};

  template <typename Byte>
  explicit IoVectors(const transport::RingSpans<Byte>& spans) {
    parts[0] = {const_cast<std::byte*>(spans.first.data()), spans.first.size()};
    parts[1] = {const_cast<std::byte*>(spans.second.data()), spans.second.size()};
    message.msg_iov = parts;
    message.msg_iovlen = spans.second.empty() ? 1 : 2;
  }
};

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

void ByteQueue::append(std::span<const std::byte> bytes) {
  if (head_ > 0 && head_ >= bytes_.size() / 2) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void ByteQueue::drop(std::size_t count) {
  head_ += count;
  if (!empty()) return;
  head_ = 0;
  bytes_.clear();
  if (bytes_.capacity() > idle_queue_bytes_max) bytes_.shrink_to_fit();
}

Connection::Connection(const boost::asio::any_io_executor& executor, transport::UniqueFd socket,
                       StreamId id, ConnectionOwner& owner, SocketKind kind)
    : socket_(executor, socket.release()), id_(id), owner_(&owner) {
  if (kind == SocketKind::stream) return;
  messages_ = std::make_unique<MessageState>();
  // Without room for its credentials an empty message cannot be told from the end.
  const int on = 1;
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  // The kernel takes a message whole, or not at all (EMSGSIZE).
  widen_send_buffer(message_bytes_max);
}

Connection::ReadResult Connection::read_into(const transport::WritableSpans& to) {
  if (reading_over_ || owner_ == nullptr) return {ReadStatus::nothing_now};
  if (!first_.empty()) return take_first(to);
  if (messages_) return read_message(to);
  IoVectors vectors(to);
  // No room for control data: descriptors that an application passes are closed by the kernel.
  const ssize_t got = ::recvmsg(socket_.native_handle(), &vectors.message, MSG_DONTWAIT);
  if (got > 0) {
    const auto bytes = static_cast<std::uint32_t>(got);
    return {ReadStatus::bytes, bytes, bytes < to.size()};
  }
  if (got < 0 && would_block(errno)) return {ReadStatus::nothing_now};
  reading_over_ = true;
  if (got < 0) return {ReadStatus::broken};
  watch_hang_up();
  return {ReadStatus::ended};
}

void Connection::put_first(ByteQueue bytes) {
  first_ = std::move(bytes);
}

Connection::ReadResult Connection::take_first(const transport::WritableSpans& to) {
  const std::size_t count = std::min(first_.size(), to.size());
  const auto bytes = first_.front().first(count);
  const std::size_t before_wrap = std::min(count, to.first.size());
  std::ranges::copy(bytes.first(before_wrap), to.first.begin());
  std::ranges::copy(bytes.subspan(before_wrap), to.second.begin());
  first_.drop(count);
  return {ReadStatus::bytes, static_cast<std::uint32_t>(count), false};
}

void Connection::wait_readable() {
  if (waiting_readable_ || reading_over_ || owner_ == nullptr) return;
  waiting_readable_ = true;
  socket_.async_wait(descriptor_base::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->waiting_readable_ = false;
                       if (!error && self->owner_ != nullptr) {
                         self->owner_->handle_readable(self->id_);
                       }
                     });
}

// After end-of-file the only news can be that the application closed the other direction too.
void Connection::watch_hang_up() {
  socket_.async_wait(descriptor_base::wait_error,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error || self->owner_ == nullptr || self->writing_over_) return;
                       pollfd poll{self->socket_.native_handle(), 0, 0};
                       ::poll(&poll, 1, 0);
                       if ((poll.revents & (POLLHUP | POLLERR)) != 0) {
                         self->drop_output();
                       } else {
                         self->watch_hang_up();  // it was not about this socket
                       }
                     });
}

void Connection::deliver(const transport::ReadableSpans& bytes) {
  if (messages_) return deliver_messages(bytes);
  std::size_t sent = 0;
  if (!writing_over_ && aside_.empty()) {
    IoVectors vectors(bytes);
    const ssize_t written =
        ::sendmsg(socket_.native_handle(), &vectors.message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written >= 0) {
      sent = static_cast<std::size_t>(written);
    } else if (!would_block(errno)) {
      const int error = errno;
      owner_->handle_delivered(id_, bytes.size());
      write_failed(error);
      return;
    }
  }
  if (writing_over_) sent = bytes.size();
  const auto rest = bytes.slice(sent, bytes.size() - sent);
  aside_.append(rest.first);
  aside_.append(rest.second);
  if (sent > 0) owner_->handle_delivered(id_, sent);
  if (!aside_.empty()) wait_writable();
}

void Connection::widen_send_buffer(std::uint64_t bytes) {
  transport::widen_send_buffer(socket_.native_handle(), static_cast<int>(std::min<std::uint64_t>(
                                                            bytes, send_buffer_bytes_max)));
}

void Connection::wait_writable() {
  if (waiting_writable_) return;
  waiting_writable_ = true;
  socket_.async_wait(descriptor_base::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->waiting_writable_ = false;
                       if (!error && self->owner_ != nullptr) self->flush();
                     });
}

void Connection::flush() {
  if (messages_) return flush_messages();
  std::size_t flushed = 0;
  while (!aside_.empty()) {
    const auto front = aside_.front();
    const ssize_t written =
        ::send(socket_.native_handle(), front.data(), front.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0 && !would_block(errno)) {
      const int error = errno;
      if (flushed > 0) owner_->handle_delivered(id_, flushed);
      write_failed(error);
      return;
    }
    if (written <= 0) break;
    flushed += static_cast<std::size_t>(written);
    aside_.drop(static_cast<std::size_t>(written));
  }
  if (flushed > 0) owner_->handle_delivered(id_, flushed);
  if (!aside_.empty()) {
    wait_writable();
  } else if (finish_wanted_) {
    finish_writing();
  }
}

void Connection::finish_writing() {
  finish_wanted_ = true;
  if (is_within_message()) return owner_->handle_broken(id_, EBADMSG);
  if (writing_over_ || !aside_.empty()) return;
  writing_over_ = true;
  ::shutdown(socket_.native_handle(), SHUT_WR);
  close_if_done();
}

// An application that reads no more is a way to end (socket(7), EPIPE). Anything else, as a kernel
// that is out of memory, would leave it with a part of the stream and an end that looks good.
void Connection::write_failed(int error) {
  if (error == EPIPE || error == ECONNRESET) {
    drop_output();
  } else {
    owner_->handle_broken(id_, error);
  }
}

// The application is gone or reads no more: what was for it goes nowhere.
void Connection::drop_output() {
  if (writing_over_) return;
  writing_over_ = true;
  const std::size_t dropped = held_bytes();
  aside_.drop(aside_.size());
  if (messages_) messages_->told = 0;
  if (dropped > 0) owner_->handle_delivered(id_, dropped);
  if (!finish_wanted_) owner_->handle_reader_gone(id_);
  close_if_done();
}

void Connection::stop_reading() {
  if (reading_over_) return;
  reading_over_ = true;
  ::shutdown(socket_.native_handle(), SHUT_RD);
  close_if_done();
}

void Connection::close_if_done() {
  if (!reading_over_ || !writing_over_ || owner_ == nullptr) return;
  ConnectionOwner* owner = owner_;
  close();
  owner->handle_closed(id_);
}

void Connection::abort() {
  // Of a Unix socket it changes nothing.
  const linger at_once{1, 0};
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

bool Connection::send_first(std::string_view bytes) {
  return ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

void Connection::close() {
  owner_ = nullptr;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

}  // namespace xenlane::bridge

// The connections whose sockets carry messages (SOCK_SEQPACKET): each is kept whole, with its size
// in front of it in the stream. They are copied once more than a stream's bytes, because a message
// can only be had from the kernel, and given to it, in one piece.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "bridge/channel/connection.hpp"
#include "bridge/session/session.hpp"
#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {

namespace {

/// Size of the message that begins there, as the peer says; nothing while its size is not whole.
std::optional<std::uint32_t> untrusted_size_of(std::span<const std::byte> front) {
  if (front.size() < message_prefix_bytes) return std::nullopt;
  return load_le<std::uint32_t>(front.first<message_prefix_bytes>());
}

bool is_for_later(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

Connection::ReadResult Connection::read_message(const transport::WritableSpans& to) {
  ByteQueue& unsent = messages_->unsent;
  if (unsent.empty()) {
    const ReadResult got = receive_message();
    if (got.status != ReadStatus::bytes) return got;
  }
  const std::size_t count = std::min(unsent.size(), to.size());
  copy_in(to, 0, unsent.front().first(count));
  unsent.drop(count);
  return {ReadStatus::bytes, static_cast<std::uint32_t>(count), false};
}

// Of an empty message and of the end the kernel says the same, 0 bytes; but only a message comes
// with credentials. There is room for these and nothing else: descriptors that an application
// passes are closed by the kernel.
Connection::ReadResult Connection::receive_message() {
  std::array<std::byte, message_prefix_bytes + message_bytes_max> message;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred))> credentials;
  iovec part{message.data() + message_prefix_bytes, message_bytes_max};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = credentials.data();
  header.msg_controllen = credentials.size();
  const ssize_t got = ::recvmsg(socket_.native_handle(), &header, MSG_DONTWAIT);
  if (got < 0 && is_for_later(errno)) return {ReadStatus::nothing_now};
  if (got < 0) {
    reading_over_ = true;
    return {ReadStatus::broken, 0, false, ECONNRESET};
  }
  if (got == 0 && header.msg_controllen == 0) {
    reading_over_ = true;
    watch_hang_up();
    return {ReadStatus::ended};
  }
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    reading_over_ = true;
    return {ReadStatus::broken, 0, false, EMSGSIZE};
  }
  store_le<std::uint32_t>(std::span(message).first<message_prefix_bytes>(),
                          static_cast<std::uint32_t>(got));
  messages_->unsent.append(
      std::span(message).first(message_prefix_bytes + static_cast<std::size_t>(got)));
  return {ReadStatus::bytes};
}

void Connection::deliver_messages(const transport::ReadableSpans& bytes) {
  if (writing_over_) return owner_->handle_delivered(id_, bytes.size());
  aside_.append(bytes.first);
  aside_.append(bytes.second);
  flush_messages();
}

// The front of what is kept aside is counted as delivered while it is one message's: a window may
// be shorter than that, and would never open again. So at most one message is kept beyond it.
void Connection::flush_messages() {
  const std::size_t held_before = held_bytes();
  int error = 0;
  while (const auto untrusted_size = untrusted_size_of(aside_.front())) {
    const std::size_t whole = message_prefix_bytes + *untrusted_size;
    if (*untrusted_size <= message_bytes_max && aside_.size() < whole) break;
    error = *untrusted_size > message_bytes_max ? EBADMSG : send_message(*untrusted_size);
    if (error != 0) break;
    aside_.drop(whole);
    messages_->told -= std::min(messages_->told, whole);
    if (aside_.empty()) break;
  }
  const bool blocked = is_for_later(error);
  if (blocked) {
    const std::size_t size = *untrusted_size_of(aside_.front());
    messages_->told = std::max(messages_->told, message_prefix_bytes + size);
  } else if (error == 0) {
    messages_->told = aside_.size();
  }
  const std::size_t delivered = held_before - held_bytes();
  if (delivered > 0) owner_->handle_delivered(id_, delivered);
  if (blocked) {
    wait_writable();
  } else if (error == EBADMSG) {
    owner_->handle_broken(id_, error);
  } else if (error != 0) {
    write_failed(error);
  } else if (finish_wanted_) {
    finish_writing();
  }
}

// The first that is kept aside, which is there whole. Returns an errno value.
int Connection::send_message(std::size_t size) {
  const auto message = aside_.front().subspan(message_prefix_bytes, size);
  const ssize_t sent = ::send(socket_.native_handle(), message.data(), message.size(),
                              MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR);
  return sent < 0 ? errno : 0;
}

bool Connection::is_within_message() const {
  if (!messages_ || writing_over_ || aside_.empty()) return false;
  const auto size = untrusted_size_of(aside_.front());
  return !size || aside_.size() < message_prefix_bytes + *size;
}

}  // namespace xenlane::bridge

#include "bridge/files/wire.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "transport/base/send_buffer.hpp"

namespace xenlane::bridge::files {

namespace {

/// What is read at once. More would leave the processor's own cache before it is looked at.
constexpr std::size_t read_bytes = 256 * 1024;
/// A few pieces of a large file, so that whoever writes and whoever reads wake each other seldom.
constexpr int send_buffer_bytes = 1024 * 1024;
constexpr std::size_t collected_bytes_max = 64 * 1024;
/// From here on a copy costs more than a further piece of the write.
constexpr std::size_t long_data_bytes = 16 * 1024;
/// And from here on more than to pass on the pages that the bytes are in.
constexpr std::size_t passed_on_bytes_min = 64 * 1024;
/// Room for their pages and for the messages before them; the kernel lets everybody have twice that
/// (pipe(7), pipe-max-size).
constexpr int pipe_bytes = 512 * 1024;
constexpr std::size_t taken_along_bytes_max = 4096;

std::string errno_text() {
  return std::generic_category().message(errno);
}

}  // namespace

WireWriter::WireWriter(int fd) : fd_(fd) {
  transport::widen_send_buffer(fd, send_buffer_bytes);
  int room = 0;
  socklen_t size = sizeof room;
  // A stream can be written to when three quarters of its buffer are free (unix_writable() in
  // Linux, net/unix/af_unix.c); one of them is left for what the kernel counts besides.
  if (::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) == 0 && room > 0) {
    never_blocks_bytes_ = static_cast<std::size_t>(room) / 2;
  }
}

WireReader::WireReader(int fd) : fd_(fd), buffer_(read_bytes) {}

/// For `size` bytes from begin_ on.
void WireReader::make_room(std::size_t size) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ + size > buffer_.size()) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
}

bool WireReader::fill(std::size_t size) {
  if (end_ - begin_ >= size) return true;
  make_room(size);
  while (end_ - begin_ < size) {
    if (before_wait_) before_wait_();
    const ssize_t got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw WireBroken("the connection broke: " + errno_text());
    if (got == 0) return false;
    end_ += static_cast<std::size_t>(got);
  }
  return true;
}

bool WireReader::next(Header& header) {
  if (!fill(header_bytes)) {
    if (begin_ != end_) throw WireBroken("the connection ended within a message");
    return false;
  }
  header = checked(decode_header(std::span(buffer_).subspan(begin_).first<header_bytes>()));
  begin_ += header_bytes;
  body_left_ = header.body_bytes;
  return true;
}

bool WireReader::next_if_whole(Header& header) {
  for (bool has_read = false;; has_read = true) {
    const BytesView come = BytesView(buffer_).subspan(begin_, end_ - begin_);
    if (come.size() >= header_bytes) {
      header = checked(decode_header(come.first<header_bytes>()));
      if (header.type == MessageType::data) throw WireBroken("the other side sends content back");
      if (come.size() - header_bytes >= header.body_bytes) return next(header);
    }
    if (has_read) return false;
    make_room(header_bytes + body_bytes_max);
    const ssize_t got =
        ::recv(fd_, buffer_.data() + end_, buffer_.size() - end_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got < 0) throw WireBroken("the connection broke: " + errno_text());
    if (got == 0) throw WireBroken("the connection ended before all was confirmed");
    end_ += static_cast<std::size_t>(got);
  }
}

void WireReader::wait(std::chrono::nanoseconds no_longer_than) const {
  pollfd socket{fd_, POLLIN, 0};
  const timespec time{.tv_sec = no_longer_than.count() / 1'000'000'000,
                      .tv_nsec = no_longer_than.count() % 1'000'000'000};
  ::ppoll(&socket, 1, &time, nullptr);
}

void WireReader::expect_peer() const {
  pollfd socket{fd_, POLLRDHUP, 0};
  if (::poll(&socket, 1, 0) > 0) throw WireBroken("the connection ended before all had been sent");
}

BytesView WireReader::body() {
  if (body_left_ > body_bytes_max || !fill(body_left_)) {
    throw WireBroken("the connection ended within a message");
  }
  const BytesView body = BytesView(buffer_).subspan(begin_, body_left_);
  begin_ += body_left_;
  body_left_ = 0;
  return body;
}

BytesView WireReader::piece() {
  if (body_left_ == 0) return {};
  if (!fill(1)) throw WireBroken("the connection ended within a message");
  const BytesView piece = BytesView(buffer_).subspan(begin_, std::min(body_left_, end_ - begin_));
  begin_ += piece.size();
  body_left_ -= piece.size();
  return piece;
}

void WireWriter::flush_if_long() {
  if (out_.size() >= collected_bytes_max) flush();
}

void WireWriter::data(BytesView bytes) {
  encode_header(out_, MessageType::data, bytes.size());
  if (bytes.size() >= long_data_bytes) return write_with(bytes);
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  flush_if_long();
}

/// Header and content are to arrive together: whoever reads is woken, for many bytes or for few.
void WireWriter::data_of_file(BytesView bytes, int file, std::uint64_t offset) {
  if (bytes.size() < passed_on_bytes_min || never_blocks_bytes_ == 0) return data(bytes);
  if (out_.size() > taken_along_bytes_max) flush();
  encode_header(out_, MessageType::data, bytes.size());
  const std::size_t held = into_pipe(bytes, file, offset);
  const std::size_t gone = out_of_pipe(held);
  if (gone < held) {
    pipe_in_ = {};
    pipe_out_ = {};
  }
  // Of a file that has become shorter, or of a kind that has no pages to be passed on.
  const std::size_t begun = std::min(gone, out_.size());
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(begun));
  bytes = bytes.subspan(gone - begun);
  if (!bytes.empty()) write_with(bytes);
}

/// What is collected and the file's pages; how many bytes that were, from the first on.
std::size_t WireWriter::into_pipe(BytesView bytes, int file, std::uint64_t offset) {
  if (!pipe_in_) {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return 0;
    pipe_out_ = transport::UniqueFd(ends[0]);
    pipe_in_ = transport::UniqueFd(ends[1]);
    ::fcntl(ends[1], F_SETPIPE_SZ, pipe_bytes);  // what a smaller one does not take is copied
  }
  if (::write(pipe_in_.get(), out_.data(), out_.size()) != static_cast<ssize_t>(out_.size())) {
    return 0;
  }
  auto at = static_cast<off_t>(offset);
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t got = ::splice(file, &at, pipe_in_.get(), nullptr, left, SPLICE_F_NONBLOCK);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    left -= static_cast<std::size_t>(got);
  }
  return out_.size() + bytes.size() - left;
}

std::size_t WireWriter::out_of_pipe(std::size_t size) {
  std::size_t gone = 0;
  while (gone < size) {
    if (!await_room()) continue;
    const std::size_t some = std::min(size - gone, never_blocks_bytes_);
    const ssize_t taken = ::splice(pipe_out_.get(), nullptr, fd_, nullptr, some, 0);
    if (taken < 0 && errno == EINTR) continue;
    if (taken <= 0) break;
    gone += static_cast<std::size_t>(taken);
  }
  return gone;
}

void WireWriter::flush() {
  if (!out_.empty()) write_with({});
}

void WireWriter::write_with(BytesView more) {
  std::array<iovec, 2> parts{
      {{out_.data(), out_.size()}, {const_cast<std::byte*>(more.data()), more.size()}}};
  std::size_t left = out_.size() + more.size();
  while (left > 0) {
    const msghdr message{.msg_name = nullptr,
                         .msg_namelen = 0,
                         .msg_iov = parts.data(),
                         .msg_iovlen = parts.size(),
                         .msg_control = nullptr,
                         .msg_controllen = 0,
                         .msg_flags = 0};
    const ssize_t written = ::sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      await_room();
      continue;
    }
    if (written < 0) throw WireBroken("the connection broke: " + errno_text());
    auto gone = static_cast<std::size_t>(written);
    left -= gone;
    for (iovec& part : parts) {
      const std::size_t of_this = std::min(gone, part.iov_len);
      part.iov_base = static_cast<std::byte*>(part.iov_base) + of_this;
      part.iov_len -= of_this;
      gone -= of_this;
    }
  }
  out_.clear();
}

/// False when there is none yet. What the peer has sent meanwhile is seen to.
bool WireWriter::await_room() {
  pollfd socket{fd_, static_cast<short>(POLLOUT | (while_waiting_ ? POLLIN : 0)), 0};
  if (::poll(&socket, 1, -1) < 0) return false;
  if ((socket.revents & POLLIN) != 0 && while_waiting_) while_waiting_();
  return (socket.revents & ~POLLIN) != 0;
}

}  // namespace xenlane::bridge::files

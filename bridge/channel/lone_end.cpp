#include "bridge/channel/lone_end.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cerrno>

namespace xenlane::bridge {

using boost::asio::posix::descriptor_base;

namespace {

/// What is read at once.
constexpr std::size_t piece_bytes = 16 * 1024;
/// Before others have their turn.
constexpr int reads_max = 16;

}  // namespace

LoneEnd::LoneEnd(const boost::asio::any_io_executor& executor, LocalEnd local, Keeps keeps,
                 std::uint64_t bytes_max)
    : socket_(executor, local.socket.release()),
      local_(std::move(local)),
      keeps_(keeps),
      bytes_max_(bytes_max) {}

void LoneEnd::start(std::function<void()> gone) {
  gone_ = std::move(gone);
  if (keeps_ == Keeps::all_unread) {
    wait_gone();
  } else {
    read();
  }
}

bool LoneEnd::has_gone() {
  pollfd poll{socket_.native_handle(), 0, 0};
  ::poll(&poll, 1, 0);
  return (poll.revents & POLLHUP) != 0;
}

bool LoneEnd::has_unread() {
  std::byte byte{};
  return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void LoneEnd::read() {
  std::array<std::byte, piece_bytes> piece;
  for (int reads = 0;; ++reads) {
    if (reads == reads_max) {
      // A program that says more and more is not to keep others waiting.
      boost::asio::post(socket_.get_executor(), [self = shared_from_this()] {
        if (self->socket_.is_open()) self->read();
      });
      return;
    }
    const bool keeps = keeps_ == Keeps::bytes;
    const std::size_t room = keeps ? bytes_max_ - bytes_.size() : piece.size();
    // What it says beyond that waits in its own socket.
    if (room == 0) return;
    const ssize_t got =
        ::recv(socket_.native_handle(), piece.data(), std::min(room, piece.size()), MSG_DONTWAIT);
    if (got > 0) {
      if (keeps) bytes_.append(std::span(piece).first(static_cast<std::size_t>(got)));
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EAGAIN) return;  // the connection made of it will see the same
    if (got == 0) return wait_gone();
    break;
  }
  socket_.async_wait(descriptor_base::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && self->socket_.is_open()) self->read();
                     });
}

// It says no more. If it has said nothing, or nothing that is kept, it may as well not have come
// once it has gone altogether.
void LoneEnd::wait_gone() {
  if (!bytes_.empty()) return;
  if (has_gone() && !has_unread()) {
    // The owner may drop its share of this from within.
    const auto self = shared_from_this();
    boost::asio::post(socket_.get_executor(), [self] {
      if (self->socket_.is_open() && self->gone_) std::exchange(self->gone_, nullptr)();
    });
    return;
  }
  socket_.async_wait(descriptor_base::wait_error,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (!error && self->socket_.is_open()) self->wait_gone();
                     });
}

void LoneEnd::close() {
  gone_ = nullptr;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

std::pair<bool, LoneEnd::Parts> LoneEnd::take() {
  gone_ = nullptr;
  const bool has_word = !bytes_.empty() || !has_gone() || has_unread();
  local_.socket.reset(socket_.release());
  return {has_word, Parts{std::move(local_), std::move(bytes_)}};
}

}  // namespace xenlane::bridge

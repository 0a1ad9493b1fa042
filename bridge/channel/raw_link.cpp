#include "bridge/channel/raw_link.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using asio::posix::descriptor_base;

namespace {

/// QEMU makes its sockets while the domain is being built, a little after we may be asked for it.
constexpr std::chrono::milliseconds open_retry{50};
/// Then others have their turn.
constexpr std::size_t reads_in_a_row = 16;
constexpr auto wait_token = asio::as_tuple(asio::use_awaitable);

bool would_block(int error) {
  return error == EAGAIN || error == EINTR;
}

}  // namespace

RawLink::RawLink(const asio::any_io_executor& executor, transport::UniqueFd client,
                 std::string greeting)
    : executor_(executor),
      client_(executor, client.release()),
      greeting_(std::move(greeting)),
      device_(executor),
      over_(executor) {}

void RawLink::close() {
  end(ECONNRESET, "the channel was removed");
}

void RawLink::end(int error, const std::string& text) {
  if (is_over_) return;
  is_over_ = true;
  ending_.error = error;
  ending_.text = text;
  boost::system::error_code ignored;
  client_.close(ignored);
  device_.close(ignored);
  over_.raise();
}

bool RawLink::client_has_gone() {
  pollfd poll{client_.native_handle(), 0, 0};
  ::poll(&poll, 1, 0);
  return (poll.revents & (POLLHUP | POLLERR)) != 0;
}

asio::awaitable<bool> RawLink::open_device(Open open, std::chrono::milliseconds deadline) {
  const auto until = std::chrono::steady_clock::now() + deadline;
  asio::steady_timer pause(executor_);
  for (;;) {
    auto device = open();
    if (device) {
      device_.assign(device->release());
      co_return true;
    }
    if (client_has_gone()) end(0, "");
    if (!is_over_ && std::chrono::steady_clock::now() >= until) {
      end(device.error().value(), std::strerror(device.error().value()));
    }
    if (is_over_) co_return false;
    pause.expires_after(open_retry);
    co_await pause.async_wait(wait_token);
    if (is_over_) co_return false;
  }
}

asio::awaitable<RawLink::Ending> RawLink::run(Open open, std::chrono::milliseconds deadline) {
  const auto self = shared_from_this();
  if (!co_await open_device(std::move(open), deadline)) co_return ending_;
  ending_.opened = true;
  if (!co_await write_all(client_, greeting_.data(), greeting_.size())) end(0, "");
  asio::co_spawn(executor_, carry_out(), transport::or_throw);
  asio::co_spawn(executor_, carry_in(), transport::or_throw);
  asio::co_spawn(executor_, watch_client(), transport::or_throw);
  while (!is_over_) co_await over_.wait();
  co_return ending_;
}

// False when the descriptor takes no more, ever.
asio::awaitable<bool> RawLink::write_all(Descriptor& to, const char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(to.native_handle(), bytes, size);
    if (written > 0) {
      bytes += written;
      size -= static_cast<std::size_t>(written);
      continue;
    }
    if (written < 0 && !would_block(errno)) co_return false;
    const auto [error] = co_await to.async_wait(descriptor_base::wait_write, wait_token);
    if (error || is_over_) co_return false;
  }
  co_return true;
}

asio::awaitable<void> RawLink::carry_out() {
  const auto self = shared_from_this();
  std::array<char, raw_bytes> bytes;
  for (std::size_t reads = 1; !is_over_; ++reads) {
    if (reads % reads_in_a_row == 0) co_await asio::post(executor_, asio::use_awaitable);
    if (is_over_) co_return;
    const ssize_t got = ::read(client_.native_handle(), bytes.data(), bytes.size());
    if (got > 0) {
      if (!co_await write_all(device_, bytes.data(), static_cast<std::size_t>(got))) {
        co_return end(EIO, "the PV channel takes no more bytes");
      }
      bytes_out_ += static_cast<std::uint64_t>(got);
      continue;
    }
    if (got < 0 && !would_block(errno)) co_return end(0, "");
    if (got == 0) break;
    const auto [error] = co_await client_.async_wait(descriptor_base::wait_read, wait_token);
    if (error) co_return;
  }
  // It says no more, but may read on.
  is_silent_ = true;
  if (!is_over_ && client_has_gone()) end(0, "");
}

// A program that has gone altogether is waited for no longer than its last words take.
asio::awaitable<void> RawLink::watch_client() {
  const auto self = shared_from_this();
  while (!is_over_ && !client_has_gone()) {
    const auto [error] = co_await client_.async_wait(descriptor_base::wait_error, wait_token);
    if (error) co_return;
  }
  if (is_over_) co_return;
  if (!is_silent_) {
    asio::steady_timer pause(executor_, raw_drain_max);
    co_await pause.async_wait(wait_token);
  }
  end(0, "");
}

asio::awaitable<void> RawLink::carry_in() {
  const auto self = shared_from_this();
  std::array<char, raw_bytes> bytes;
  for (std::size_t reads = 1; !is_over_; ++reads) {
    if (reads % reads_in_a_row == 0) co_await asio::post(executor_, asio::use_awaitable);
    if (is_over_) co_return;
    const ssize_t got = ::read(device_.native_handle(), bytes.data(), bytes.size());
    if (got > 0) {
      if (!co_await write_all(client_, bytes.data(), static_cast<std::size_t>(got))) {
        co_return end(0, "");
      }
      bytes_in_ += static_cast<std::uint64_t>(got);
      continue;
    }
    if (got == 0 || !would_block(errno)) co_return end(EIO, "the PV channel hung up");
    const auto [error] = co_await device_.async_wait(descriptor_base::wait_read, wait_token);
    if (error) co_return;
  }
}

}  // namespace xenlane::bridge

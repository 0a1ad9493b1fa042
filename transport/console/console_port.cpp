#include "transport/console/console_port.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/assert.hpp"

namespace xenlane::transport {

namespace {

boost::system::error_code last_error() {
  return {errno, boost::system::system_category()};
}

}  // namespace

boost::system::result<std::shared_ptr<ConsolePort>> ConsolePort::make(UniqueFd device) {
  UniqueFd events(::epoll_create1(EPOLL_CLOEXEC));
  if (!events) return last_error();
  std::shared_ptr<ConsolePort> port(new ConsolePort(std::move(device), std::move(events)));
  epoll_event wanted{};
  wanted.events = EPOLLIN;
  if (::epoll_ctl(port->events_.get(), EPOLL_CTL_ADD, port->device_.get(), &wanted) != 0) {
    return last_error();
  }
  return port;
}

ConsolePort::ConsolePort(UniqueFd device, UniqueFd events)
    : device_(std::move(device)), events_(std::move(events)) {
  struct stat found {};
  is_socket_ = ::fstat(device_.get(), &found) == 0 && S_ISSOCK(found.st_mode);
}

std::span<const std::byte> ConsolePort::input() const {
  return std::span(input_).subspan(input_begin_, input_end_ - input_begin_);
}

bool ConsolePort::read_input() {
  if (input_begin_ < input_end_) return true;
  if (!usable() || drained_) return false;
  input_begin_ = input_end_ = 0;
  ssize_t got = -1;
  do {
    got = ::read(device_.get(), input_.data(), input_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    drained_ = true;
    return false;
  }
  if (got <= 0) {
    fail(got == 0 ? 0 : errno);
    return false;
  }
  input_end_ = static_cast<std::size_t>(got);
  drained_ = input_end_ < input_.size();
  bytes_in_ += input_end_;
  return true;
}

bool ConsolePort::write_output() {
  if (!usable()) output_end_ = 0;
  std::size_t written = 0;
  while (usable() && written < output_end_) {
    const std::byte* const at = output_.data() + written;
    const std::size_t size = output_end_ - written;
    const ssize_t sent = is_socket_ ? ::send(device_.get(), at, size, MSG_NOSIGNAL)
                                    : ::write(device_.get(), at, size);
    if (sent > 0) {
      written += static_cast<std::size_t>(sent);
      bytes_out_ += static_cast<std::size_t>(sent);
      ++writes_;
    } else if (sent == 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) {
      break;
    } else if (errno != EINTR) {
      // The other end is gone. What it wrote before is still to be read, and behind that the
      // reader meets the end.
      written = output_end_;
    }
  }
  std::copy(output_.begin() + static_cast<std::ptrdiff_t>(written),
            output_.begin() + static_cast<std::ptrdiff_t>(output_end_), output_.begin());
  output_end_ -= written;
  return watch(watching_input_, output_end_ > 0) && output_end_ == 0;
}

bool ConsolePort::watch(bool input, bool output) {
  const bool same = input == watching_input_ && output == watching_output_;
  if (!usable() || same) return usable();
  epoll_event wanted{};
  if (input) wanted.events |= EPOLLIN;
  if (output) wanted.events |= EPOLLOUT;
  if (::epoll_ctl(events_.get(), EPOLL_CTL_MOD, device_.get(), &wanted) != 0) {
    fail(errno);
    return false;
  }
  watching_input_ = input;
  watching_output_ = output;
  return true;
}

void ConsolePort::fail(int error) {
  switch (error) {
    case 0:
    case ECONNRESET:
    case EPIPE:
      trouble_ = "the console was closed at its other end";
      return;
    case EIO:
      trouble_ = "the console was hung up";
      return;
    default:
      trouble_ = "the console failed";
  }
}

}  // namespace xenlane::transport

// Two threads with blocking calls. One thread with poll() would need O_NONBLOCK on stdin and
// stdout, which are open file descriptions that other programs share (a shell's terminal); and with
// blocking writes a full stdout would stop the other direction.
#include "bridge/cli/pump.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <system_error>
#include <thread>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {
namespace {

constexpr std::size_t buffer_bytes = 64 * 1024;
using Buffer = std::array<char, buffer_bytes>;

std::string errno_text(const char* action) {
  return fmt::format("{}: {}", action, std::generic_category().message(errno));
}

/// Writes all of it; false with errno set when that failed.
template <typename Write>
bool write_all(const char* data, std::size_t size, Write write) {
  while (size > 0) {
    const ssize_t written = write(data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    data += written;
    size -= static_cast<std::size_t>(written);
  }
  return true;
}

ssize_t read_again(int fd, Buffer& buffer) {
  ssize_t got = 0;
  do {
    got = ::read(fd, buffer.data(), buffer.size());
  } while (got < 0 && errno == EINTR);
  return got;
}

/// The direction from `in` to the socket.
class Uploader {
 public:
  Uploader(int socket, int in) : socket_(socket), in_(in), wake_(::eventfd(0, EFD_CLOEXEC)) {
    if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
    thread_ = std::thread([this] { run(); });
  }
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;
  ~Uploader() {
    if (thread_.joinable()) abandon();
  }

  /// Lets it send what is ready and stop; returns its error.
  std::string finish() {
    wake();
    thread_.join();
    return error_;
  }

  /// Stops it at once. Its socket is of no use afterwards.
  void abandon() {
    is_abandoned_ = true;
    ::shutdown(socket_, SHUT_RDWR);
    wake();
    thread_.join();
  }

 private:
  void wake() { ::eventfd_write(wake_.get(), 1); }

  /// False when there is nothing ready to read and there is no reason to wait any more.
  bool wait_for_input() {
    for (;;) {
      std::array<pollfd, 2> fds = {{{in_, POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return false;
      }
      if (is_abandoned_) return false;
      if (fds[0].revents != 0) return true;
      if (fds[1].revents != 0) return false;
    }
  }

  void run() {
    const auto buffer = std::make_unique<Buffer>();
    while (wait_for_input()) {
      const ssize_t got = read_again(in_, *buffer);
      if (got < 0) error_ = errno_text("stdin");
      if (got <= 0) break;
      const bool sent = write_all(buffer->data(), static_cast<std::size_t>(got),
                                  [this](const char* data, std::size_t size) {
                                    return ::send(socket_, data, size, MSG_NOSIGNAL);
                                  });
      if (!sent) {
        error_ = errno_text("the other side closed before it took all input");
        return;
      }
    }
    ::shutdown(socket_, SHUT_WR);
  }

  int socket_;
  int in_;
  transport::UniqueFd wake_;
  std::atomic<bool> is_abandoned_{false};
  std::string error_;  // the thread's until it is joined
  std::thread thread_;
};

}  // namespace

PumpResult pump(int socket, int in, int out) {
  PumpResult result;
  const auto buffer = std::make_unique<Buffer>();
  Uploader uploader(socket, in);
  for (;;) {
    const ssize_t got = read_again(socket, *buffer);
    if (got == 0) break;
    if (got < 0) {
      result.error = errno_text("the connection broke");
      return result;
    }
    result.received_bytes += static_cast<std::uint64_t>(got);
    const auto write_out = [out](const char* data, std::size_t size) {
      return ::write(out, data, size);
    };
    if (!write_all(buffer->data(), static_cast<std::size_t>(got), write_out)) {
      result.error = errno_text("stdout");
      return result;
    }
  }
  result.error = uploader.finish();
  return result;
}

}  // namespace xenlane::bridge::cli

#include "transport/base/await_exit.hpp"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <optional>

namespace xenlane::transport {

namespace asio = boost::asio;

namespace {

/// How often to look when there is no descriptor left to be woken by.
constexpr std::chrono::milliseconds look_interval{100};

}  // namespace

asio::awaitable<void> await_end(asio::any_io_executor executor, pid_t pid) {
  constexpr auto token = asio::as_tuple(asio::use_awaitable);
  std::optional<asio::posix::stream_descriptor> ended;
  // Readable once the process has ended (pidfd_open(2)).
  if (const auto fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); fd >= 0) {
    ended.emplace(executor, fd);
  }
  asio::steady_timer timer(executor);
  for (;;) {
    // To be woken is no proof: Asio gives news of a descriptor that has just been closed to the one
    // that was opened next (it reuses what it knew it by). So look, and never wait in waitid.
    siginfo_t info{};
    const int found = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
    if (found != 0 || info.si_pid != 0) co_return;
    if (ended) {
      co_await ended->async_wait(asio::posix::descriptor_base::wait_read, token);
    } else {
      timer.expires_after(look_interval);
      co_await timer.async_wait(token);
    }
  }
}

asio::awaitable<int> await_exit(asio::any_io_executor executor, pid_t pid) {
  co_await await_end(executor, pid);
  int status = 0;
  ::waitpid(pid, &status, WNOHANG);
  co_return status;
}

}  // namespace xenlane::transport

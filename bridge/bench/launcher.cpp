#include "bridge/bench/launcher.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <cerrno>
#include <string>

#include "bridge/bench/service.hpp"
#include "transport/base/await_exit.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {

namespace asio = boost::asio;
using transport::UniqueFd;

namespace {

boost::system::error_code error_of(int error) {
  return {error, boost::system::generic_category()};
}

/// This program again, with the socket as its standard input; an errno value when that fails.
int spawn(int socket, std::string usage, pid_t& pid) {
  std::string name = "xenlane-bench";
  std::string option(bench_service_option);
  char* arguments[] = {name.data(), option.data(), usage.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  const int error = ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

asio::awaitable<void> reap(asio::any_io_executor executor, pid_t pid,
                           std::shared_ptr<std::size_t> running) {
  co_await transport::await_exit(executor, pid);
  --*running;
}

}  // namespace

boost::system::result<UniqueFd> BenchLauncher::start() {
  if (*running_ == bench_services_max) return error_of(EAGAIN);
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return error_of(errno);
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  pid_t pid = 0;
  if (const int error = spawn(theirs.get(), boost::json::serialize(usage_()), pid); error != 0) {
    return error_of(error);
  }
  ++*running_;
  asio::co_spawn(executor_, reap(executor_, pid, running_), transport::or_throw);
  return ours;
}

}  // namespace xenlane::bridge

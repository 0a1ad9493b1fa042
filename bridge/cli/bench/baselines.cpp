#include "bridge/cli/bench/baselines.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "bridge/bench/service.hpp"

namespace xenlane::bridge::cli {
namespace {

using transport::UniqueFd;

constexpr const char* relay = "socat";

std::pair<UniqueFd, UniqueFd> socket_pair() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw BenchFailure(fmt::format("socketpair: {}", std::generic_category().message(errno)));
  }
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Runs `work` in a process of its own, which ends with this one at the latest.
template <typename Work>
void in_child(Work work) {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {  // those of earlier connections
  }
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0)
    throw BenchFailure(fmt::format("fork: {}", std::generic_category().message(errno)));
  if (child > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::_exit(work());
}

/// The near end of `relays` relays in front of a service.
UniqueFd connect_through(unsigned relays) {
  auto [near, far] = socket_pair();
  for (unsigned i = 0; i < relays; ++i) {
    auto [in, out] = socket_pair();
    in_child([&] {
      ::dup2(far.get(), STDIN_FILENO);
      ::dup2(in.get(), STDOUT_FILENO);
      ::execlp(relay, relay, "-b", "65536", "FD:0,shut-down", "FD:1,shut-down", nullptr);
      return 127;
    });
    far = std::move(out);
  }
  in_child([&] {
    near.reset();
    return serve_bench(far.get(), "{}");
  });
  return std::move(near);
}

bool is_installed(const char* program) {
  const char* const path = std::getenv("PATH");
  std::string_view left = path == nullptr ? "" : path;
  while (!left.empty()) {
    const std::size_t colon = std::min(left.find(':'), left.size());
    const auto candidate = std::filesystem::path(left.substr(0, colon)) / program;
    if (::access(candidate.c_str(), X_OK) == 0) return true;
    left.remove_prefix(std::min(colon + 1, left.size()));
  }
  return false;
}

}  // namespace

std::vector<BenchPath> local_baselines() {
  std::vector<BenchPath> out;
  out.push_back({"direct", [] { return connect_through(0); }});
  if (!is_installed(relay)) return out;
  out.push_back({"one socat", [] { return connect_through(1); }});
  out.push_back({"two socats", [] { return connect_through(2); }});
  return out;
}

}  // namespace xenlane::bridge::cli

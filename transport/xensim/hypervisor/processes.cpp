#include "transport/xensim/hypervisor/processes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include "transport/base/unique_fd.hpp"

namespace xensim::hv {
namespace {

using xenlane::transport::UniqueFd;

/// Linux gives no more than this much of arguments and environment to one process by default.
constexpr std::size_t max_environment_bytes = std::size_t{4} << 20;

bool has_tag(pid_t pid, const std::string& tag) {
  const std::string path = "/proc/" + std::to_string(pid) + "/environ";
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  std::string entries(1, '\0');
  char buffer[16384];
  for (ssize_t got = 0; entries.size() < max_environment_bytes;) {
    got = ::read(file.get(), buffer, sizeof buffer);
    if (got <= 0) break;
    entries.append(buffer, static_cast<std::size_t>(got));
  }
  const std::string entry = std::string(1, '\0') + tag + std::string(1, '\0');
  return entries.find(entry) != std::string::npos;
}

/// Every tagged process but the spared one, each by a pidfd: a number given to somebody else
/// meanwhile is then not hit, and the pidfd becomes readable when the process is gone.
std::map<pid_t, UniqueFd> find_tagged(const std::string& tag, pid_t spare) {
  std::map<pid_t, UniqueFd> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (proc == nullptr) return found;
  while (const dirent* entry = ::readdir(proc.get())) {
    char* end = nullptr;
    const long number = std::strtol(entry->d_name, &end, 10);
    const auto pid = static_cast<pid_t>(number);
    if (number <= 0 || *end != '\0' || pid == spare || pid == ::getpid()) continue;
    if (!has_tag(pid, tag)) continue;
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (process && has_tag(pid, tag)) found.emplace(pid, std::move(process));
  }
  return found;
}

void send(const UniqueFd& process, int signal_number) {
  ::syscall(SYS_pidfd_send_signal, process.get(), signal_number, nullptr, 0);
}

}  // namespace

bool kill_tagged(const std::string& tag, pid_t spare, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  // A destroyed domain stops as a whole: no process of it may see another one die and clean up. So
  // all are stopped first, until a look finds nobody new.
  std::set<pid_t> stopped;
  for (bool found_new = true; found_new && std::chrono::steady_clock::now() < deadline;) {
    found_new = false;
    for (const auto& [pid, process] : find_tagged(tag, spare)) {
      send(process, SIGSTOP);
      found_new = stopped.insert(pid).second || found_new;
    }
  }
  for (;;) {
    const std::map<pid_t, UniqueFd> left = find_tagged(tag, spare);
    if (left.empty()) return true;
    for (const auto& [pid, process] : left) send(process, SIGKILL);
    for (const auto& [pid, process] : left) {
      const auto time_left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      if (time_left.count() <= 0) return false;
      pollfd gone{process.get(), POLLIN, 0};
      ::poll(&gone, 1, static_cast<int>(time_left.count()));
    }
  }
}

}  // namespace xensim::hv

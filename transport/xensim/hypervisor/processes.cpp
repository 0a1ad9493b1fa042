#include "transport/xensim/hypervisor/processes.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>

#include "transport/base/unique_fd.hpp"

namespace xensim::hv {
namespace {

using xenlane::transport::UniqueFd;

/// Linux gives no more than this much of arguments and environment to one process by default.
constexpr std::size_t max_environment_bytes = std::size_t{4} << 20;

std::string read_some(const UniqueFd& file, std::size_t max_bytes) {
  std::string bytes;
  char buffer[16384];
  while (bytes.size() < max_bytes) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got <= 0) break;
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
  return bytes;
}

UniqueFd open_of(pid_t pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

/// Whether a process whose environment read as empty may have one a moment later. In the middle of
/// execve(2) the old one is gone before the new one is there (env_end of Linux's mm_struct is 0
/// from begin_new_exec to create_elf_tables). The dead, the kernel's threads and programs that were
/// started without any environment stay as they are.
bool may_get_environment(pid_t pid) {
  constexpr unsigned long kernel_thread = 0x00200000;  // PF_KTHREAD of linux/sched.h
  const std::string stat = read_some(open_of(pid, "stat"), 4096);
  const std::size_t name_end = stat.rfind(')');  // a name may have brackets and blanks in it
  if (name_end == std::string::npos) return false;
  // The fields after the name, numbered as in proc_pid_stat(5).
  std::istringstream fields(stat.substr(name_end + 1));
  std::array<std::string, 52> field;
  for (std::size_t i = 3; i < field.size(); ++i) fields >> field[i];
  if (!fields || field[3] == "Z" || field[3] == "X") return false;
  if ((std::strtoul(field[9].c_str(), nullptr, 10) & kernel_thread) != 0) return false;
  const std::string& env_start = field[50];
  const std::string& env_end = field[51];
  return env_end == "0" || env_start != env_end;
}

bool is_tagged(pid_t pid, const std::string& tag) {
  constexpr auto longest_exec = std::chrono::seconds(1);
  const auto deadline = std::chrono::steady_clock::now() + longest_exec;
  for (;;) {
    const UniqueFd file = open_of(pid, "environ");
    if (!file) return false;
    const std::string entries = read_some(file, max_environment_bytes);
    if (!entries.empty()) {
      const std::string zero(1, '\0');
      return (zero + entries).find(zero + tag + zero) != std::string::npos;
    }
    if (!may_get_environment(pid) || std::chrono::steady_clock::now() >= deadline) return false;
    ::sched_yield();
  }
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
    if (!is_tagged(pid, tag)) continue;
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (process && is_tagged(pid, tag)) found.emplace(pid, std::move(process));
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

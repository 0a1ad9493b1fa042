#include "bridge/channel/spawn_program.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>

namespace xenlane::bridge {

namespace {

/// What programs that still use select() can have, and what systemd gives to services.
constexpr rlim_t open_files_soft = 1024;

/// close_range(2), Linux 5.11: of all descriptors, those that the program must not get.
constexpr unsigned close_range_cloexec = 4;

/// Of the kernel's sigset_t, 64 signals.
constexpr std::size_t kernel_signal_set_bytes = 8;

boost::system::error_code spawn_error(int error) {
  return {error, boost::system::generic_category()};
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

/// All that the child needs, made before the fork: behind it only calls that are safe there.
struct Child {
  char* const* arguments;
  char* const* environment;
  const RunAs* run_as;
  int socket;
  int errors;
  int outcome;
  pid_t parent;

  [[noreturn]] void run() const;

 private:
  bool set_signals() const;
  bool set_descriptors() const;
  bool set_limits() const;
  bool set_user() const;
};

bool Child::set_signals() const {
  // SIG_DFL without flags is all zeroes in the kernel's form of a sigaction, which is shorter than
  // this. The C library's does not reach the signals that it keeps for itself, and one of those may
  // be ignored since before this daemon. Those that cannot be set are as they should be.
  constexpr std::byte usual[64]{};
  for (int number = 1; number < NSIG; ++number) {
    ::syscall(SYS_rt_sigaction, number, usual, nullptr, kernel_signal_set_bytes);
  }
  sigset_t none;
  ::sigemptyset(&none);
  return ::sigprocmask(SIG_SETMASK, &none, nullptr) == 0;
}

bool Child::set_descriptors() const {
  // A daemon that was started without standard input may have these as 0 to 2.
  const int safe_socket = ::fcntl(socket, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int safe_errors = ::fcntl(errors, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  return safe_socket >= 0 && safe_errors >= 0 && ::dup2(safe_socket, STDIN_FILENO) >= 0 &&
         ::dup2(safe_socket, STDOUT_FILENO) >= 0 && ::dup2(safe_errors, STDERR_FILENO) >= 0 &&
         ::syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, close_range_cloexec) == 0;
}

bool Child::set_limits() const {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  limit.rlim_cur = std::min(open_files_soft, limit.rlim_max);
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

// The C library's own setuid() and the like would ask all threads to do the same, and there are
// none in here.
bool Child::set_user() const {
  if (run_as == nullptr || (run_as->uid == ::geteuid() && ::geteuid() != 0)) return true;
  return ::syscall(SYS_setgroups, run_as->groups.size(), run_as->groups.data()) == 0 &&
         ::syscall(SYS_setresgid, run_as->gid, run_as->gid, run_as->gid) == 0 &&
         ::syscall(SYS_setresuid, run_as->uid, run_as->uid, run_as->uid) == 0;
}

void Child::run() const {
  // To become another user takes the parent's-death signal back, so it is asked for behind that.
  const bool ready = set_signals() && ::setsid() >= 0 && set_descriptors() && set_limits() &&
                     set_user() && ::chdir("/") == 0 && ::prctl(PR_SET_PDEATHSIG, SIGHUP) == 0;
  if (ready && ::getppid() != parent) ::_exit(127);
  if (ready) ::execve(arguments[0], arguments, environment);
  const int error = errno;
  // Nobody could be told that the telling failed.
  [[maybe_unused]] const ssize_t told = ::write(outcome, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

boost::system::result<SpawnedProgram> spawn_program(const ProgramStart& start, int socket,
                                                    int errors) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return spawn_error(errno);
  SpawnedProgram spawned;
  spawned.outcome.reset(ends[0]);
  // Out of the way of 0 to 2, which the child gives away.
  transport::UniqueFd tell(::fcntl(ends[1], F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  ::close(ends[1]);
  if (!tell) return spawn_error(errno);
  const auto arguments = pointers_to(start.command);
  const auto environment = pointers_to(start.environment);
  const Child child{
      arguments.data(), environment.data(), start.run_as ? &*start.run_as : nullptr, socket, errors,
      tell.get(),       ::getpid()};
  spawned.pid = ::fork();
  if (spawned.pid < 0) return spawn_error(errno);
  if (spawned.pid == 0) child.run();
  return spawned;
}

}  // namespace xenlane::bridge

#include "bridge/cli/command.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>
#include <optional>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "bridge/cli/context.hpp"

namespace xenlane::bridge::cli {
namespace {

/// For the handler, who can be given nothing.
volatile pid_t child = 0;

void hand_on(int signal) {
  if (child > 0) ::kill(child, signal);
}

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  return set;
}

/// A signal is dealt with in one way for as long as this lives.
class Disposition {
 public:
  Disposition(int signal, void (*handler)(int)) : signal_(signal) {
    struct sigaction action = {};
    action.sa_handler = handler;
    ::sigaction(signal, &action, &before_);
  }
  Disposition(const Disposition&) = delete;
  Disposition& operator=(const Disposition&) = delete;
  ~Disposition() { ::sigaction(signal_, &before_, nullptr); }

  bool was_ignored() const { return before_.sa_handler == SIG_IGN; }
  /// What a caller has switched off, as nohup does, stays off.
  void leave_ignored() const {
    if (was_ignored()) ::sigaction(signal_, &before_, nullptr);
  }

 private:
  int signal_;
  struct sigaction before_ = {};
};

/// Signals wait for as long as this lives.
class Blocked {
 public:
  explicit Blocked(const sigset_t& signals) { ::sigprocmask(SIG_BLOCK, &signals, &before_); }
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;
  ~Blocked() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_;
};

/// Starts it as `child`; an errno value when that fails.
int spawn(const std::vector<std::string>& words, const sigset_t& defaults, const sigset_t& mask) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setsigmask(&attributes, &mask);
  pid_t pid = 0;
  const int error =
      ::posix_spawnp(&pid, arguments.front(), nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error == 0) child = pid;
  return error;
}

/// Waits for the end of `child`; its exit code.
int await_child() {
  // Its number is its own until it is waited for, and nothing is handed on from then on.
  siginfo_t end = {};
  int got = -1;
  do {
    got = ::waitid(P_PID, static_cast<id_t>(child), &end, WEXITED | WNOWAIT);
  } while (got < 0 && errno == EINTR);
  const pid_t ended = child;
  child = 0;
  if (got < 0) throw std::system_error(errno, std::generic_category(), "waitid");
  ::waitpid(ended, nullptr, 0);
  return end.si_code == CLD_EXITED ? end.si_status : command_signalled + end.si_status;
}

}  // namespace

int run_command(const std::vector<std::string>& words) {
  // What is to be handed on waits until it is known to whom.
  std::optional<Blocked> blocked(set_of({SIGINT, SIGQUIT, SIGTERM, SIGHUP}));
  const Disposition interrupt(SIGINT, SIG_IGN);
  const Disposition quit(SIGQUIT, SIG_IGN);
  const Disposition terminate(SIGTERM, hand_on);
  const Disposition hang_up(SIGHUP, hand_on);
  const Disposition ended(SIGCHLD, SIG_DFL);  // ignored, it would leave nothing to wait for
  terminate.leave_ignored();
  hang_up.leave_ignored();
  sigset_t defaults = set_of({SIGPIPE});  // which this program ignores for its own writes
  if (!interrupt.was_ignored()) ::sigaddset(&defaults, SIGINT);
  if (!quit.was_ignored()) ::sigaddset(&defaults, SIGQUIT);
  if (const int error = spawn(words, defaults, blocked->before()); error != 0) {
    fail(exit_broken, fmt::format("{}: {}", escape_untrusted(words.front()),
                                  std::generic_category().message(error)));
    return error == ENOENT ? command_not_found : command_not_startable;
  }
  blocked.reset();
  return await_child();
}

}  // namespace xenlane::bridge::cli

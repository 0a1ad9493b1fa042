#include "tests/e2e/process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

extern char** environ;

namespace xenlane::tests {

namespace {

constexpr std::chrono::milliseconds look_every{5};

}  // namespace

bool eventually(const std::function<bool()>& condition, Seconds within) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(look_every);
  }
  return true;
}

std::string read_file(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

Process::Process(std::vector<std::string> command, const Files& files) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, files.in.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, files.out.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
  ::posix_spawn_file_actions_addopen(&actions, 2, files.err.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                     0600);
  std::vector<char*> arguments;
  for (auto& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const int error =
      ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    pid_ = -1;
    ADD_FAILURE() << command[0] << ": " << std::generic_category().message(error);
    return;
  }
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    kill_and_reap();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

bool Process::runs() {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  return pid_ > 0 && ::poll(&ended, 1, 0) == 0;
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void Process::kill_and_reap() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

int Process::wait(Seconds within) {
  if (pid_ <= 0) return -1;
  pollfd ended{pidfd_.get(), POLLIN, 0};
  if (::poll(&ended, 1, static_cast<int>(within.count() * 1000)) != 1) {
    kill_and_reap();
    return -1;
  }
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Outcome run_program(const std::vector<std::string>& command, const std::string& folder,
                    const std::string& in, Seconds within) {
  static std::atomic<int> runs{0};
  const std::string base = folder + "/run-" + std::to_string(++runs);
  write_file(base + ".in", in);
  Process process(command, {base + ".in", base + ".out", base + ".err"});
  Outcome outcome;
  outcome.code = process.wait(within);
  outcome.out = read_file(base + ".out");
  outcome.err = read_file(base + ".err");
  for (const char* end : {".in", ".out", ".err"}) ::unlink((base + end).c_str());
  return outcome;
}

}  // namespace xenlane::tests

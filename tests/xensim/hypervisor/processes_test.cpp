// Ending all processes of a domain, whatever they are doing at that moment.
#include "transport/xensim/hypervisor/processes.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

namespace xensim_test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// A script that becomes itself again and again, so that it is nearly always inside execve(2).
class Restless {
 public:
  Restless() : path_((fs::temp_directory_path() / "xensim-restless-XXXXXX").string()) {
    const int fd = ::mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    ::fchmod(fd, 0700);
    ::close(fd);
    std::ofstream(path_) << "#!/bin/sh\nexec \"$0\"\n";
  }
  ~Restless() { fs::remove(path_); }

  /// Returns once the process has the tag: before its first execve(2), which closes the pipe, it
  /// has this program's environment.
  [[nodiscard]] pid_t start(const std::string& tag) const {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t pid = ::fork();
    if (pid != 0) {
      ::close(ends[1]);
      char nothing = 0;
      EXPECT_EQ(::read(ends[0], &nothing, 1), 0);
      ::close(ends[0]);
      return pid;
    }
    char* const argv[] = {const_cast<char*>(path_.c_str()), nullptr};
    char* const environment[] = {const_cast<char*>(tag.c_str()), nullptr};
    ::execve(path_.c_str(), argv, environment);
    ::_exit(1);
  }

 private:
  std::string path_;
};

TEST(KillTagged, AProcessInTheMiddleOfExecIsNotOverlooked) {
  const Restless script;
  const std::string tag = "XENSIM_TEST_TAG=" + std::to_string(::getpid());
  for (int round = 0; round < 100; ++round) {
    const pid_t pid = script.start(tag);
    ::usleep(static_cast<useconds_t>(37 * round));  // another moment in each round
    EXPECT_TRUE(xensim::hv::kill_tagged(tag, 0, 10s));
    int status = 0;
    const bool ended = ::waitpid(pid, &status, WNOHANG) == pid;
    EXPECT_TRUE(ended) << "overlooked in round " << round;
    if (ended) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

}  // namespace
}  // namespace xensim_test

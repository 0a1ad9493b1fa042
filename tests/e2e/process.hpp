// Starting programs and waiting for them with a deadline. Their output goes to files, so that no
// program ever waits for the test to read a pipe.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "transport/base/unique_fd.hpp"

namespace xenlane::tests {

using Seconds = std::chrono::duration<double>;

/// Stated upper bounds hold for optimised builds; sanitizers slow everything down.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr double slowness = 5;
#else
inline constexpr double slowness = 1;
#endif

/// For what has no stated bound: only a hang takes this long.
inline constexpr Seconds long_enough{60 * slowness};

/// Looks every few milliseconds until `condition` holds; false when the time is up.
bool eventually(const std::function<bool()>& condition, Seconds within = long_enough);

/// The whole content of a file; empty if there is none.
std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& content);

/// A program of the test's; killed with the object if it still runs.
class Process {
 public:
  struct Files {
    std::string in = "/dev/null";
    std::string out = "/dev/null";
    std::string err = "/dev/null";  ///< appended to
  };

  Process() = default;
  Process(std::vector<std::string> command, const Files& files);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() { kill_and_reap(); }

  pid_t pid() const { return pid_; }
  bool started() const { return pid_ > 0; }
  bool runs();
  void signal(int number) const;
  /// SIGKILL, and its end awaited.
  void kill_and_reap();
  /// The exit code, or 128 + N after signal N; -1 when it did not end in time (it is killed then).
  int wait(Seconds within = long_enough);

 private:
  pid_t pid_ = -1;
  transport::UniqueFd pidfd_;
};

/// What one run of a program to its end gave.
struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

/// Runs to the end; `folder` is for its files, `in` is its standard input.
Outcome run_program(const std::vector<std::string>& command, const std::string& folder,
                    const std::string& in = "", Seconds within = long_enough);

}  // namespace xenlane::tests

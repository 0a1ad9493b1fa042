// A xensim of the test's own, and ways to be in one of its domains.
//
// The test program is linked to the drop-in libraries and XENSIM_HV is looked at by every open, so
// one process can hold handles of several domains. What must die or be destroyed is a process of
// its own (helper.cpp), started through `xensim exec`.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace xensim_test {

struct Outcome {
  int code = -1;
  std::string output;  ///< standard output and error
};

/// Runs a shell command line.
Outcome shell(const std::string& command);

/// Waits until `holds`; false after 20 s, so that a test fails rather than hangs.
bool eventually(const std::function<bool()>& holds);

class Simulator {
 public:
  /// `up_arguments` go to `xensim up`.
  explicit Simulator(const std::string& up_arguments);
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  const std::string& dir() const { return dir_; }

  /// Handles opened from now on belong to this domain.
  void enter(std::uint32_t domid) const;

  /// Runs the xensim program with XENSIM_DIR set to this one.
  Outcome xensim(const std::string& arguments) const;

  /// A number from `xensim list --json`, or -1 if the domain is not listed.
  long listed(std::uint32_t domid, const std::string& key) const;
  std::string listed_name(std::uint32_t domid) const;

 private:
  std::string dir_;
};

/// The helper program in a domain. Killed when it goes out of scope.
class Helper {
 public:
  Helper(const Simulator& simulator, const std::string& domain, const std::string& arguments);
  ~Helper();
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  pid_t pid() const { return pid_; }
  /// The numbers on the next line it prints; empty at its end.
  std::vector<std::uint32_t> read_numbers() const;
  void kill();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace xensim_test

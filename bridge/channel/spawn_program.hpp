// Starting the program of an exec target, inetd style: its standard input and output are one
// socket. It gets nothing else of the daemon's: a session of its own, default signals, a clean
// environment, no descriptor, the root folder, and if wanted another user.
#pragma once

#include <sys/types.h>

#include <boost/system/result.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bridge/channel/run_as.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// What to start. The first word of `command` is the program's absolute path.
struct ProgramStart {
  std::vector<std::string> command;
  std::vector<std::string> environment;  ///< NAME=VALUE, all of it
  std::optional<RunAs> run_as;
};

/// A child that is about to run the program; its number is that of its process group too.
struct SpawnedProgram {
  pid_t pid = 0;
  /// Not blocking. Ends without a byte when the program runs; else it gives the errno value of what
  /// went wrong, as an int.
  transport::UniqueFd outcome;
};

/// Forks. `socket` becomes standard input and output, `errors` standard error; both stay the
/// caller's. The program is sent SIGHUP when this process dies (PR_SET_PDEATHSIG). The error is an
/// errno value: no more processes, no memory, no descriptors. Needs Linux 5.11 (close_range).
boost::system::result<SpawnedProgram> spawn_program(const ProgramStart& start, int socket,
                                                    int errors);

}  // namespace xenlane::bridge

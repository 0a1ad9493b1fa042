// A domain's processes: found by the tag they inherited in their environment, ended all at once.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

namespace xensim::hv {

/// Ends every process whose initial environment has the entry `tag`, daemons and their children
/// included, and looks again until none is left. Spares the process `spare` (0: nobody).
/// A process that was started with a cleaned environment is not found.
/// Returns false if some are still there after `patience`.
bool kill_tagged(const std::string& tag, pid_t spare, std::chrono::milliseconds patience);

}  // namespace xensim::hv

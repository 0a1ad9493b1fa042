// Runs another program and waits for it, as env, nice and timeout do.
#pragma once

#include <string>
#include <vector>

namespace xenlane::bridge::cli {

inline constexpr int command_not_startable = 126;
inline constexpr int command_not_found = 127;
/// And the number of the signal that ended it.
inline constexpr int command_signalled = 128;

/// Returns its exit code, or one of the above after a line on stderr. SIGINT and SIGQUIT are the
/// program's business, who gets them from the terminal; SIGTERM and SIGHUP are handed on to it.
int run_command(const std::vector<std::string>& words);

}  // namespace xenlane::bridge::cli

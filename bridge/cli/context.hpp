// What every verb has in hand, and the one way a verb ends in failure.
#pragma once

#include <string>
#include <vector>

#include "bridge/cli/exit_codes.hpp"

namespace xenlane::bridge::cli {

/// The options that come before or after any verb.
struct Context {
  std::string run_dir;
  std::vector<std::string> command;  ///< what came behind "--"
};

/// Prints "xenlane: <message>" as one line to stderr and returns `code`. Text from elsewhere must
/// have been escaped.
int fail(ExitCode code, const std::string& message);

/// True when stdout is a terminal and NO_COLOR is unset or empty.
bool colours_wanted();

}  // namespace xenlane::bridge::cli

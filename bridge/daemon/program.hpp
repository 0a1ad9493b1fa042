// What the daemons' mains have in common: options, logging, start-up checks with their exit codes.
#pragma once

#include <optional>
#include <string>

#include "bridge/daemon/config.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/vchan/vchan_lane.hpp"

namespace xenlane::bridge {

/// Ends a daemon that cannot start: `what` is its one line, `exit_code` one of exit_codes.hpp.
struct StartFailure {
  int exit_code;
  std::string what;
};

/// Loads the configuration and reports every diagnostic on stderr. A fatal one is a StartFailure.
BridgeConfig load_or_fail(Side side, const std::optional<std::string>& path,
                          const std::optional<std::string>& run_dir);

/// Sets up logging to stderr: "level: text", which journald and people read alike.
void start_logging(LogLevel level);

/// Raises the soft limit on open files to the hard one: a bridge holds one per connection.
void raise_file_limit();

/// Makes the run folder (and its parents) and takes its lock, so that two daemons never fight over
/// the same sockets. Keep the descriptor open.
transport::UniqueFd lock_run_dir(const std::string& run_dir);

/// Throws StartFailure unless this is a domain with a xenstore that this user may use.
void require_xenstore(const std::string& path);

/// The exit code that tells of a lane failure.
int exit_code_of(transport::LaneFailureKind kind);

}  // namespace xenlane::bridge

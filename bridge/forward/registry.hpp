// Where the forwards that run are found: each process has a control socket, named by its process
// id, in a folder of its user's. A socket that nobody answers on is what one left that was killed,
// and is removed.
#pragma once

#include <sys/types.h>

#include <boost/json.hpp>
#include <boost/system/result.hpp>
#include <string>
#include <vector>

#include "bridge/channel/listener.hpp"

namespace xenlane::bridge {

/// Folders to look in, best first: beside the daemon's run folder, which root alone can write to,
/// and the user's own ($XDG_RUNTIME_DIR/xenlane/forward), if there is one. Not within the run
/// folder: there a guest may have any name, and the daemons clean it up.
std::vector<std::string> forward_folders(const std::string& run_dir);

/// A listening control socket for this process, in the first folder that takes it.
boost::system::result<ListenerSocket, SocketError> register_forward(const std::string& run_dir);

/// One process of forwards.
struct RunningForward {
  std::string id;       ///< its process id
  std::string control;  ///< path of its control socket
  boost::json::object status;
};

/// All that answer, by id. Blocks.
std::vector<RunningForward> running_forwards(const std::string& run_dir);

}  // namespace xenlane::bridge

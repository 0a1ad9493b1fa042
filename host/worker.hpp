// The worker: the process that serves one guest. It alone maps that guest's memory and parses what
// that guest wrote, so that one guest's trouble ends here. Its listening sockets belong to the
// broker and survive it.
#pragma once

#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "transport/base/domid.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::host {

/// A listening socket handed down by the broker, of the guest and not of a channel.
struct InheritedListener {
  std::string name;  ///< "control", "events" or "connect"
  int fd;
};

struct WorkerOptions {
  std::string guest;
  transport::Domid domid = 0;
  std::string uuid = {};  ///< of the guest's domain
  int orders = -1;        ///< the broker's orders (orders.hpp)
  std::vector<InheritedListener> listeners;
};

/// Reads "NAME=FD"; throws StartFailure when it is not that.
InheritedListener parse_listener(const std::string& text);

/// Serves the guest until a signal; returns the exit code. Throws StartFailure.
int run_worker(const bridge::BridgeConfig& config, const WorkerOptions& options);

}  // namespace xenlane::host

// The broker: serves the domains' hypervisor sockets and the control socket, and owns the xenstore
// server. One thread, one io_context, one state folder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "transport/xensim/hypervisor/layout.hpp"
#include "transport/xensim/hypervisor/machine.hpp"

namespace xensim::hv {

struct GuestSpec {
  std::string name;
  int domid = -1;                     ///< -1: the next one never used
  std::vector<std::string> channels;  ///< in the order of their numbers: hvc1, hvc2, ...
};

struct BrokerOptions {
  Layout layout;
  std::vector<GuestSpec> guests;
  std::uint32_t gntalloc_limit = default_gntalloc_limit;
  int ready_fd = -1;        ///< gets "ok\n" or an error line, then is closed
  int lifetime_fd = -1;     ///< at its end of file the broker tears everything down; -1: none
  bool remove_dir = false;  ///< at the end remove the state folder, log included
};

/// Runs until it is told to go down. Returns the process's exit code.
int run_broker(const BrokerOptions& options);

/// "NAME" or "NAME:DOMID". Throws std::invalid_argument with a one-line text.
GuestSpec parse_guest(const std::string& text);

}  // namespace xensim::hv

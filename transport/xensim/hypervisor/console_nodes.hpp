// What libxl writes into xenstore for a channel with connection=socket (libxl_console.c), and the
// guest's and QEMU's part of it, as it is once both have connected.
#pragma once

#include <cstddef>
#include <string>

#include "transport/xensim/hypervisor/machine.hpp"
#include "transport/xensim/store/server.hpp"

namespace xensim::hv {

/// `index` counts from 1, as in the device's name; `socket` is the path on the host.
void write_console_nodes(StoreServer& store, Domid domid, std::size_t index,
                         const std::string& name, const std::string& socket);

/// The back end's nodes of all channels of the domain. The front end's go with the domain's own.
void erase_console_nodes(StoreServer& store, Domid domid);

}  // namespace xensim::hv

// Drop-in libxenctrl.so.4.17: the three calls of it that vchan programs make, and no more.
// A program that needs any other symbol of libxenctrl fails to start or at its first call.
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "transport/xensim/hypervisor/dropin/connection.hpp"

extern "C" {
#include <xenctrl.h>
}

using xensim::dropin::Connection;
using xensim::dropin::Extras;
namespace wire = xensim::wire;

struct xc_interface_core {
  Connection connection;
};

extern "C" {

xc_interface* xc_interface_open(xentoollog_logger*, xentoollog_logger*, unsigned) {
  auto xch = std::unique_ptr<xc_interface>(new (std::nothrow) xc_interface);
  Extras none;
  if (xch == nullptr || !xch->connection.open(wire::Op::open_privcmd, none)) return nullptr;
  return xch.release();
}

int xc_interface_close(xc_interface* xch) {
  delete xch;
  return 0;
}

int xc_domain_getinfo(xc_interface* xch, uint32_t first_domid, unsigned int max_doms,
                      xc_dominfo_t* info) {
  std::memset(info, 0, max_doms * sizeof *info);
  unsigned int found = 0;
  for (std::uint32_t next = first_domid; found < max_doms; ++found) {
    wire::Request request;
    request.op = wire::Op::domain_info;
    request.domid = next;
    wire::Reply reply;
    Extras none;
    if (!xch->connection.ask(request, reply, none)) break;
    info[found].domid = reply.domid;
    info[found].dying = reply.id != 0;
    info[found].blocked = reply.id == 0;
    info[found].nr_online_vcpus = 1;
    next = reply.domid + 1;
  }
  return found == 0 ? -1 : static_cast<int>(found);
}

}  // extern "C"

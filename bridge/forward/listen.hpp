// The listening sockets of a forward, for either side. No event loop.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <vector>

#include "bridge/channel/listener.hpp"
#include "bridge/forward/address.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// One listening socket, close-on-exec and non-blocking.
struct ForwardSocket {
  transport::UniqueFd fd;
  ListenerSocket file;  ///< of a Unix socket: its file's identity, `fd` apart
};

/// Listens. "localhost" is both loopback addresses, "*" all there are; of several one has to work.
/// Another host must be an address of this machine or a name of one, and is looked up, which
/// blocks. A Unix socket has mode 0600; one that nobody listens on any more is replaced (EADDRINUSE
/// else).
boost::system::result<std::vector<ForwardSocket>, SocketError> listen_forward(
    const ForwardAddress& address);

/// Removes the files of Unix sockets that are still ours.
void unlink_forward(const std::vector<ForwardSocket>& sockets);

}  // namespace xenlane::bridge

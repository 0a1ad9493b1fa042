// Room in a socket for what its reader has not taken yet.
#pragma once

#include <sys/socket.h>

namespace xenlane::transport {

/// Lets at least so many bytes wait in the socket if the kernel permits it; never less than now.
/// The kernel counts its own overhead too and doubles what it is told (socket(7)).
inline void widen_send_buffer(int socket, int bytes) {
  int given = 0;
  socklen_t size = sizeof given;
  if (::getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &given, &size) != 0 || given / 2 >= bytes) return;
  // Without CAP_NET_ADMIN the kernel's net.core.wmem_max is the limit.
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

}  // namespace xenlane::transport

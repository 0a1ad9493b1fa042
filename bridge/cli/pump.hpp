// Moves bytes between stdin and stdout and one connected socket, each direction at its own pace.
#pragma once

#include <cstdint>
#include <string>

namespace xenlane::bridge::cli {

struct PumpResult {
  std::string error;                 ///< empty: the socket's bytes came to their end
  std::uint64_t received_bytes = 0;  ///< read from the socket
};

/// Copies `in` to `socket` and `socket` to `out` until the socket's EOF. The end of `in` becomes
/// shutdown(SHUT_WR). After the socket's EOF only what `in` has ready is still sent, so an open
/// terminal or pipe does not hold up the end. All three descriptors are blocking; SIGPIPE must be
/// ignored.
PumpResult pump(int socket, int in, int out);

}  // namespace xenlane::bridge::cli

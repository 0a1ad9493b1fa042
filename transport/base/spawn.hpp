// For coroutines that nobody waits for.
#pragma once

#include <exception>

namespace xenlane::transport {

/// Completion of co_spawn: an exception that the coroutine lets out goes on to whoever runs the
/// event loop, and ends the process with its message. asio::detached would swallow it, and a part
/// of the program, as the accepting of connections, would be dead with nobody the wiser.
struct OrThrow {
  void operator()(const std::exception_ptr& exception) const {
    if (exception) std::rethrow_exception(exception);
  }
};
inline constexpr OrThrow or_throw{};

}  // namespace xenlane::transport

// Waiting for the end of a child process without standing still.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

namespace xenlane::transport {

/// Waits until `pid`, a child of this process, has ended, and leaves it unreaped: until somebody
/// does, no other process and no other process group gets its number.
boost::asio::awaitable<void> await_end(boost::asio::any_io_executor executor, pid_t pid);

/// Reaps `pid`, a child of this process that nobody else waits for, once it has ended; its status
/// as waitpid(2) tells it.
boost::asio::awaitable<int> await_exit(boost::asio::any_io_executor executor, pid_t pid);

}  // namespace xenlane::transport

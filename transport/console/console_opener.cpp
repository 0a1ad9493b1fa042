#include "transport/console/console_opener.hpp"

#include "transport/console/raw_opener.hpp"

namespace xenlane::transport {

boost::system::result<std::shared_ptr<ConsolePort>> open_console_tty(const std::string& path) {
  auto tty = open_raw_tty(path);
  if (!tty) return tty.error();
  return ConsolePort::make(std::move(*tty));
}

boost::system::result<std::shared_ptr<ConsolePort>> connect_console_socket(
    const std::string& path) {
  auto socket = connect_raw_socket(path);
  if (!socket) return socket.error();
  return ConsolePort::make(std::move(*socket));
}

}  // namespace xenlane::transport

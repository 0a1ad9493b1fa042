// Opening what a console port stands on. Neither call waits: whoever gets an error tries again
// later. Apart from console_port.cpp because the simulator has its own (tests/sim).
#pragma once

#include <string>

#include "transport/console/console_port.hpp"

namespace xenlane::transport {

/// The guest's end, as open_raw_tty() has it.
boost::system::result<std::shared_ptr<ConsolePort>> open_console_tty(const std::string& path);

/// The host's end, as connect_raw_socket() has it.
boost::system::result<std::shared_ptr<ConsolePort>> connect_console_socket(const std::string& path);

}  // namespace xenlane::transport

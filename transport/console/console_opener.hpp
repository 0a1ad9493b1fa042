// Opening what a console port stands on. Neither call waits: whoever gets an error tries again
// later. Apart from console_port.cpp because the simulator has its own (tests/sim).
#pragma once

#include <string>

#include "transport/console/console_port.hpp"

namespace xenlane::transport {

/// The guest's end: a tty such as /dev/hvc1, made raw, so that it neither echoes nor changes bytes.
/// Kept from other programs, as far as a tty can be: those with CAP_SYS_ADMIN, a getty among them,
/// open it all the same. ENOTTY when it is none.
boost::system::result<std::shared_ptr<ConsolePort>> open_console_tty(const std::string& path);

/// The host's end: the Unix stream socket that QEMU listens on for the channel.
boost::system::result<std::shared_ptr<ConsolePort>> connect_console_socket(const std::string& path);

}  // namespace xenlane::transport

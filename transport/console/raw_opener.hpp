// Opening the device of a PV channel, for whoever passes its bytes on as they are and for the
// console lane. Neither call waits.
#pragma once

#include <boost/system/result.hpp>
#include <string>

#include "transport/base/unique_fd.hpp"

namespace xenlane::transport {

/// The guest's end: a tty such as /dev/hvc1, made raw, so that it neither echoes nor changes bytes.
/// Kept from other programs, as far as a tty can be: those with CAP_SYS_ADMIN, a getty among them,
/// open it all the same. ENOTTY when it is none. Does not block.
boost::system::result<UniqueFd> open_raw_tty(const std::string& path);

/// The host's end: the Unix stream socket that QEMU listens on for the channel. Does not block.
boost::system::result<UniqueFd> connect_raw_socket(const std::string& path);

}  // namespace xenlane::transport

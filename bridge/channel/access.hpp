// Who a local program is, as the kernel knows it, and whether a channel's list has it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"

namespace xenlane::bridge {

/// The program at the other end of a connected Unix socket, as it was when it connected
/// (SO_PEERCRED and SO_PEERGROUPS, unix(7)). What the kernel does not tell is -1, or empty.
struct LocalUser {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  std::vector<gid_t> groups = {};  ///< supplementary
};

LocalUser user_of(int socket);

/// Whether the channel's users and groups have the user in them. Without either everybody is;
/// root always is, who could become any of them.
bool is_listed(const ChannelConfig& channel, const LocalUser& user);

/// Whether the kernel would let the user connect to a socket file with that mode, owner and group:
/// that takes permission to write (unix(7)). Root always may. Access control lists are not looked
/// at.
bool may_write(const LocalUser& user, mode_t mode, uid_t owner, gid_t group);

/// The same for the socket that the channel will have. What is not configured is root's,
/// whom the daemon is taken for.
bool may_open(const ChannelConfig& channel, const LocalUser& user);

}  // namespace xenlane::bridge

#include "bridge/channel/access.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace xenlane::bridge {

namespace {

std::vector<gid_t> groups_of(int socket) {
  std::vector<gid_t> groups(32);
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) {
      groups.resize(size / sizeof(gid_t));
      return groups;
    }
    if (errno != ERANGE) return {};
    groups.resize(size / sizeof(gid_t));
  }
  return {};
}

}  // namespace

Caller caller_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return {};
  return {credentials.pid, credentials.uid, credentials.gid, groups_of(socket)};
}

bool is_listed(const ChannelConfig& channel, const Caller& caller) {
  if (caller.uid == 0 || (channel.users.empty() && channel.groups.empty())) return true;
  const auto has_group = [&](gid_t gid) {
    return std::ranges::find(channel.groups, gid) != channel.groups.end();
  };
  return std::ranges::find(channel.users, caller.uid) != channel.users.end() ||
         has_group(caller.gid) || std::ranges::any_of(caller.groups, has_group);
}

}  // namespace xenlane::bridge

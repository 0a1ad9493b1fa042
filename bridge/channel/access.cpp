#include "bridge/channel/access.hpp"

#include <sys/socket.h>
#include <sys/stat.h>

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

LocalUser user_of(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return {};
  return {credentials.pid, credentials.uid, credentials.gid, groups_of(socket)};
}

bool is_listed(const ChannelConfig& channel, const LocalUser& user) {
  if (user.uid == 0 || (channel.users.empty() && channel.groups.empty())) return true;
  const auto has_group = [&](gid_t gid) {
    return std::ranges::find(channel.groups, gid) != channel.groups.end();
  };
  return std::ranges::find(channel.users, user.uid) != channel.users.end() || has_group(user.gid) ||
         std::ranges::any_of(user.groups, has_group);
}

bool may_write(const LocalUser& user, mode_t mode, uid_t owner, gid_t group) {
  if (user.uid == 0) return true;
  if (user.uid == owner) return (mode & S_IWUSR) != 0;
  const bool is_member =
      user.gid == group || std::ranges::find(user.groups, group) != user.groups.end();
  return (mode & (is_member ? S_IWGRP : S_IWOTH)) != 0;
}

bool may_open(const ChannelConfig& channel, const LocalUser& user) {
  const bool owner_set = channel.uid != static_cast<uid_t>(-1);
  const bool group_set = channel.gid != static_cast<gid_t>(-1);
  return may_write(user, channel.socket_mode, owner_set ? channel.uid : 0,
                   group_set ? channel.gid : 0);
}

}  // namespace xenlane::bridge

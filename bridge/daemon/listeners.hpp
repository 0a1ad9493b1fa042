// The socket files of one run folder, removed again when the daemon stops, and the parts that the
// guest bridge and the host worker set up alike.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "bridge/channel/channel_table.hpp"
#include "bridge/channel/listener.hpp"
#include "bridge/control/server.hpp"
#include "bridge/daemon/peer.hpp"
#include "transport/base/domid.hpp"

namespace xenlane::bridge {

/// Connections that may wait in a listening socket before they are accepted.
inline constexpr int listen_backlog = 1024;

/// Makes listening sockets in a folder and unlinks those it made when destroyed.
class ListenerFiles {
 public:
  /// `guest` is whose sockets they are; empty in a guest.
  explicit ListenerFiles(std::string folder, std::string guest = {})
      : folder_(std::move(folder)), guest_(std::move(guest)) {}
  ListenerFiles(const ListenerFiles&) = delete;
  ListenerFiles& operator=(const ListenerFiles&) = delete;
  ListenerFiles(ListenerFiles&&) = default;
  ~ListenerFiles();

  std::string path_of(std::string_view name) const;
  /// Throws StartFailure with the path in its text. Owner and group are the daemon's unless given.
  /// One of that name that was made before is replaced in one step.
  transport::UniqueFd listen(std::string_view name, mode_t mode, uid_t uid = static_cast<uid_t>(-1),
                             gid_t gid = static_cast<gid_t>(-1),
                             SocketKind kind = SocketKind::stream);
  const std::string& guest() const { return guest_; }
  /// Makes `path` a symbolic link to the socket `name`, in one step. Another link there is
  /// replaced, anything else is left alone: then, or on another failure, throws StartFailure.
  void link(std::string_view name, const std::string& path);
  /// Removes the socket's file and its link.
  void remove(std::string_view name);

 private:
  struct File {
    std::string path;
    dev_t device;
    ino_t inode;
    std::string link;
  };
  static void unlink(const File& file);
  static void unlink_link(const File& file);

  std::string folder_;
  std::string guest_;
  std::map<std::string, File, std::less<>> files_;
};

/// True when a channel's end has a listening socket on this side.
bool has_listener(const ChannelConfig& channel);

/// Makes the channel's socket, if it has one, and its link. When that fails, the channel is
/// disabled and the result is empty.
transport::UniqueFd listen(ListenerFiles& files, ChannelConfig& channel);

/// Adds a channel with its listening socket. One whose socket cannot be made is added disabled.
void add_channel(ChannelTable& table, ListenerFiles& files, ChannelConfig channel);

/// The events socket of the folder, with the permissions that are configured.
transport::UniqueFd listen_for_events(ListenerFiles& files, const BridgeConfig& config);

/// The reply to a request on a bridge's control socket (docs/control.md).
ControlReply answer_bridge_request(const boost::json::object& request, std::string_view role,
                                   std::string_view guest, transport::Domid domid,
                                   std::chrono::steady_clock::time_point started, Peer& peer);

}  // namespace xenlane::bridge

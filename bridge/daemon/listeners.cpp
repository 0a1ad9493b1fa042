#include "bridge/daemon/listeners.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/program.hpp"

namespace xenlane::bridge {

ListenerFiles::~ListenerFiles() {
  for (const File& file : files_) unlink_if_ours(file.path, file.device, file.inode);
}

std::string ListenerFiles::path_of(std::string_view name) const {
  return folder_ + '/' + std::string(name);
}

transport::UniqueFd ListenerFiles::listen(std::string_view name, mode_t mode, uid_t uid, gid_t gid,
                                          SocketKind kind) {
  auto socket = listen_unix(path_of(name), mode, uid, gid, listen_backlog, kind);
  if (!socket) {
    const bool forbidden = socket.error().code == std::errc::permission_denied;
    throw StartFailure{forbidden ? exit_not_permitted : exit_broken, socket.error().text};
  }
  files_.push_back({socket->path, socket->device, socket->inode});
  return std::move(socket->fd);
}

bool has_listener(const ChannelConfig& channel) {
  return channel.error.empty() && channel.end != EndKind::dial;
}

void add_channel(ChannelTable& table, ListenerFiles& files, ChannelConfig channel) {
  std::string path;
  transport::UniqueFd listener;
  if (has_listener(channel)) {
    path = files.path_of(channel.name.text());
    try {
      listener = files.listen(channel.name.text(), channel.socket_mode, channel.uid, channel.gid,
                              channel.socket);
    } catch (const StartFailure& failure) {
      spdlog::error("channel {} is disabled: {}", channel.name.text(), failure.what);
      channel.error = failure.what;
    }
  }
  table.add(std::move(channel), std::move(path), std::move(listener));
}

ControlReply answer_bridge_request(const boost::json::object& request, std::string_view role,
                                   std::string_view guest, transport::Domid domid,
                                   std::chrono::steady_clock::time_point started, Peer& peer) {
  const std::string op = json_text(request, "op");
  std::shared_ptr<const void> hold;
  if (op == "lane" || op == "hold-lane") {
    const auto force = parse_lane_force(json_text(request, "lane"));
    if (!force) return control_error("bad-request", "lane is \"auto\", \"vchan\" or \"console\"");
    if (op == "lane") {
      peer.force_lane(*force);
    } else {
      hold = peer.hold_lane(*force);
      if (!hold) return control_error("busy", "too many commands hold the lane already");
    }
  } else if (op != "status") {
    return control_error("unknown-op",
                         "this daemon answers \"status\", \"lane\" and \"hold-lane\"");
  }
  boost::json::object reply = peer.status();
  const auto uptime = std::chrono::steady_clock::now() - started;
  reply["role"] = role;
  reply["guest"] = guest;
  reply["domid"] = domid;
  reply["pid"] = ::getpid();
  reply["version"] = XENLANE_VERSION;
  reply["uptime_s"] = std::chrono::duration_cast<std::chrono::seconds>(uptime).count();
  return {std::move(reply), std::move(hold)};
}

}  // namespace xenlane::bridge

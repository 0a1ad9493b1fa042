#include "bridge/daemon/listeners.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <filesystem>

#include "bridge/channel/text.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/program.hpp"

namespace xenlane::bridge {

namespace fs = std::filesystem;

ListenerFiles::~ListenerFiles() {
  for (const auto& [name, file] : files_) unlink(file);
}

void ListenerFiles::unlink_link(const File& file) {
  std::error_code error;
  if (file.link.empty() || fs::read_symlink(file.link, error) != file.path) return;
  fs::remove(file.link, error);
}

void ListenerFiles::unlink(const File& file) {
  unlink_link(file);
  unlink_if_ours(file.path, file.device, file.inode);
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
  File& file = files_[std::string(name)];
  unlink_link(file);
  file = {socket->path, socket->device, socket->inode, {}};
  return std::move(socket->fd);
}

void ListenerFiles::link(std::string_view name, const std::string& path) {
  File& file = files_.find(name)->second;
  const auto failed = [&](const std::string& why) {
    throw StartFailure{exit_broken, fmt::format("link {}: {}", escape_untrusted(path, 256), why)};
  };
  std::error_code error;
  const auto status = fs::symlink_status(path, error);
  if (fs::exists(status) && !fs::is_symlink(status)) failed("there is something else already");
  const std::string temporary = path + ".xenlane-new";
  if (fs::is_symlink(fs::symlink_status(temporary, error))) fs::remove(temporary, error);
  fs::create_symlink(file.path, temporary, error);
  if (error) failed(error.message());
  fs::rename(temporary, path, error);
  if (!error) {
    file.link = path;
    return;
  }
  const std::string why = error.message();
  fs::remove(temporary, error);
  failed(why);
}

void ListenerFiles::remove(std::string_view name) {
  const auto found = files_.find(name);
  if (found == files_.end()) return;
  unlink(found->second);
  files_.erase(found);
}

bool has_listener(const ChannelConfig& channel) {
  return channel.error.empty() && channel.end != EndKind::dial;
}

transport::UniqueFd listen(ListenerFiles& files, ChannelConfig& channel) {
  if (!has_listener(channel)) return {};
  const std::string& name = channel.name.text();
  try {
    auto listener =
        files.listen(name, channel.socket_mode, channel.uid, channel.gid, channel.socket);
    if (!channel.link.empty()) files.link(name, path_for_guest(channel.link, files.guest()));
    return listener;
  } catch (const StartFailure& failure) {
    spdlog::error("channel {} is disabled: {}", name, failure.what);
    channel.error = failure.what;
    files.remove(name);
    return {};
  }
}

void add_channel(ChannelTable& table, ListenerFiles& files, ChannelConfig channel) {
  auto listener = listen(files, channel);
  std::string path = listener ? files.path_of(channel.name.text()) : std::string();
  table.add(std::move(channel), std::move(path), std::move(listener));
}

transport::UniqueFd listen_for_events(ListenerFiles& files, const BridgeConfig& config) {
  return files.listen("events", config.events_mode, static_cast<uid_t>(-1), config.events_gid);
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

// Worlds in which all is well, one of each side, for the stories to break.
#pragma once

#include <string>

#include "bridge/doctor/facts.hpp"
#include "bridge/wire/limits.hpp"

namespace xenlane::bridge::doctor {

inline FileFact file(std::string path, FileKind kind, mode_t mode, uid_t owner = 0) {
  FileFact fact;
  fact.path = std::move(path);
  fact.kind = kind;
  fact.mode = mode;
  fact.owner = owner;
  fact.usable = true;
  return fact;
}

inline DeviceFact device(const std::string& name) {
  return {file("/dev/xen/" + name, FileKind::device, 0600), "xen_" + name, ModuleState::loaded};
}

inline NodeFact node(std::string path, std::string value, std::vector<std::string> permissions) {
  NodeFact fact;
  fact.path = std::move(path);
  fact.value = std::move(value);
  fact.permissions = std::move(permissions);
  return fact;
}

inline DaemonFact daemon(std::string control, std::string role) {
  DaemonFact fact;
  fact.answer = DaemonFact::Answer::answers;
  fact.control = std::move(control);
  fact.role = std::move(role);
  fact.version = "1.2.3";
  fact.pid = 42;
  return fact;
}

inline BridgeFact bridge() {
  BridgeFact fact;
  fact.session_state = "up";
  fact.session_s = 60;
  fact.protocol_version = protocol_version_max;
  fact.peer_version = protocol_version_max;
  fact.lane = "vchan";
  fact.lane_why = "there is bulk";
  fact.lane_set = "auto";
  fact.ring_bytes = 1024 * 1024;
  fact.console_open = true;
  ChannelFact channel;
  channel.name = "org.example.echo";
  fact.channels = {channel};
  return fact;
}

/// What both sides have in common.
inline Facts well(Side side, const std::string& name) {
  Facts facts;
  facts.side = side;
  facts.version = "1.2.3";
  facts.is_xen = true;
  facts.kernel_major = 6;
  facts.kernel_minor = 1;
  facts.xenstore.path = "/dev/xen/xenbus";
  facts.xenstore.answer_time = std::chrono::microseconds(150);
  facts.config.config.file = "/etc/xenlane/" + name + ".toml";
  facts.config.config.run_dir = facts.run_dir = "/run/xenlane";
  facts.config_files = {file("/etc/xenlane/" + name + ".toml", FileKind::regular, 0644),
                        file("/etc/xenlane", FileKind::folder, 0755)};
  facts.run_folder = file("/run/xenlane", FileKind::folder, 0755);
  facts.control = file("/run/xenlane/control", FileKind::socket, 0600);
  facts.sockets = {"/run/xenlane/org.example.echo"};
  return facts;
}

/// A guest, domain 5, with a vchan in use and a console that stands by.
inline Facts well_guest() {
  Facts facts = well(Side::guest, "guest");
  facts.devices = {device("evtchn"), device("gntalloc")};
  facts.gntalloc_limit = 1024;
  facts.smallest.made = true;
  facts.xenstore.domid = 5;
  facts.xenstore.write_error = 0;
  facts.xenstore.watch_error = 0;
  facts.host_node = node("xenlane/host", "0", {"n0", "r5"});
  facts.wanted_node = node("xenlane/wanted", "3", {"n0", "r5"});
  facts.daemon = daemon("/run/xenlane/control", "guest");
  facts.bridge = bridge();
  facts.console.nodes = {{"1", "org.xenlane.lane.0", ""}};
  facts.console.device = file("/dev/hvc1", FileKind::device, 0600);
  facts.console.readers_seen = true;
  facts.console.link = file("/dev/xen-channel/org.xenlane.lane.0", FileKind::link, 0777);
  facts.console.link.target = "/dev/hvc1";
  return facts;
}

/// A host with one guest, web, as domain 5.
inline Facts well_host() {
  Facts facts = well(Side::host, "host");
  facts.devices = {device("evtchn"), device("gntdev")};
  facts.gntdev_limit = 65536;
  facts.client.made = true;
  facts.xenstore.domid = 0;
  facts.daemon = daemon("/run/xenlane/control", "broker");
  GuestFact web;
  web.domid = 5;
  web.name = "web";
  web.runs = web.matches = web.known = true;
  web.state = "serving";
  web.worker = daemon("/run/xenlane/web/control", "worker");
  web.bridge = bridge();
  web.host_node = node("/local/domain/5/xenlane/host", "0", {"n0", "r5"});
  web.wanted_node = node("/local/domain/5/xenlane/wanted", "3", {"n0", "r5"});
  web.console_socket = file("/run/xen/xenlane-web.sock", FileKind::socket, 0600);
  web.console_taken = 1;
  web.consoles = {{"1", "org.xenlane.lane.0", "/run/xen/xenlane-web.sock"}};
  web.told_channels = {{"unused", "org.xenlane.lane.0"}};
  facts.guests = {web};
  return facts;
}

}  // namespace xenlane::bridge::doctor

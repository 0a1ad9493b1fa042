// Judges the console lane's channel: on the host QEMU's socket, in the guest the hvc device.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "bridge/doctor/examine.hpp"

namespace xenlane::bridge::doctor {
namespace {

std::string names_of(const std::vector<ConsoleNode>& nodes) {
  std::vector<std::string> names;
  for (const ConsoleNode& node : nodes) {
    if (!node.name.empty()) names.push_back(node.name);
  }
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

/// What to write into the guest's configuration file, in a form that no xl loses.
std::string xl_lines(const std::string& socket) {
  return fmt::format(
      "in the guest's xl configuration: channel = [ \"connection=pty,name=unused\", "
      "\"connection=socket,name=org.xenlane.lane.0,path={}\" ], then start the guest anew",
      socket);
}

/// The first of the channels that the toolstack was told of, when it made a device of every one but
/// that: what xl 4.17 does. Empty otherwise.
std::string lost_channel(const GuestFact& guest) {
  if (!guest.told_channels || guest.told_channels->empty()) return {};
  const auto has = [&](const std::string& name) {
    return std::ranges::any_of(guest.consoles, [&](const auto& node) { return node.name == name; });
  };
  const std::string& first = guest.told_channels->front();
  if (has(first)) return {};
  const bool others =
      std::all_of(guest.told_channels->begin() + 1, guest.told_channels->end(), has);
  return others ? first : std::string{};
}

/// Whether xenstore has a channel with that socket.
bool examine_channel(const GuestFact& guest, Findings& findings) {
  const std::string& socket = guest.console_socket.path;
  const auto node = std::ranges::find(guest.consoles, socket, &ConsoleNode::socket);
  if (node != guest.consoles.end()) {
    findings.ok(check::console_channel, guest.name,
                fmt::format("channel {} has that socket", node->name));
    return true;
  }
  if (const std::string lost = lost_channel(guest); !lost.empty()) {
    findings.warn(check::console_channel, guest.name,
                  fmt::format("xl lost {}, the first of its channels, as version 4.17 does; there "
                              "is no console lane",
                              lost),
                  xl_lines(socket));
  } else {
    findings.warn(check::console_channel, guest.name,
                  fmt::format("none of its channels has the socket {} (there are: {}): there is no "
                              "console lane; xl 4.17 loses the first of a list",
                              socket, names_of(guest.consoles)),
                  xl_lines(socket) + "; or say [console] socket = \"none\"");
  }
  return false;
}

void examine_client(const GuestFact& guest, Findings& findings) {
  if (!guest.console_taken) {
    findings.note(check::console_client, guest.console_socket.path,
                  "who is connected cannot be seen: /proc/net/unix cannot be read");
    return;
  }
  const bool ours = guest.bridge && guest.bridge->console_open;
  const bool somebody = *guest.console_taken > 0;
  const bool worker_waits = guest.console_waiting > 0;
  if (!ours && somebody && (worker_waits || !guest.bridge)) {
    findings.warn(check::console_client, guest.console_socket.path,
                  "another program is connected, and QEMU serves one at a time",
                  fmt::format("ss -xp | grep {}, and end that program", guest.console_socket.path));
  } else if (ours) {
    findings.ok(check::console_client, guest.console_socket.path, "the guest's bridge answers");
  } else if (guest.bridge && somebody) {
    findings.note(check::console_client, guest.console_socket.path,
                  "connected, and the guest's bridge does not answer over it",
                  "in the guest: xenlane doctor");
  }
}

void examine_host_console(const GuestFact& guest, Findings& findings) {
  const FileFact& socket = guest.console_socket;
  if (socket.path.empty() || !guest.runs || !(guest.known || guest.matches)) return;
  const bool has_channel = examine_channel(guest, findings);
  switch (socket.kind) {
    case FileKind::socket:
      break;
    case FileKind::hidden:
      findings.note(check::console_socket, socket.path,
                    fmt::format("may not be looked at: {}", std::strerror(socket.error)),
                    "run xenlane doctor as root");
      return;
    case FileKind::missing:
      if (has_channel) {
        findings.warn(check::console_socket, socket.path,
                      fmt::format("is not there, though guest {} has a channel for it: is its QEMU "
                                  "gone?",
                                  guest.name),
                      fmt::format("start the guest anew: xl destroy {0} && xl create", guest.name));
      } else {
        findings.warn(check::console_socket, socket.path,
                      fmt::format("is not there: guest {} has no console lane", guest.name),
                      xl_lines(socket.path));
      }
      return;
    default:
      findings.warn(check::console_socket, socket.path, "is no socket, so it is none of QEMU's",
                    fmt::format("remove it and start guest {} anew", guest.name));
      return;
  }
  if (!socket.usable) {
    findings.note(
        check::console_socket, socket.path,
        fmt::format("this user may not use it (mode {:04o}, user {})", socket.mode, socket.owner),
        "run xenlane doctor as root");
    return;
  }
  findings.ok(check::console_socket, socket.path, "is there");
  examine_client(guest, findings);
}

void examine_reader(const Reader& reader, const std::string& device, Findings& findings) {
  const std::string tty = device.substr(device.rfind('/') + 1);
  const bool is_getty = reader.name.find("getty") != std::string::npos || reader.name == "login";
  findings.warn(
      check::console_reader, device,
      fmt::format("{} (pid {}) has it open, and takes bytes from the console lane", reader.name,
                  reader.pid),
      is_getty ? fmt::format("systemctl disable --now serial-getty@{}.service", tty)
               : fmt::format("end process {}, or set [console] device to another", reader.pid));
}

void examine_link(const ConsoleFact& console, Findings& findings) {
  const std::string device = console.device.path.substr(console.device.path.rfind('/') + 1);
  const FileFact& link = console.link;
  if (link.path.empty()) return;
  if (link.kind == FileKind::missing) {
    findings.note(check::console_link, link.path,
                  "is not there; xenlane needs none, other agents find their device by it",
                  "install xenlane's udev rule, which runs xen-console-setup");
  } else if (link.kind != FileKind::link ||
             link.target.substr(link.target.rfind('/') + 1) != device) {
    findings.warn(
        check::console_link, link.path,
        fmt::format("leads to {} and not to {}",
                    link.kind == FileKind::link ? link.target : "no device", device),
        fmt::format("xen-console-setup; by hand: ln -sfn {} {}", console.device.path, link.path));
  } else {
    findings.ok(check::console_link, link.path, "leads to " + link.target);
  }
}

void examine_guest_console(const Facts& facts, Findings& findings) {
  const ConsoleConfig& config = facts.config.config.console;
  const ConsoleFact& console = facts.console;
  if (config.device == "none") return;
  if (console.device.path.empty()) {
    if (facts.xenstore.error != 0) return;
    findings.note(check::console_device, config.channel,
                  fmt::format("this domain has no channel of that name (there are: {}): no console "
                              "lane",
                              names_of(console.nodes)),
                  "on the host, " + xl_lines("/run/xen/xenlane-GUEST.sock"));
    return;
  }
  const FileFact& device = console.device;
  if (device.kind == FileKind::missing) {
    findings.warn(check::console_device, device.path,
                  "the channel is there and its device is not: is CONFIG_HVC_XEN_FRONTEND in this "
                  "kernel?",
                  "udevadm trigger --subsystem-match=tty, or another kernel");
    return;
  }
  if (device.kind != FileKind::device) {
    findings.warn(check::console_device, device.path, "is no device",
                  "set [console] device to the hvc device of the channel, or to \"auto\"");
    return;
  }
  if (!device.usable) {
    findings.note(
        check::console_device, device.path,
        fmt::format("this user may not open it (mode {:04o}, user {})", device.mode, device.owner),
        "run xenlane doctor as root");
  } else {
    findings.ok(check::console_device, device.path, "is there");
  }
  if (!console.readers_seen) {
    findings.note(check::console_reader, device.path,
                  "who has it open cannot be seen of other users' programs",
                  "run xenlane doctor as root");
  } else if (console.readers.empty()) {
    findings.ok(check::console_reader, device.path, "no other program has it open");
  }
  for (const Reader& reader : console.readers) examine_reader(reader, device.path, findings);
  examine_link(console, findings);
}

}  // namespace

void examine_consoles(const Facts& facts, Findings& findings) {
  if (facts.side == Side::guest) return examine_guest_console(facts, findings);
  for (const GuestFact& guest : facts.guests) examine_host_console(guest, findings);
}

}  // namespace xenlane::bridge::doctor

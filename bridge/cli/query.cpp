#include "bridge/cli/query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

Failure control_failure(const std::string& path, const ControlError& error) {
  const std::string shown = escape_untrusted(path);
  switch (error.kind) {
    case ControlError::Kind::no_daemon:
      return {exit_no_daemon,
              fmt::format("{}: no xenlane daemon answers there ({}); start xenlane-guest or "
                          "xenlane-host, or give its --run-dir",
                          shown, error.text)};
    case ControlError::Kind::not_permitted:
      return {exit_not_permitted,
              fmt::format("{}: {}; run this as the daemon's user or as root", shown, error.text)};
    case ControlError::Kind::failed:
      break;
  }
  return {exit_broken, fmt::format("{}: {}; look at the daemon's log", shown, error.text)};
}

namespace {

Guest guest_from(const json::object& entry, const std::string& run_dir) {
  Guest guest;
  guest.name = json_text(entry, "name");
  guest.domid = json_number(entry, "domid");
  guest.state = json_text(entry, "state");
  guest.run_dir = json_text(entry, "run_dir", run_dir + "/" + guest.name);
  guest.control = json_text(entry, "control", guest.run_dir + "/control");
  return guest;
}

}  // namespace

Answer<Here> ask_here(const Context& context) {
  const std::string path = context.run_dir + "/control";
  auto reply = control_request(path, "status");
  if (!reply) return {{}, control_failure(path, reply.error())};
  Here here;
  here.reply = std::move(*reply);
  const std::string role = json_text(here.reply, "role");
  if (role == "broker") {
    here.is_host = true;
    const json::array* guests = json_array(here.reply, "guests");
    for (const json::value& entry : guests == nullptr ? json::array{} : *guests) {
      if (entry.is_object()) here.guests.push_back(guest_from(entry.get_object(), context.run_dir));
    }
  } else if (role == "guest" || role == "worker") {
    Guest self;
    self.name = json_text(here.reply, "guest");
    self.domid = json_number(here.reply, "domid");
    self.state = "serving";
    self.run_dir = context.run_dir;
    self.control = path;
    here.guests.push_back(self);
  } else {
    return {{},
            Failure{exit_broken, fmt::format("{}: the daemon there has the unknown role '{}'; "
                                             "is its version another?",
                                             escape_untrusted(path), escape_untrusted(role))}};
  }
  return {std::move(here), {}};
}

Answer<Guest> find_guest(const Here& here, const std::string& name) {
  std::vector<std::string> known;
  for (const Guest& guest : here.guests) {
    if (guest.name == name) return {guest, {}};
    known.push_back(escape_untrusted(guest.name));
  }
  for (const Guest& guest : here.guests) {
    if (std::to_string(guest.domid) == name) return {guest, {}};
  }
  const std::string shown = escape_untrusted(name);
  if (!here.is_host) {
    return {{},
            Failure{exit_unknown, fmt::format("{}: unknown guest; this is guest '{}' itself, "
                                              "leave the guest out",
                                              shown, fmt::join(known, ""))}};
  }
  if (known.empty()) {
    return {{},
            Failure{exit_unknown, fmt::format("{}: unknown guest; no guest is known now", shown)}};
  }
  return {{},
          Failure{exit_unknown, fmt::format("{}: unknown guest; known guests are {}", shown,
                                            fmt::join(known, ", "))}};
}

Answer<json::object> ask_bridge(const Here& here, const Guest& guest) {
  if (!here.is_host) return {here.reply, {}};
  auto reply = control_request(guest.control, "status");
  if (reply) return {std::move(*reply), {}};
  if (reply.error().kind == ControlError::Kind::no_daemon) {
    return {{},
            Failure{exit_no_daemon,
                    fmt::format("{}: no bridge serves this guest now (it is {}); see "
                                "'xenlane status'",
                                escape_untrusted(guest.name), escape_untrusted(guest.state))}};
  }
  return {{}, control_failure(guest.control, reply.error())};
}

Answer<Asked> ask_guests(const Context& context, const std::string& only) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return {{}, std::move(here.failure)};
  std::vector<Guest> wanted = here.value.guests;
  if (!only.empty()) {
    Answer<Guest> guest = find_guest(here.value, only);
    if (guest.failure) return {{}, std::move(guest.failure)};
    wanted = {std::move(guest.value)};
  }
  Asked asked;
  asked.is_host = here.value.is_host;
  for (const Guest& guest : wanted) asked.guests.push_back({guest, ask_bridge(here.value, guest)});
  if (!only.empty() && asked.guests.front().bridge.failure) {
    return {{}, std::move(asked.guests.front().bridge.failure)};
  }
  return {std::move(asked), {}};
}

json::array unreachable(const Asked& asked) {
  json::array list;
  for (const GuestAnswer& one : asked.guests) {
    if (!one.bridge.failure) continue;
    list.push_back({{"guest", one.guest.name},
                    {"state", one.guest.state},
                    {"error", one.bridge.failure->message}});
  }
  return list;
}

std::vector<const json::object*> channels_of(const json::object& bridge) {
  std::vector<const json::object*> found;
  const json::array* channels = json_array(bridge, "channels");
  if (channels == nullptr) return found;
  for (const json::value& channel : *channels) {
    if (channel.is_object()) found.push_back(&channel.get_object());
  }
  return found;
}

}  // namespace xenlane::bridge::cli

// Asks the control sockets. A reply is another process's words: each member is read by its type.
#include <algorithm>

#include "bridge/control/client.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/doctor/gather_parts.hpp"

namespace xenlane::bridge::doctor {
namespace {

namespace json = boost::json;
using Answer = DaemonFact::Answer;

/// The status reply, when there is one; `fact` is what is known of who gave it.
std::optional<json::object> ask(const std::string& control, DaemonFact& fact) {
  fact.control = control;
  auto reply = control_request(control, "status");
  if (!reply) {
    switch (reply.error().kind) {
      case ControlError::Kind::no_daemon:
        fact.answer = Answer::absent;
        break;
      case ControlError::Kind::not_permitted:
        fact.answer = Answer::forbidden;
        break;
      case ControlError::Kind::failed:
        fact.answer = Answer::failed;
        break;
    }
    fact.trouble = reply.error().text;
    return std::nullopt;
  }
  fact.answer = Answer::answers;
  fact.role = json_text(*reply, "role");
  fact.version = json_text(*reply, "version");
  fact.pid = static_cast<pid_t>(json_number(*reply, "pid"));
  return std::move(*reply);
}

ChannelFact channel_from(const json::object& channel) {
  ChannelFact fact;
  fact.name = json_text(channel, "name");
  fact.error = json_text(channel, "error");
  fact.refused = json_number(channel, "refused");
  if (const json::object* last = json_object(channel, "last_refusal")) {
    fact.last_refusal = json_text(*last, "message");
    if (last->contains("age_s")) fact.last_refused_s = json_number(*last, "age_s");
  }
  return fact;
}

GuestFact guest_from(const json::object& entry, const std::string& run_dir) {
  GuestFact guest;
  guest.name = json_text(entry, "name");
  guest.domid = static_cast<Domid>(json_number(entry, "domid"));
  guest.known = true;
  guest.state = json_text(entry, "state");
  guest.worker_restarts = json_number(entry, "worker_restarts");
  guest.worker.control = json_text(entry, "control", run_dir + '/' + guest.name + "/control");
  return guest;
}

}  // namespace

BridgeFact bridge_from(const json::object& status) {
  BridgeFact fact;
  const json::object none;
  const auto part = [&](const char* name) -> const json::object& {
    const json::object* found = json_object(status, name);
    return found == nullptr ? none : *found;
  };
  const json::object& session = part("session");
  fact.session_state = json_text(session, "state");
  fact.session_reason = json_text(session, "reason");
  fact.session_s = json_number(session, "since_s");
  if (session.contains("protocol_version")) {
    fact.protocol_version = json_number(session, "protocol_version");
    fact.peer_version = json_number(session, "peer_version", *fact.protocol_version);
  }
  const json::object& lane = part("lane");
  fact.lane = json_text(lane, "kind");
  fact.lane_why = json_text(lane, "why");
  fact.lane_set = json_text(lane, "set");
  if (fact.lane == "vchan") {
    fact.ring_bytes =
        std::min(json_number(lane, "send_ring_bytes"), json_number(lane, "receive_ring_bytes"));
  }
  if (const json::object* console = json_object(status, "console")) {
    const json::value* open = console->if_contains("open");
    fact.console_open = open != nullptr && open->is_bool() && open->get_bool();
  }
  if (const json::array* channels = json_array(status, "channels")) {
    for (const json::value& channel : *channels) {
      if (channel.is_object()) fact.channels.push_back(channel_from(channel.get_object()));
    }
  }
  return fact;
}

void ask_daemon(const Places& places, Facts& facts) {
  const auto reply = ask(places.run_dir + "/control", facts.daemon);
  if (!reply) return;
  if (facts.daemon.role != "broker") {
    facts.bridge = bridge_from(*reply);
    return;
  }
  const json::array* guests = json_array(*reply, "guests");
  if (guests == nullptr) return;
  for (const json::value& entry : *guests) {
    if (entry.is_object()) {
      facts.guests.push_back(guest_from(entry.get_object(), places.run_dir));
    }
  }
}

void ask_workers(Facts& facts) {
  for (GuestFact& guest : facts.guests) {
    if (!guest.known) continue;
    const std::string control = guest.worker.control;
    if (const auto reply = ask(control, guest.worker)) guest.bridge = bridge_from(*reply);
  }
}

}  // namespace xenlane::bridge::doctor

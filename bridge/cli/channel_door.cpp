#include "bridge/cli/channel_door.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

Failure failure_about(const Wanted& wanted, ExitCode code, const std::string& text) {
  return {code, wanted.shown + ": " + text};
}

namespace {

/// The channel in the bridge's status; the failure says why it cannot be connected to.
Answer<const json::object*> pick_channel(const json::object& bridge, const Wanted& wanted) {
  std::vector<std::string> names;
  for (const json::object* channel : channels_of(bridge)) {
    const std::string name = json_text(*channel, "name");
    names.push_back(escape_untrusted(name));
    if (name != wanted.name) continue;
    if (json_text(*channel, "state") == "disabled") {
      return {nullptr,
              failure_about(wanted, exit_configuration,
                            fmt::format("the channel is disabled: {}; correct the daemon's "
                                        "configuration",
                                        escape_untrusted(json_text(*channel, "error"))))};
    }
    if (json_text(*channel, "end") == "dial") {
      return {nullptr, failure_about(wanted, exit_unknown,
                                     "the channel has no socket on this side; connect to it on the "
                                     "other side")};
    }
    if (json_text(*channel, "kind") == "seqpacket") {
      return {nullptr,
              failure_about(wanted, exit_usage,
                            "the channel carries messages, which stdin and stdout do not "
                            "keep apart; use a program that opens a SOCK_SEQPACKET socket")};
    }
    return {channel, {}};
  }
  const auto near = near_names(wanted.name, names);
  const std::string remedy = near.empty()
                                 ? std::string("see 'xenlane ls'")
                                 : fmt::format("did you mean {}?", fmt::join(near, " or "));
  return {nullptr, failure_about(wanted, exit_unknown, "unknown channel; " + remedy)};
}

std::string socket_path(const Context& context, const Wanted& wanted) {
  if (wanted.guest.empty()) return context.run_dir + "/" + wanted.name;
  return context.run_dir + "/" + wanted.guest + "/" + wanted.name;
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
bool has_ended(const transport::UniqueFd& process) {
  pollfd entry{.fd = process.get(), .events = POLLIN, .revents = 0};
  return process.get() >= 0 && ::poll(&entry, 1, 0) == 1;
}

/// A bridge that is busy is asked again, for longer each time; one that has died is not waited for:
/// its successor may take a while to come up, and would know nothing of the connection.
boost::system::result<json::object, ControlError> ask_at_the_end(const Known& known) {
  constexpr std::chrono::milliseconds pause{20};
  const auto end = std::chrono::steady_clock::now() + control_request_deadline;
  for (std::chrono::milliseconds patience{50};; patience *= 2) {
    auto reply = control_request(known.control, "status", patience);
    const bool unclear = !reply && reply.error().kind == ControlError::Kind::failed;
    if (!unclear || has_ended(known.bridge_process)) return reply;
    if (std::chrono::steady_clock::now() >= end) return reply;
    std::this_thread::sleep_for(pause);
  }
}

Failure failure_to_open(const Known& known, const Wanted& wanted, const ControlError& error) {
  const std::string shown = escape_untrusted(known.socket);
  switch (error.kind) {
    case ControlError::Kind::not_permitted:
      return {exit_not_permitted,
              fmt::format("{}: {}; the channel's mode, owner and group decide who may open it",
                          shown, error.text)};
    case ControlError::Kind::no_daemon:
      // A daemon that we may not ask is there, so it is the channel that is not.
      if (known.unasked && known.unasked->code == exit_not_permitted) {
        return {exit_unknown,
                fmt::format("{}: there is no such socket ({}); check the name", shown, error.text)};
      }
      if (known.unasked) return *known.unasked;
      return {exit_no_daemon,
              fmt::format("{}: nobody listens there ({}); wait until the session is up, see "
                          "'xenlane status'",
                          shown, error.text)};
    case ControlError::Kind::failed:
      break;
  }
  return {exit_broken, fmt::format("{}: {}; see 'xenlane status'", wanted.shown, error.text)};
}

}  // namespace

Answer<Known> look_up(const Context& context, const Wanted& wanted) {
  Known known;
  known.socket = socket_path(context, wanted);
  Answer<Here> here = ask_here(context);
  if (here.failure) {
    known.unasked = here.failure;
    return {std::move(known), {}};
  }
  if (here.value.is_host && wanted.guest.empty()) {
    std::vector<std::string> names;
    for (const Guest& guest : here.value.guests) names.push_back(escape_untrusted(guest.name));
    return {{},
            failure_about(wanted, exit_usage,
                          fmt::format("this is the host, a guest is needed; give GUEST/{}, known "
                                      "guests are {}",
                                      wanted.name, fmt::join(names, ", ")))};
  }
  Guest guest;
  if (wanted.guest.empty()) {
    guest = here.value.guests.front();
  } else {
    Answer<Guest> found = find_guest(here.value, wanted.guest);
    if (found.failure) return {{}, found.failure};
    guest = found.value;
  }
  known.socket = guest.run_dir + "/" + wanted.name;
  Answer<json::object> bridge = ask_bridge(here.value, guest);
  if (bridge.failure) {
    known.unasked = bridge.failure;
    return {std::move(known), {}};
  }
  const Answer<const json::object*> channel = pick_channel(bridge.value, wanted);
  if (channel.failure) return {{}, channel.failure};
  known.control = guest.control;
  known.bridge_pid = json_number(bridge.value, "pid");
  known.bridge_process = transport::UniqueFd(
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(known.bridge_pid), 0)));
  return {std::move(known), {}};
}

std::optional<Failure> bad_ending(const Known& known, const Wanted& wanted) {
  if (known.control.empty()) return std::nullopt;
  const auto reply = ask_at_the_end(known);
  // A worker's control socket outlives it, so another one may have answered.
  const bool replaced = reply && json_number(*reply, "pid") != known.bridge_pid;
  if (replaced || (!reply && has_ended(known.bridge_process))) {
    return failure_about(wanted, exit_broken,
                         "the bridge ended while the connection was open; see 'xenlane status'");
  }
  if (!reply) {
    if (reply.error().kind == ControlError::Kind::not_permitted) return std::nullopt;
    return failure_about(wanted, exit_broken,
                         fmt::format("the bridge does not say how the connection ended ({}); see "
                                     "'xenlane status'",
                                     reply.error().text));
  }
  const Answer<const json::object*> channel = pick_channel(*reply, wanted);
  if (channel.failure) return std::nullopt;
  const json::array* endings = json_array(*channel.value, "bad_endings");
  if (endings == nullptr) return std::nullopt;
  for (const json::value& value : *endings) {
    const json::object* ending = value.if_object();
    if (ending == nullptr || json_number(*ending, "pid") != std::uint64_t(::getpid())) continue;
    const std::string why =
        fmt::format("{} ({})", escape_untrusted(json_text(*ending, "message", "no reason"), 256),
                    escape_untrusted(json_text(*ending, "errno", "no errno")));
    if (json_text(*ending, "what") == "refused") {
      return failure_about(wanted, exit_refused, "refused: " + why + "; check the other side");
    }
    return failure_about(wanted, exit_broken, "the stream broke: " + why);
  }
  return std::nullopt;
}

Answer<transport::UniqueFd> open_channel(const Known& known, const Wanted& wanted) {
  auto socket = connect_unix(known.socket);
  if (!socket) return {{}, failure_to_open(known, wanted, socket.error())};
  return {std::move(*socket), {}};
}

}  // namespace xenlane::bridge::cli

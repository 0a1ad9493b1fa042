// xenlane connect: stdin and stdout joined to a channel's socket. The control socket is asked
// before and after, when it may be, only to say well what went wrong: whoever may open a channel's
// socket need not be allowed to see the daemon's status.
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "bridge/channel/name.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/pump.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct ConnectOptions {
  std::string name;
  std::string guest;
};

/// What the arguments mean: a checked name, and a guest on the host.
struct Wanted {
  std::string name;
  std::string guest;
  std::string shown;  ///< GUEST/NAME or NAME, for messages
};

/// What the daemons said before the connection is made.
struct Known {
  std::string socket;
  std::string control;  ///< of the bridge; empty: it was not to be asked
  std::uint64_t bridge_pid = 0;
  transport::UniqueFd bridge_process;  ///< a pidfd; none where the kernel or a namespace denies it
  std::optional<Failure> unasked;      ///< why no daemon could be asked
};

Failure refused_by(const Wanted& wanted, ExitCode code, const std::string& text) {
  return {code, wanted.shown + ": " + text};
}

Answer<Wanted> parse_arguments(const ConnectOptions& options) {
  Wanted wanted;
  wanted.guest = options.guest;
  std::string name = options.name;
  const std::size_t slash = name.find('/');
  if (options.guest.empty() && slash != std::string::npos) {
    wanted.guest = name.substr(0, slash);
    name = name.substr(slash + 1);
  }
  wanted.shown = escape_untrusted(options.name);
  if (!options.guest.empty()) wanted.shown = escape_untrusted(options.guest) + "/" + wanted.shown;
  const auto parsed = ChannelName::parse(name);
  if (!parsed) {
    return {{},
            refused_by(wanted, exit_usage,
                       fmt::format("invalid channel name: {}; give NAME or GUEST/NAME",
                                   parsed.error().text))};
  }
  if (parsed->is_reserved()) {
    return {{},
            refused_by(wanted, exit_usage,
                       fmt::format("invalid channel name: '{}' has no dot, and such names are "
                                   "reserved for xenlane; see 'xenlane ls'",
                                   parsed->text()))};
  }
  const bool has_guest = slash != std::string::npos || !options.guest.empty();
  const std::string& guest = wanted.guest;
  if (has_guest &&
      (guest.empty() || guest == "." || guest == ".." || guest.find('/') != std::string::npos)) {
    return {{}, refused_by(wanted, exit_usage, "invalid guest name; see 'xenlane ls'")};
  }
  wanted.name = parsed->text();
  return {wanted, {}};
}

/// The channel in the bridge's status; the failure says why it cannot be connected to.
Answer<const json::object*> pick_channel(const json::object& bridge, const Wanted& wanted) {
  std::vector<std::string> names;
  for (const json::object* channel : channels_of(bridge)) {
    const std::string name = json_text(*channel, "name");
    names.push_back(escape_untrusted(name));
    if (name != wanted.name) continue;
    if (json_text(*channel, "state") == "disabled") {
      return {nullptr, refused_by(wanted, exit_configuration,
                                  fmt::format("the channel is disabled: {}; correct the daemon's "
                                              "configuration",
                                              escape_untrusted(json_text(*channel, "error"))))};
    }
    if (json_text(*channel, "end") == "dial") {
      return {nullptr, refused_by(wanted, exit_unknown,
                                  "the channel has no socket on this side; connect to it on the "
                                  "other side")};
    }
    if (json_text(*channel, "kind") == "seqpacket") {
      return {nullptr, refused_by(wanted, exit_usage,
                                  "the channel carries messages, which stdin and stdout do not "
                                  "keep apart; use a program that opens a SOCK_SEQPACKET socket")};
    }
    return {channel, {}};
  }
  const auto near = near_names(wanted.name, names);
  const std::string remedy = near.empty()
                                 ? std::string("see 'xenlane ls'")
                                 : fmt::format("did you mean {}?", fmt::join(near, " or "));
  return {nullptr, refused_by(wanted, exit_unknown, "unknown channel; " + remedy)};
}

std::string socket_path(const Context& context, const Wanted& wanted) {
  if (wanted.guest.empty()) return context.run_dir + "/" + wanted.name;
  return context.run_dir + "/" + wanted.guest + "/" + wanted.name;
}

/// Asks who is here; a daemon that cannot be asked is no failure yet, a wrong name is.
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
            refused_by(wanted, exit_usage,
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

/// How this process's own connection ended, if the bridge says that it ended badly. The socket
/// alone cannot tell: to its reader a refusal and a broken stream look like the end of the data.
std::optional<Failure> bad_ending(const Known& known, const Wanted& wanted) {
  if (known.control.empty()) return std::nullopt;
  const auto reply = ask_at_the_end(known);
  // A worker's control socket outlives it, so another one may have answered.
  const bool replaced = reply && json_number(*reply, "pid") != known.bridge_pid;
  if (replaced || (!reply && has_ended(known.bridge_process))) {
    return refused_by(wanted, exit_broken,
                      "the bridge ended while the connection was open; see 'xenlane status'");
  }
  if (!reply) {
    if (reply.error().kind == ControlError::Kind::not_permitted) return std::nullopt;
    return refused_by(wanted, exit_broken,
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
      return refused_by(wanted, exit_refused, "refused: " + why + "; check the other side");
    }
    return refused_by(wanted, exit_broken, "the stream broke: " + why);
  }
  return std::nullopt;
}

int fail_to_open(const Known& known, const Wanted& wanted, const ControlError& error) {
  const std::string shown = escape_untrusted(known.socket);
  switch (error.kind) {
    case ControlError::Kind::not_permitted:
      return fail(exit_not_permitted,
                  fmt::format("{}: {}; the channel's mode, owner and group decide who may open it",
                              shown, error.text));
    case ControlError::Kind::no_daemon:
      // A daemon that we may not ask is there, so it is the channel that is not.
      if (known.unasked && known.unasked->code == exit_not_permitted) {
        return fail(exit_unknown, fmt::format("{}: there is no such socket ({}); check the name",
                                              shown, error.text));
      }
      if (known.unasked) return fail(known.unasked->code, known.unasked->message);
      return fail(exit_no_daemon,
                  fmt::format("{}: nobody listens there ({}); wait until the session is up, see "
                              "'xenlane status'",
                              shown, error.text));
    case ControlError::Kind::failed:
      break;
  }
  return fail(exit_broken, fmt::format("{}: {}; see 'xenlane status'", wanted.shown, error.text));
}

int run_connect(const Context& context, const ConnectOptions& options) {
  const Answer<Wanted> wanted = parse_arguments(options);
  if (wanted.failure) return fail(wanted.failure->code, wanted.failure->message);
  const Answer<Known> known = look_up(context, wanted.value);
  if (known.failure) return fail(known.failure->code, known.failure->message);
  const auto socket = connect_unix(known.value.socket);
  if (!socket) return fail_to_open(known.value, wanted.value, socket.error());

  const PumpResult result = pump(socket->get(), STDIN_FILENO, STDOUT_FILENO);
  if (const auto ending = bad_ending(known.value, wanted.value)) {
    return fail(ending->code, ending->message);
  }
  if (!result.error.empty()) {
    return fail(exit_broken,
                fmt::format("{}: {}; see 'xenlane status'", wanted.value.shown, result.error));
  }
  return exit_ok;
}

}  // namespace

void add_connect(CLI::App& app, Action& action) {
  auto options = std::make_shared<ConnectOptions>();
  CLI::App* verb = app.add_subcommand("connect", "Join stdin and stdout to a channel");
  verb->add_option("NAME", options->name, "The channel: NAME in a guest, GUEST/NAME on the host")
      ->required();
  verb->add_option("--guest", options->guest, "The guest, instead of GUEST/ before the name");
  verb->footer(
      "The end of stdin is passed on and the answer is still read to its end.\n"
      "Examples:\n"
      "  echo hello | xenlane connect org.example.echo          in a guest\n"
      "  xenlane connect web/org.example.backup < dump.tar      on the host, to guest web\n"
      "  xenlane connect org.example.shell --guest web\n"
      "  ssh -o ProxyCommand='xenlane connect web/org.example.ssh' root@web");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_connect(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

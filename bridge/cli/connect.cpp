// xenlane connect: stdin and stdout joined to a channel's socket.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "bridge/channel/name.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/channel_door.hpp"
#include "bridge/cli/pump.hpp"
#include "bridge/cli/verbs.hpp"

namespace xenlane::bridge::cli {
namespace {

struct ConnectOptions {
  std::string name;
  std::string guest;
};

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
            failure_about(wanted, exit_usage,
                          fmt::format("invalid channel name: {}; give NAME or GUEST/NAME",
                                      parsed.error().text))};
  }
  if (parsed->is_reserved()) {
    return {{},
            failure_about(wanted, exit_usage,
                          fmt::format("invalid channel name: '{}' has no dot, and such names are "
                                      "reserved for xenlane; see 'xenlane ls'",
                                      parsed->text()))};
  }
  const bool has_guest = slash != std::string::npos || !options.guest.empty();
  const std::string& guest = wanted.guest;
  if (has_guest &&
      (guest.empty() || guest == "." || guest == ".." || guest.find('/') != std::string::npos)) {
    return {{}, failure_about(wanted, exit_usage, "invalid guest name; see 'xenlane ls'")};
  }
  wanted.name = parsed->text();
  return {wanted, {}};
}

int run_connect(const Context& context, const ConnectOptions& options) {
  const Answer<Wanted> wanted = parse_arguments(options);
  if (wanted.failure) return fail(wanted.failure->code, wanted.failure->message);
  const Answer<Known> known = look_up(context, wanted.value);
  if (known.failure) return fail(known.failure->code, known.failure->message);
  const auto socket = open_channel(known.value, wanted.value);
  if (socket.failure) return fail(socket.failure->code, socket.failure->message);

  const PumpResult result = pump(socket.value.get(), STDIN_FILENO, STDOUT_FILENO);
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

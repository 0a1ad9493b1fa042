// xenlane lane: which lane carries a guest's session, and the setting of it by hand.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>

#include "bridge/channel/text.hpp"
#include "bridge/cli/command.hpp"
#include "bridge/cli/lane_hold.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

constexpr unsigned wait_s_default = 30;

struct LaneOptions {
  std::vector<std::string> words;  ///< [GUEST] [LANE]
  bool as_json = false;
  std::optional<unsigned> wait_s;
};

/// The guest that is meant: in a guest the only one, on the host the one that was named.
Answer<Guest> choose(const Here& here, const std::string& name) {
  if (!here.is_host) return {here.guests.front(), {}};
  return find_guest(here, name);
}

void print(const json::object& bridge) {
  const json::object none;
  const json::object* lane = json_object(bridge, "lane");
  if (lane == nullptr) lane = &none;
  fmt::print("{}: {}\n", escape_untrusted(json_text(*lane, "kind", "none")),
             escape_untrusted(json_text(*lane, "why", "-")));
}

struct Choice {
  Guest guest;
  std::string lane;  ///< auto, vchan, console, or empty
};

Answer<Choice> parse(const Here& here, const std::vector<std::string>& words) {
  const auto usage = [](std::string message) {
    return Answer<Choice>{{}, Failure{exit_usage, std::move(message)}};
  };
  // On the host the guest comes first; in a guest there is only one.
  const std::size_t names = here.is_host ? 1 : 0;
  if (words.size() < names) return usage("which guest? see 'xenlane ls'");
  if (words.size() > names + 1) {
    return usage(fmt::format("'{}' is too much; in a guest, leave the guest out",
                             escape_untrusted(words.back())));
  }
  const std::string lane = words.size() > names ? words.back() : "";
  if (!lane.empty() && lane != "auto" && lane != "vchan" && lane != "console") {
    return usage(fmt::format("'{}' is neither auto, vchan nor console", escape_untrusted(lane)));
  }
  Answer<Guest> guest = choose(here, names == 1 ? words.front() : "");
  if (guest.failure) return {{}, std::move(guest.failure)};
  return {{std::move(guest.value), lane}, {}};
}

/// With the lane as chosen for as long as the command runs.
int run_with_lane(const Choice& choice, const std::vector<std::string>& command,
                  std::chrono::seconds longest_wait) {
  const Answer<LaneHold> held = hold_lane(choice.guest, choice.lane, longest_wait);
  if (held.failure) return fail(held.failure->code, held.failure->message);
  const int code = run_command(command);
  if (held.value.was_let_go()) {
    fail(exit_broken, "the daemon has ended meanwhile: the lane was not held to the end");
  }
  return code;
}

int run_lane(const Context& context, const LaneOptions& options) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  const Answer<Choice> choice = parse(here.value, options.words);
  if (choice.failure) return fail(choice.failure->code, choice.failure->message);
  if (!context.command.empty()) {
    if (choice.value.lane.empty()) return fail(exit_usage, "which lane is the command to have?");
    if (options.as_json) return fail(exit_usage, "with a command there is no --json");
    return run_with_lane(choice.value, context.command,
                         options.wait_s.value_or(wait_s_default) * std::chrono::seconds(1));
  }
  if (options.wait_s) return fail(exit_usage, "--wait is for a command behind '--'");
  json::object reply;
  if (choice.value.lane.empty()) {
    Answer<json::object> bridge = ask_bridge(here.value, choice.value.guest);
    if (bridge.failure) return fail(bridge.failure->code, bridge.failure->message);
    reply = std::move(bridge.value);
  } else {
    const std::string& path = choice.value.guest.control;
    auto answer = control_request(path, json::object{{"op", "lane"}, {"lane", choice.value.lane}});
    if (!answer) {
      const Failure failure = control_failure(path, answer.error());
      return fail(failure.code, failure.message);
    }
    reply = std::move(*answer);
  }
  if (options.as_json) {
    const json::object* described = json_object(reply, "lane");
    fmt::print("{}\n", json::serialize(described != nullptr ? *described : json::object{}));
  } else {
    print(reply);
  }
  return exit_ok;
}

}  // namespace

void add_lane(CLI::App& app, Action& action) {
  auto options = std::make_shared<LaneOptions>();
  CLI::App* verb = app.add_subcommand("lane", "Show or set which lane carries a guest's session");
  verb->add_option("[GUEST] [LANE]", options->words,
                   "The guest (on the host), and auto, vchan or console to set it")
      ->expected(0, 2);
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->add_option("--wait", options->wait_s, "Seconds that a command waits for its lane (30)")
      ->check(CLI::Range(1U, 3600U));
  verb->footer(
      "A lane that is set stays so until it is set to auto or the daemon ends. What cannot be had\n"
      "is waited for: set to console without a console channel, the guest has no session.\n"
      "With '-- COMMAND...' at the end the lane is set for as long as that runs, and then as it\n"
      "was, however xenlane ends. The exit code is the command's.\n"
      "Examples:\n"
      "  xenlane lane web             on the host: which lane guest web has, and why\n"
      "  xenlane lane web console     no vchan for guest web; its rings are given back\n"
      "  xenlane lane vchan           in a guest: a vchan, bulk or not\n"
      "  xenlane lane auto            in a guest: by the configuration again\n"
      "  xenlane lane web console -- backup web    the backup goes over the console");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_lane(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

// xenlane lane: which lane carries a guest's session, and the setting of it by hand.
#include <fmt/format.h>

#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct LaneOptions {
  std::vector<std::string> words;  ///< [GUEST] [LANE]
  bool as_json = false;
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

int run_lane(const Context& context, const LaneOptions& options) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  // On the host the guest comes first; in a guest there is only one.
  const std::size_t names = here.value.is_host ? 1 : 0;
  if (options.words.size() < names) return fail(exit_usage, "which guest? see 'xenlane ls'");
  if (options.words.size() > names + 1) {
    return fail(exit_usage, fmt::format("'{}' is too much; in a guest, leave the guest out",
                                        escape_untrusted(options.words.back())));
  }
  const std::string guest_name = names == 1 ? options.words.front() : "";
  const std::string lane = options.words.size() > names ? options.words.back() : "";
  if (!lane.empty() && lane != "auto" && lane != "vchan" && lane != "console") {
    return fail(exit_usage,
                fmt::format("'{}' is neither auto, vchan nor console", escape_untrusted(lane)));
  }
  Answer<Guest> guest = choose(here.value, guest_name);
  if (guest.failure) return fail(guest.failure->code, guest.failure->message);
  json::object reply;
  if (lane.empty()) {
    Answer<json::object> bridge = ask_bridge(here.value, guest.value);
    if (bridge.failure) return fail(bridge.failure->code, bridge.failure->message);
    reply = std::move(bridge.value);
  } else {
    const std::string& path = guest.value.control;
    auto answer = control_request(path, json::object{{"op", "lane"}, {"lane", lane}});
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
  verb->footer(
      "A lane that is set stays so until it is set to auto or the daemon ends. What cannot be had\n"
      "is waited for: set to console without a console channel, the guest has no session.\n"
      "Examples:\n"
      "  xenlane lane web             on the host: which lane guest web has, and why\n"
      "  xenlane lane web console     no vchan for guest web; its rings are given back\n"
      "  xenlane lane vchan           in a guest: a vchan, bulk or not\n"
      "  xenlane lane auto            in a guest: by the configuration again");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_lane(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

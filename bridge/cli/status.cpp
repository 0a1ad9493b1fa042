// xenlane status: how the daemon, its sessions and its lanes are.
#include <fmt/format.h>

#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/forward_list.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct StatusOptions {
  std::string guest;
  bool as_json = false;
};

std::string text(const json::object& object, const char* key) {
  return escape_untrusted(json_text(object, key, "-"), 256);
}

std::string format_seconds(std::uint64_t seconds) {
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  const std::uint64_t hours = seconds / 3600;
  if (hours < 48) return fmt::format("{} h {} min", hours, seconds / 60 % 60);
  return fmt::format("{} d {} h", hours / 24, hours % 24);
}

void line(const char* label, const std::string& value) {
  fmt::print("  {:<10}{}\n", label, value);
}

void print_session(const json::object& bridge) {
  const json::object none;
  const json::object* session = json_object(bridge, "session");
  if (session == nullptr) session = &none;
  const std::string state = text(*session, "state");
  std::string value =
      fmt::format("{} since {}", state, format_seconds(json_number(*session, "since_s")));
  const std::string id = json_text(*session, "id");
  if (!id.empty()) {
    value += fmt::format(", id {}, epoch {}", escape_untrusted(id), json_number(*session, "epoch"));
  }
  const std::string reason = json_text(*session, "reason");
  if (!reason.empty()) value += ": " + escape_untrusted(reason);
  line("session", value);

  const json::object* lane = json_object(bridge, "lane");
  if (lane == nullptr) lane = &none;
  value = text(*lane, "kind");
  if (value == "vchan") {
    value += fmt::format(", rings of {} KiB to send and {} KiB to receive",
                         json_number(*lane, "send_ring_bytes") / 1024,
                         json_number(*lane, "receive_ring_bytes") / 1024);
  }
  const std::string why = json_text(*lane, "why");
  if (!why.empty()) value += ": " + escape_untrusted(why);
  if (const std::string set = json_text(*lane, "set"); !set.empty() && set != "auto") {
    value += fmt::format(" (set to {})", escape_untrusted(set));
  }
  if (const std::uint64_t switches = json_number(*lane, "switches"); switches > 0) {
    value += fmt::format("; {} switches", switches);
  }
  line("lane", value);
}

void print_console(const json::object& bridge) {
  const json::object* console = json_object(bridge, "console");
  if (console == nullptr) return;
  const json::value* open = console->if_contains("open");
  const bool is_open = open != nullptr && open->is_bool() && open->get_bool();
  std::string value = is_open ? "answers" : "does not answer";
  const auto count = [&](const char* key) { return json_number(*console, key); };
  if (count("round_trip_us") > 0) value += fmt::format(" in {} us", count("round_trip_us"));
  value += fmt::format(", {} frames out, {} sent again, {} damaged", count("frames_out"),
                       count("retransmitted_frames"), count("bad_frames"));
  if (const auto packed = count("packed_bytes_out"); packed > 0) {
    value += fmt::format(", packed {:.1f} to 1",
                         static_cast<double>(count("raw_bytes_out")) / static_cast<double>(packed));
  }
  line("console", value);
}

void print_polling(const json::object& bridge) {
  const json::object* polling = json_object(bridge, "polling");
  if (polling == nullptr) return;
  const std::uint64_t max = json_number(*polling, "max_us");
  if (max == 0) {
    line("polling", "never, sleeps at once");
    return;
  }
  const std::uint64_t paid = json_number(*polling, "paid");
  const std::uint64_t looked = paid + json_number(*polling, "missed");
  line("polling", fmt::format("{} of at most {} us before a sleep; paid {} times of {}",
                              json_number(*polling, "now_us"), max, paid, looked));
}

void print_channels(const json::object& bridge) {
  const auto channels = channels_of(bridge);
  std::size_t ready = 0;
  for (const json::object* channel : channels) {
    if (json_text(*channel, "state") == "ready") ++ready;
  }
  line("channels", fmt::format("{}, {} ready", channels.size(), ready));
  for (const json::object* channel : channels) {
    const std::string error = json_text(*channel, "error");
    if (!error.empty()) {
      line("", fmt::format("{}: disabled: {}", text(*channel, "name"), escape_untrusted(error)));
    }
    const std::uint64_t refused = json_number(*channel, "refused");
    const json::object* last = json_object(*channel, "last_refusal");
    if (refused > 0) {
      line("", fmt::format("{}: refused {}, the last: {}", text(*channel, "name"), refused,
                           last == nullptr ? "-" : text(*last, "message")));
    }
  }
}

void print_bridge(const json::object& bridge) {
  fmt::print("guest {} (domain {}): {} {}, pid {}, up {}\n", text(bridge, "guest"),
             json_number(bridge, "domid"), text(bridge, "role"), text(bridge, "version"),
             json_number(bridge, "pid"), format_seconds(json_number(bridge, "uptime_s")));
  print_session(bridge);
  print_console(bridge);
  print_polling(bridge);
  if (const json::object* streams = json_object(bridge, "streams")) {
    line("streams",
         fmt::format("{} open of {}", json_number(*streams, "open"), json_number(*streams, "max")));
  }
  print_channels(bridge);
  const json::object* counters = json_object(bridge, "counters");
  if (counters == nullptr || counters->empty()) return;
  line("counters", "");
  for (const auto& counter : *counters) {
    fmt::print("    {} {}\n", escape_untrusted({counter.key().data(), counter.key().size()}),
               escape_untrusted(json::serialize(counter.value())));
  }
}

void print_broker(const Here& here) {
  fmt::print("broker {}, pid {}, up {}, guests: {}\n", text(here.reply, "version"),
             json_number(here.reply, "pid"), format_seconds(json_number(here.reply, "uptime_s")),
             here.guests.size());
}

int run_status(const Context& context, const StatusOptions& options) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  std::vector<Guest> wanted = here.value.guests;
  if (!options.guest.empty()) {
    Answer<Guest> guest = find_guest(here.value, options.guest);
    if (guest.failure) return fail(guest.failure->code, guest.failure->message);
    wanted = {guest.value};
  }
  json::array bridges;
  const bool one = !options.guest.empty();
  if (!options.as_json && here.value.is_host && !one) print_broker(here.value);
  for (const Guest& guest : wanted) {
    Answer<json::object> bridge = ask_bridge(here.value, guest);
    if (bridge.failure && one) return fail(bridge.failure->code, bridge.failure->message);
    if (options.as_json) {
      if (!bridge.failure) bridges.emplace_back(bridge.value);
    } else if (bridge.failure) {
      fmt::print("guest {} (domain {}): {}, no bridge answers\n", escape_untrusted(guest.name),
                 guest.domid, escape_untrusted(guest.state));
    } else {
      print_bridge(bridge.value);
    }
  }
  if (options.as_json) {
    json::object result = {{"v", control_version}, {"broker", nullptr}, {"bridges", bridges}};
    result["forwards"] = forwards_here(context);
    if (here.value.is_host) result["broker"] = here.value.reply;
    fmt::print("{}\n", json::serialize(result));
  } else if (!one) {
    print_forwards(forwards_here(context), false);
  }
  return exit_ok;
}

}  // namespace

void add_status(CLI::App& app, Action& action) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* verb = app.add_subcommand("status", "Show sessions, lanes, streams and counters");
  verb->add_option("GUEST", options->guest, "Only this guest's (name or domain id; on the host)");
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  xenlane status          in a guest: its bridge; on the host: the broker and every bridge\n"
      "  xenlane status web      on the host: the bridge that serves guest web\n"
      "  xenlane status --json | jq '.bridges[].session.state'");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_status(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

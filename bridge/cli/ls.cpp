// xenlane ls: the channels here, one per line.
#include <fmt/format.h>

#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/table.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct LsOptions {
  std::string guest;
  bool as_json = false;
};

/// What was found out about one guest: its bridge's status, or why there is none.
struct Found {
  Guest guest;
  Answer<json::object> bridge;
};

void print_json(const std::vector<Found>& all) {
  json::array channels;
  json::array unreachable;
  for (const Found& found : all) {
    if (found.bridge.failure) {
      unreachable.push_back({{"guest", found.guest.name},
                             {"state", found.guest.state},
                             {"error", found.bridge.failure->message}});
      continue;
    }
    for (const json::object* channel : channels_of(found.bridge.value)) {
      json::object entry = {{"guest", found.guest.name}};
      for (const auto& member : *channel) entry[member.key()] = member.value();
      channels.push_back(std::move(entry));
    }
  }
  const json::object result = {
      {"v", control_version}, {"channels", channels}, {"unreachable", unreachable}};
  fmt::print("{}\n", json::serialize(result));
}

std::vector<Cell> channel_row(const json::object& channel) {
  const auto text = [&](const char* key) {
    return escape_untrusted(json_text(channel, key, "-"), 256);
  };
  const std::string state = text("state");
  return {{text("name")},
          {text("end")},
          {state, state == "ready" ? Colour::good : Colour::bad},
          {std::to_string(json_number(channel, "open")), Colour::none, true},
          {std::to_string(json_number(channel, "opened")), Colour::none, true},
          {json_text(channel, "end") == "dial" ? text("target") : text("socket")}};
}

void print_rows(const std::vector<Found>& all, bool is_host) {
  std::vector<Cell> head = {{"NAME"},
                            {"END"},
                            {"STATE"},
                            {"OPEN", Colour::none, true},
                            {"OPENED", Colour::none, true},
                            {"SOCKET OR TARGET"}};
  if (is_host) head.insert(head.begin(), Cell{"GUEST"});
  std::vector<std::vector<Cell>> rows;
  const auto add = [&](const Found& found, std::vector<Cell> row) {
    if (is_host) row.insert(row.begin(), Cell{escape_untrusted(found.guest.name)});
    rows.push_back(std::move(row));
  };
  for (const Found& found : all) {
    if (found.bridge.failure) {
      // The guest has no bridge to ask: it still is a line, so that nobody thinks it forgotten.
      add(found, {{"-"},
                  {"-"},
                  {escape_untrusted(found.guest.state), Colour::bad},
                  {"-", Colour::none, true},
                  {"-", Colour::none, true},
                  {"-"}});
      continue;
    }
    for (const json::object* channel : channels_of(found.bridge.value)) {
      add(found, channel_row(*channel));
    }
  }
  print_table(stdout, head, rows, colours_wanted());
}

int run_ls(const Context& context, const LsOptions& options) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  std::vector<Guest> wanted = here.value.guests;
  if (!options.guest.empty()) {
    Answer<Guest> guest = find_guest(here.value, options.guest);
    if (guest.failure) return fail(guest.failure->code, guest.failure->message);
    wanted = {guest.value};
  }
  std::vector<Found> all;
  for (const Guest& guest : wanted) all.push_back({guest, ask_bridge(here.value, guest)});
  if (!options.guest.empty() && all.front().bridge.failure) {
    return fail(all.front().bridge.failure->code, all.front().bridge.failure->message);
  }
  if (options.as_json) {
    print_json(all);
  } else {
    print_rows(all, here.value.is_host);
  }
  return exit_ok;
}

}  // namespace

void add_ls(CLI::App& app, Action& action) {
  auto options = std::make_shared<LsOptions>();
  CLI::App* verb = app.add_subcommand("ls", "List the channels here");
  verb->add_option("GUEST", options->guest, "Only this guest's (name or domain id; on the host)");
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  xenlane ls              in a guest: its channels; on the host: every guest's\n"
      "  xenlane ls web          on the host: the channels of guest web\n"
      "  xenlane ls --json | jq '.channels[].name'");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_ls(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

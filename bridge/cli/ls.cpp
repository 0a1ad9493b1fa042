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

void print_json(const Asked& asked) {
  json::array channels;
  for (const GuestAnswer& found : asked.guests) {
    if (found.bridge.failure) continue;
    for (const json::object* channel : channels_of(found.bridge.value)) {
      json::object entry = {{"guest", found.guest.name}};
      for (const auto& member : *channel) entry[member.key()] = member.value();
      channels.push_back(std::move(entry));
    }
  }
  const json::object result = {
      {"v", control_version}, {"channels", channels}, {"unreachable", unreachable(asked)}};
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

void print_rows(const Asked& asked) {
  std::vector<Cell> head = {{"NAME"},
                            {"END"},
                            {"STATE"},
                            {"OPEN", Colour::none, true},
                            {"OPENED", Colour::none, true},
                            {"SOCKET OR TARGET"}};
  if (asked.is_host) head.insert(head.begin(), Cell{"GUEST"});
  std::vector<std::vector<Cell>> rows;
  const auto add = [&](const GuestAnswer& found, std::vector<Cell> row) {
    if (asked.is_host) row.insert(row.begin(), Cell{escape_untrusted(found.guest.name)});
    rows.push_back(std::move(row));
  };
  for (const GuestAnswer& found : asked.guests) {
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
  const Answer<Asked> asked = ask_guests(context, options.guest);
  if (asked.failure) return fail(asked.failure->code, asked.failure->message);
  if (options.as_json) {
    print_json(asked.value);
  } else {
    print_rows(asked.value);
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

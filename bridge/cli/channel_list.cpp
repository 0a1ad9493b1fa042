// xenlane channel-list: the channels with what `xl channel-list` tells of them and what it cannot:
// who is connected, over which lane, and how much has gone through.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/table.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct ChannelListOptions {
  std::string guest;
  bool as_json = false;
};

/// Raw bytes are the PV channel's, whatever the session's lane is. A port's may be, too, while no
/// bridge answers at the other side.
std::string lane_of(const json::object& channel, const json::object& bridge) {
  const json::value* raw = channel.if_contains("raw");
  const bool is_raw = raw != nullptr && raw->is_bool() && raw->get_bool();
  if (is_raw || json_text(channel, "end") == "raw") return "console";
  const json::object* lane = json_object(bridge, "lane");
  return lane == nullptr ? "none" : json_text(*lane, "kind", "none");
}

/// One line of the list, as `--json` has it.
json::object entry_of(const GuestAnswer& from, const json::object& channel, bool is_host) {
  const json::object& bridge = from.bridge.value;
  json::object entry = {{"guest", from.guest.name},
                        {"domid", from.guest.domid},
                        {"name", json_text(channel, "name", "-")},
                        {"end", json_text(channel, "end", "-")},
                        {"state", json_text(channel, "state", "-")},
                        {"lane", lane_of(channel, bridge)},
                        {"open", json_number(channel, "open")},
                        {"bytes_in", json_number(channel, "bytes_in")},
                        {"bytes_out", json_number(channel, "bytes_out")}};
  // What xl calls so. Only a PV channel has it: QEMU's socket on the host, the tty in a guest.
  if (const std::string console = json_text(channel, "console"); !console.empty()) {
    entry["connection"] = is_host ? "socket" : "tty";
    entry["params"] = console;
  }
  return entry;
}

void print_rows(const std::vector<json::object>& entries) {
  struct Column {
    const char* head;
    const char* member;
    bool is_number;
  };
  std::vector<Column> columns = {
      {"GUEST", "guest", false}, {"DOMID", "domid", true},       {"NAME", "name", false},
      {"END", "end", false},     {"STATE", "state", false},      {"LANE", "lane", false},
      {"OPEN", "open", true},    {"BYTES IN", "bytes_in", true}, {"BYTES OUT", "bytes_out", true}};
  if (std::any_of(entries.begin(), entries.end(),
                  [](const json::object& entry) { return entry.contains("params"); })) {
    columns.push_back({"CONNECTION", "connection", false});
    columns.push_back({"PARAMS", "params", false});
  }
  std::vector<Cell> head;
  for (const Column& column : columns)
    head.push_back({column.head, Colour::none, column.is_number});
  std::vector<std::vector<Cell>> rows;
  for (const json::object& entry : entries) {
    std::vector<Cell> row;
    for (const Column& column : columns) {
      Cell cell{"-", Colour::none, column.is_number};
      if (entry.contains(column.member)) {
        cell.text = column.is_number ? std::to_string(json_number(entry, column.member))
                                     : escape_untrusted(json_text(entry, column.member), 256);
      }
      if (column.member == std::string_view("state")) {
        cell.colour = cell.text == "ready" ? Colour::good : Colour::bad;
      }
      row.push_back(std::move(cell));
    }
    rows.push_back(std::move(row));
  }
  print_table(stdout, head, rows, colours_wanted());
}

int run_channel_list(const Context& context, const ChannelListOptions& options) {
  const Answer<Asked> asked = ask_guests(context, options.guest);
  if (asked.failure) return fail(asked.failure->code, asked.failure->message);
  std::vector<json::object> entries;
  for (const GuestAnswer& one : asked.value.guests) {
    if (one.bridge.failure) {
      // A line all the same, so that nobody thinks the guest forgotten.
      if (options.as_json) continue;
      entries.push_back(
          {{"guest", one.guest.name}, {"domid", one.guest.domid}, {"state", one.guest.state}});
      continue;
    }
    for (const json::object* channel : channels_of(one.bridge.value)) {
      entries.push_back(entry_of(one, *channel, asked.value.is_host));
    }
  }
  if (!options.as_json) {
    print_rows(entries);
    return exit_ok;
  }
  const json::object result = {{"v", control_version},
                               {"channels", json::array(entries.begin(), entries.end())},
                               {"unreachable", unreachable(asked.value)}};
  fmt::print("{}\n", json::serialize(result));
  return exit_ok;
}

}  // namespace

void add_channel_list(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChannelListOptions>();
  CLI::App* verb =
      app.add_subcommand("channel-list", "List channels with their lanes and bytes, as xl does");
  verb->add_option("GUEST", options->guest, "Only this guest's (name or domain id; on the host)");
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "Examples:\n"
      "  xenlane channel-list          in a guest: its channels; on the host: every guest's\n"
      "  xenlane channel-list web      on the host: the channels of guest web\n"
      "  xenlane channel-list --json | jq '.channels[] | select(.open > 0)'");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_channel_list(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

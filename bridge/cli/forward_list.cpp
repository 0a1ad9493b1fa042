#include "bridge/cli/forward_list.hpp"

#include <fmt/format.h>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/table.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/forward/registry.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

json::array forwards_here(const Context& context) {
  json::array all;
  for (const RunningForward& process : running_forwards(context.run_dir)) {
    const json::array* forwards = json_array(process.status, "forwards");
    if (forwards == nullptr) continue;
    for (const json::value& value : *forwards) {
      if (!value.is_object()) continue;
      json::object one{{"id", process.id}};
      for (const auto& member : value.get_object()) one[member.key()] = member.value();
      all.push_back(std::move(one));
    }
  }
  return all;
}

void print_forwards(const json::array& forwards, bool always) {
  if (forwards.empty() && !always) return;
  const std::vector<Cell> head = {{"ID"},
                                  {"KIND"},
                                  {"FORWARD"},
                                  {"STATE"},
                                  {"OPEN", Colour::none, true},
                                  {"OPENED", Colour::none, true},
                                  {"FAILED", Colour::none, true},
                                  {"BYTES IN", Colour::none, true},
                                  {"BYTES OUT", Colour::none, true},
                                  {"LAST ERROR"}};
  std::vector<std::vector<Cell>> rows;
  for (const json::value& value : forwards) {
    const json::object& one = value.get_object();
    const auto text = [&](const char* key) {
      return escape_untrusted(json_text(one, key, "-"), 256);
    };
    const auto number = [&](const char* key) {
      return Cell{std::to_string(json_number(one, key)), Colour::none, true};
    };
    const std::string state = text("state");
    // What keeps it now says more than what once went wrong.
    const std::string why = state == "up" ? text("last_error") : text("reason");
    rows.push_back({{text("id")},
                    {text("kind")},
                    {text("forward")},
                    {state, state == "up" ? Colour::good : Colour::bad},
                    number("open"),
                    number("opened"),
                    number("failed"),
                    number("bytes_in"),
                    number("bytes_out"),
                    {why.empty() ? "-" : why}});
  }
  print_table(stdout, head, rows, colours_wanted());
}

int list_forwards(const Context& context, bool as_json) {
  const json::array forwards = forwards_here(context);
  if (as_json) {
    fmt::print("{}\n",
               json::serialize(json::object{{"v", control_version}, {"forwards", forwards}}));
  } else {
    print_forwards(forwards, true);
  }
  return exit_ok;
}

int stop_forwards(const Context& context, const std::string& id) {
  bool found = false;
  for (const RunningForward& process : running_forwards(context.run_dir)) {
    if (id != "all" && process.id != id) continue;
    found = true;
    const auto reply = control_request(process.control, "stop");
    if (!reply) {
      const Failure failure = control_failure(process.control, reply.error());
      return fail(failure.code, failure.message);
    }
  }
  if (found || id == "all") return exit_ok;
  return fail(exit_unknown, fmt::format("{}: no forward of that ID runs here; see 'xenlane forward "
                                        "--list'",
                                        escape_untrusted(id)));
}

}  // namespace xenlane::bridge::cli

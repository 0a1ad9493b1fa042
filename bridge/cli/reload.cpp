// xenlane reload: has the daemon here read its configuration again, and says what came of it.
#include <fmt/format.h>

#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

/// "added org.example.a, org.example.b", a line for each kind of change there is.
void print_changes(const json::object& changes, const std::string& before) {
  for (const char* kind : {"added", "changed", "removed", "failed"}) {
    const json::array* names = json_array(changes, kind);
    if (names == nullptr || names->empty()) continue;
    std::vector<std::string> shown;
    for (const json::value& name : *names) {
      if (const auto* text = name.if_string()) shown.push_back(escape_untrusted(*text));
    }
    fmt::print("{}{} {}\n", before, kind, fmt::join(shown, ", "));
  }
}

void print(const json::object& reply, bool is_host) {
  if (const json::array* faults = json_array(reply, "faults")) {
    for (const json::value& fault : *faults) {
      if (const auto* text = fault.if_string()) {
        fmt::print(stderr, "{}\n", escape_untrusted(*text, control_error_bytes_max));
      }
    }
  }
  const json::object* changes = json_object(reply, "changes");
  if (changes == nullptr) return;
  if (!is_host) return print_changes(*changes, "");
  for (const auto& guest : *changes) {
    if (!guest.value().is_object()) continue;
    print_changes(guest.value().get_object(), escape_untrusted(guest.key()) + ": ");
  }
}

int run_reload(const Context& context, bool as_json) {
  const Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  const std::string path = context.run_dir + "/control";
  const auto reply = control_request(path, "reload");
  if (!reply) {
    const Failure failure = control_failure(path, reply.error());
    return fail(failure.code, failure.message);
  }
  if (as_json) {
    fmt::print("{}\n", json::serialize(*reply));
  } else {
    print(*reply, here.value.is_host);
  }
  const auto is_true = [&](const char* key) {
    const json::value* value = reply->if_contains(key);
    return value != nullptr && value->is_bool() && value->get_bool();
  };
  if (!is_true("applied")) {
    return fail(exit_configuration, "not reloaded; everything stays as it was");
  }
  return is_true("errors") ? exit_configuration : exit_ok;
}

}  // namespace

void add_reload(CLI::App& app, Action& action) {
  auto as_json = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("reload", "Read the configuration's channels again");
  verb->add_flag("--json", *as_json, "Print JSON");
  verb->footer(
      "Channels (and on the host which guests are served) change at once, streams of others are\n"
      "not touched; other settings need a restart. SIGHUP does the same.\n"
      "Exit code 3 when there are errors; with one that keeps a daemon from starting nothing\n"
      "changes.\n"
      "Example:\n"
      "  xenlane reload && xenlane ls");
  verb->callback([as_json, &action] {
    action = [as_json](const Context& context) { return run_reload(context, *as_json); };
  });
}

}  // namespace xenlane::bridge::cli

// xenlane channel add|remove: channels that come and go while everything runs. What is added so is
// gone when the guest or the daemon ends; for what is to stay there are the configuration files.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

struct ChannelOptions {
  std::vector<std::string> words;  ///< [GUEST] NAME
  bool listen = false;
  std::string dial;
  bool port = false;
  std::string raw;
  std::vector<std::string> settings;  ///< KEY=VALUE
};

/// Which channel, of which guest; in a guest that is empty.
struct Which {
  std::string guest;
  std::string name;
};

/// Whatever is wrong that no more special exit code is for.
ExitCode code_of(const std::string& error_code) {
  if (error_code == "bad-channel" || error_code == "not-added") return exit_configuration;
  if (error_code.starts_with("unknown-")) return exit_unknown;
  return exit_broken;
}

Answer<Which> parse_which(const Here& here, const std::vector<std::string>& words) {
  const std::size_t wanted = here.is_host ? 2 : 1;
  if (words.size() != wanted) {
    return {{},
            Failure{exit_usage, here.is_host ? "which channel of which guest? GUEST NAME"
                                             : "which channel? in a guest, NAME alone"}};
  }
  if (!here.is_host) return {{"", words.front()}, {}};
  Answer<Guest> guest = find_guest(here, words.front());
  if (guest.failure) return {{}, std::move(guest.failure)};
  return {{guest.value.name, words.back()}, {}};
}

/// A text, or what a file would have without quotes: true, false, a number, [a, b].
json::value value_of(std::string_view text) {
  if (text == "true" || text == "false") return text == "true";
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  // Digits behind a zero are a mode's.
  const bool is_number =
      error == std::errc{} && stop == end && (text.size() == 1 || text[0] != '0');
  if (is_number) return number;
  if (!text.starts_with('[') || !text.ends_with(']')) return json::value(text);
  json::array list;
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    list.push_back(value_of(item));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return list;
}

/// The keys of a [[channel]] section, or what is wrong with the options.
Answer<json::object> keys_of(const ChannelOptions& options, const std::string& name) {
  json::object keys{{"name", name}};
  const auto usage = [](std::string text) {
    return Answer<json::object>{{}, Failure{exit_usage, std::move(text)}};
  };
  const int ends = int{options.listen} + int{!options.dial.empty()} + int{options.port} +
                   int{!options.raw.empty()};
  if (ends != 1) return usage("one of --listen, --dial, --port and --raw says what its end is");
  keys["end"] = options.listen ? "listen" : options.port ? "port" : "raw";
  if (!options.dial.empty()) {
    keys["end"] = "dial";
    keys["target"] = options.dial;
  }
  if (!options.raw.empty()) keys["console"] = options.raw;
  for (const std::string& setting : options.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return usage(fmt::format("--set {}: is not KEY=VALUE", escape_untrusted(setting)));
    }
    keys[setting.substr(0, equals)] = value_of(std::string_view(setting).substr(equals + 1));
  }
  return {std::move(keys), {}};
}

int run_channel(const Context& context, const ChannelOptions& options, bool adds) {
  Answer<Here> here = ask_here(context);
  if (here.failure) return fail(here.failure->code, here.failure->message);
  const Answer<Which> which = parse_which(here.value, options.words);
  if (which.failure) return fail(which.failure->code, which.failure->message);
  json::object request{{"op", adds ? "channel-add" : "channel-remove"}};
  if (!which.value.guest.empty()) request["guest"] = which.value.guest;
  if (adds) {
    Answer<json::object> keys = keys_of(options, which.value.name);
    if (keys.failure) return fail(keys.failure->code, keys.failure->message);
    request["channel"] = std::move(keys.value);
  } else {
    request["name"] = which.value.name;
  }
  const std::string path = context.run_dir + "/control";
  const auto reply = control_request(path, std::move(request));
  if (reply) return exit_ok;
  if (reply.error().code.empty()) {
    const Failure failure = control_failure(path, reply.error());
    return fail(failure.code, failure.message);
  }
  return fail(code_of(reply.error().code), reply.error().text);
}

void add_add(CLI::App& group, Action& action) {
  auto options = std::make_shared<ChannelOptions>();
  CLI::App* verb = group.add_subcommand("add", "Add a channel until the guest or the daemon ends");
  verb->add_option("[GUEST] NAME", options->words, "The guest (on the host), and the name")
      ->expected(1, 2);
  verb->add_flag("--listen", options->listen, "This side has the socket, the other side dials");
  verb->add_option("--dial", options->dial, "Connections of the other side go to this target");
  verb->add_flag("--port", options->port, "Both sides have a socket");
  verb->add_option("--raw", options->raw,
                   "A socket here, and the PV channel's bytes: QEMU's socket, or a guest's tty");
  verb->add_option("--set", options->settings, "KEY=VALUE as in a [[channel]] section; repeatable")
      ->expected(1)
      ->take_all();
  verb->footer(
      "Examples:\n"
      "  xenlane channel add web org.example.log --dial unix:/run/log.sock   on the host\n"
      "  xenlane channel add org.example.log --listen --set mode=0666        in a guest\n"
      "  xenlane channel add web org.example.x --listen --set 'users=[alice, bob]'");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_channel(context, *options, true); };
  });
}

void add_remove(CLI::App& group, Action& action) {
  auto options = std::make_shared<ChannelOptions>();
  CLI::App* verb = group.add_subcommand(
      "remove", "Remove a channel; one of the files is back with the next reload");
  verb->add_option("[GUEST] NAME", options->words, "The guest (on the host), and the name")
      ->expected(1, 2);
  verb->footer(
      "Its open connections break.\n"
      "Example:\n"
      "  xenlane channel remove web org.example.log");
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_channel(context, *options, false); };
  });
}

}  // namespace

void add_channel(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("channel", "Add and remove channels while all runs");
  group->require_subcommand(1);
  add_add(*group, action);
  add_remove(*group, action);
}

}  // namespace xenlane::bridge::cli

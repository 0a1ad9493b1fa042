// xenlane policy check: says from the configuration's files whether a guest has a channel, and a
// local user its socket, with the file and line that decide. The daemon is not asked: so what the
// next reload would bring can be looked at before it.
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include "bridge/channel/access.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

/// Groups of one user that are looked at.
constexpr int user_groups_max = 1024;

struct PolicyOptions {
  std::vector<std::string> words;  ///< [GUEST] NAME
  std::string user;
  std::string dial;    ///< what the other side would dial by it
  std::string listen;  ///< what it would have listened on
  std::string config;
  bool as_json = false;
};

/// What is asked of the channel besides.
struct Question {
  std::optional<LocalUser> user;
  std::optional<ForwardAddress> dial;
  std::optional<ForwardAddress> listen;
};

struct Reason {
  SourceLocation where;  ///< without a file: of no line
  std::string text;
};

struct Verdict {
  bool allowed = true;
  std::vector<Reason> reasons;

  void add(SourceLocation where, std::string text) {
    reasons.push_back({std::move(where), std::move(text)});
  }
  void refuse(SourceLocation where, std::string text) {
    allowed = false;
    add(std::move(where), std::move(text));
  }
};

/// By name or number.
Answer<LocalUser> find_local_user(const std::string& name) {
  uid_t uid = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, uid);
  const bool is_number = error == std::errc{} && stop == end;
  const passwd* entry = is_number ? ::getpwuid(uid) : ::getpwnam(name.c_str());
  if (entry == nullptr && !is_number) {
    return {{}, Failure{exit_usage, fmt::format("there is no user '{}'", escape_untrusted(name))}};
  }
  LocalUser user;
  user.uid = entry != nullptr ? entry->pw_uid : uid;
  if (entry == nullptr) return {user, {}};
  user.gid = entry->pw_gid;
  std::array<gid_t, user_groups_max> groups;
  int count = user_groups_max;
  if (::getgrouplist(entry->pw_name, entry->pw_gid, groups.data(), &count) >= 0) {
    user.groups.assign(groups.begin(), groups.begin() + count);
  }
  return {std::move(user), {}};
}

std::string describe_end(const ChannelConfig& channel, bool on_host) {
  const char* other = on_host ? "the guest's programs" : "the host's programs";
  switch (channel.end) {
    case EndKind::dial:
      return fmt::format("{} reach {}", other, channel.target ? channel.target->uri() : "nothing");
    case EndKind::listen:
      return "local programs reach what the other side dials";
    case EndKind::port:
      return fmt::format("local programs meet {}", other);
    case EndKind::raw:
      return "local programs have the PV channel " + channel.console;
  }
  return {};
}

/// What the socket's permissions and the channel's lists say of a user.
void check_user(Verdict& verdict, const ChannelConfig& channel, const LocalUser& user) {
  if (channel.end == EndKind::dial) {
    verdict.add(channel.where, "a dialled channel has no socket here for a user to open");
    return;
  }
  const std::string permissions =
      fmt::format("permissions {:04o}, owner {}, group {}", channel.socket_mode,
                  channel.owner.empty() ? "the daemon's user" : channel.owner,
                  channel.group.empty() ? "the daemon's group" : channel.group);
  if (!may_open(channel, user)) {
    return verdict.refuse(channel.where,
                          fmt::format("user {} cannot open the socket: {}", user.uid, permissions));
  }
  verdict.add(channel.where, fmt::format("user {} can open the socket: {}", user.uid, permissions));
  if (channel.users.empty() && channel.groups.empty()) return;
  if (is_listed(channel, user)) {
    verdict.add(channel.where, fmt::format("user {} is in users or groups", user.uid));
  } else {
    verdict.refuse(channel.where,
                   fmt::format("user {} is neither in users nor in groups", user.uid));
  }
}

/// What `allow` or `allow_listen` says of an address.
void check_address(Verdict& verdict, const ChannelConfig& channel, const char* list,
                   const ForwardRules& rules, const ForwardAddress& address) {
  if (!channel.target || channel.target->kind() != TargetKind::forward) {
    return verdict.refuse(
        channel.where,
        fmt::format("only a channel with target = \"builtin:forward\" has {}", list));
  }
  const auto rule = std::find_if(rules.begin(), rules.end(),
                                 [&](const ForwardRule& one) { return one.allows(address); });
  if (rule != rules.end()) {
    verdict.add(channel.where, fmt::format("{}: \"{}\" has {}", list, rule->text(), address.uri()));
  } else {
    verdict.refuse(channel.where, fmt::format("{} does not have {}", list, address.uri()));
  }
}

Verdict check(const BridgeConfig& config, const std::string& guest, const std::string& name,
              const Question& question) {
  Verdict verdict;
  const bool on_host = !guest.empty();
  if (on_host && !guest_is_served(config, guest)) {
    verdict.refuse({config.file, 0}, "daemon.guests does not have this guest");
    return verdict;
  }
  const Decision decision = decide(config, name, guest);
  if (decision.denial != nullptr) {
    const Denial& denial = *decision.denial;
    verdict.refuse(denial.where,
                   denial.why.empty()
                       ? fmt::format("denied: name {}, guest {}", denial.name, denial.guest)
                       : fmt::format("{}: it denies what comes behind it", denial.why));
  } else if (decision.channel == nullptr) {
    verdict.refuse({config.file, 0}, "nothing matches: there is no such channel");
  } else if (!decision.channel->error.empty()) {
    verdict.refuse(decision.channel->where, "the channel is disabled: " + decision.channel->error);
  } else {
    const ChannelConfig& channel = *decision.channel;
    verdict.add(channel.where, fmt::format("end = \"{}\": {}", to_string(channel.end),
                                           describe_end(channel, on_host)));
    if (question.user) check_user(verdict, channel, *question.user);
    if (question.dial) check_address(verdict, channel, "allow", channel.allow, *question.dial);
    if (question.listen) {
      check_address(verdict, channel, "allow_listen", channel.allow_listen, *question.listen);
    }
  }
  return verdict;
}

std::string shown(const SourceLocation& where) {
  const std::string file = escape_untrusted(where.file, 4096);
  return where.line == 0 ? file : fmt::format("{}:{}", file, where.line);
}

void print_json(const std::string& guest, const std::string& name, const Verdict& verdict) {
  json::array reasons;
  for (const Reason& reason : verdict.reasons) {
    reasons.push_back(
        {{"file", reason.where.file}, {"line", reason.where.line}, {"text", reason.text}});
  }
  json::object out{{"v", control_version},
                   {"name", name},
                   {"allowed", verdict.allowed},
                   {"reasons", std::move(reasons)}};
  if (!guest.empty()) out["guest"] = guest;
  fmt::print("{}\n", json::serialize(out));
}

int run_check(const PolicyOptions& options) {
  const bool on_host = options.words.size() == 2;
  const std::string guest = on_host ? options.words.front() : "";
  const auto name = ChannelName::parse(options.words.back());
  if (!name) {
    return fail(exit_usage,
                fmt::format("'{}': {}", escape_untrusted(options.words.back()), name.error().text));
  }
  Question question;
  if (!options.user.empty()) {
    auto found = find_local_user(options.user);
    if (found.failure) return fail(found.failure->code, found.failure->message);
    question.user = std::move(found.value);
  }
  for (const bool listens : {false, true}) {
    const std::string& text = listens ? options.listen : options.dial;
    if (text.empty()) continue;
    const auto address = ForwardAddress::parse(text, listens);
    if (!address) {
      return fail(exit_usage,
                  fmt::format("'{}': {}", escape_untrusted(text), address.error().text));
    }
    (listens ? question.listen : question.dial) = *address;
  }
  const std::optional<std::string> path =
      options.config.empty() ? std::nullopt : std::optional(options.config);
  const ConfigLoad load = load_config(on_host ? Side::host : Side::guest, path);
  if (load.is_fatal()) {
    return fail(exit_configuration,
                fmt::format("{}: no daemon starts with this; see --check of the daemon",
                            escape_untrusted(load.config.file, 4096)));
  }
  const Verdict verdict = check(load.config, guest, name->text(), question);
  if (options.as_json) {
    print_json(guest, name->text(), verdict);
  } else {
    fmt::print("{}\n", verdict.allowed ? "allowed" : "refused");
    for (const Reason& reason : verdict.reasons) {
      fmt::print("  {}: {}\n", shown(reason.where), escape_untrusted(reason.text, 512));
    }
  }
  return verdict.allowed ? exit_ok : exit_refused;
}

}  // namespace

void add_policy(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("policy", "Explain who may use which channel");
  group->require_subcommand(1);
  auto options = std::make_shared<PolicyOptions>();
  CLI::App* verb = group->add_subcommand("check", "Say what decides, with its file and line");
  verb->add_option("[GUEST] NAME", options->words, "The guest (for the host's files), and the name")
      ->required()
      ->expected(1, 2);
  verb->add_option("--user", options->user, "May this local user use the channel's socket?");
  verb->add_option("--dial", options->dial,
                   "May the other side dial this by it (tcp:HOST:PORT, unix:/path)?");
  verb->add_option("--listen", options->listen, "May the other side have it listen here?");
  verb->add_option("--config", options->config,
                   "Another file than /etc/xenlane/host.toml, or guest.toml without a guest");
  verb->add_flag("--json", options->as_json, "Print JSON");
  verb->footer(
      "The files are read, not the daemon asked: so a change can be checked before 'xenlane "
      "reload'.\n"
      "Exit codes: 0 allowed, 5 refused, 3 no daemon starts with these files.\n"
      "Examples:\n"
      "  xenlane policy check web org.example.backup                on the host\n"
      "  xenlane policy check web org.example.agent --user alice    on the host\n"
      "  xenlane policy check org.example.backup --user backup      in a guest\n"
      "  xenlane policy check org.xenlane.forward-in-guest.0 --dial tcp:localhost:5432");
  verb->callback([options, &action] {
    action = [options](const Context& /*context*/) { return run_check(*options); };
  });
}

}  // namespace xenlane::bridge::cli

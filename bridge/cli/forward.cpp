// xenlane forward: ports and sockets here that lead to the other side, and the other way round, as
// ssh's -L, -R and -D.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <memory>

#include "bridge/channel/name.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/forward_list.hpp"
#include "bridge/cli/forward_run.hpp"
#include "bridge/cli/query.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/daemon/program.hpp"
#include "bridge/forward/registry.hpp"

namespace xenlane::bridge::cli {
namespace {

constexpr std::uint32_t wait_seconds_max = 24 * 3600;

struct ForwardOptions {
  std::vector<std::string> local;
  std::vector<std::string> remote;
  std::vector<std::string> socks;
  std::string channel;
  std::uint32_t wait_s = forward_wait_default.count();
  bool refuse = false;
  bool detach = false;
  bool list = false;
  std::string stop;
  bool as_json = false;
  bool configured = false;
  std::string config;
  bool as_host = false;
  bool as_guest = false;
};

void tell(const std::string& line) {
  fmt::print(stderr, "xenlane forward: {}\n", line);
}

Answer<std::vector<ForwardSpec>> parse_specs(const ForwardOptions& options) {
  std::vector<ForwardSpec> specs;
  const auto wrong = [](const std::string& what) {
    return Answer<std::vector<ForwardSpec>>{{}, Failure{exit_usage, what}};
  };
  if (!options.channel.empty()) {
    const auto name = ChannelName::parse(options.channel);
    if (!name) return wrong("--channel: " + name.error().text);
  }
  const std::pair<ForwardKind, const std::vector<std::string>*> all[] = {
      {ForwardKind::local, &options.local},
      {ForwardKind::remote, &options.remote},
      {ForwardKind::socks, &options.socks}};
  for (const auto& [kind, texts] : all) {
    for (const std::string& text : *texts) {
      auto spec = parse_forward_spec(kind, text);
      if (!spec) return wrong(spec.error().text);
      if (!options.channel.empty()) spec->channel = options.channel;
      spec->wait = std::chrono::seconds(options.wait_s);
      spec->refuse = options.refuse;
      specs.push_back(std::move(*spec));
    }
  }
  return {std::move(specs), {}};
}

Answer<std::vector<BoundForward>> bind_all(const std::vector<ForwardSpec>& specs) {
  std::vector<BoundForward> bound;
  for (const ForwardSpec& spec : specs) {
    BoundForward one{spec, {}};
    if (spec.kind != ForwardKind::remote) {
      auto sockets = listen_forward(spec.listen);
      if (!sockets) {
        const bool denied = sockets.error().code == std::errc::permission_denied;
        for (const BoundForward& made : bound) unlink_forward(made.sockets);
        return {{},
                Failure{denied ? exit_not_permitted : exit_broken,
                        fmt::format("{}: {}; choose another", escape_untrusted(spec.text),
                                    sockets.error().text)}};
      }
      one.sockets = std::move(*sockets);
    }
    bound.push_back(std::move(one));
  }
  return {std::move(bound), {}};
}

/// Domain 0, or another that has its privileges.
bool is_host(const ForwardOptions& options) {
  if (options.as_host || options.as_guest) return options.as_host;
  std::string capabilities;
  std::ifstream("/proc/xen/capabilities") >> capabilities;
  return capabilities.find("control_d") != std::string::npos;
}

struct ConfiguredForwards {
  std::string run_dir;  ///< the daemon's
  std::vector<ForwardSpec> specs;
};

/// What the files say; nothing when no daemon would start with those.
std::optional<ConfiguredForwards> read_configured(const ForwardOptions& options) {
  const auto path = options.config.empty() ? std::nullopt : std::optional(options.config);
  const ConfigLoad load = load_config(is_host(options) ? Side::host : Side::guest, path);
  std::vector<ForwardSpec> specs;
  for (const ForwardConfig& forward : load.config.forwards) {
    if (forward.spec) {
      specs.push_back(*forward.spec);
    } else {
      tell(fmt::format("{}:{}: {}; this one is left out", escape_untrusted(forward.where.file, 256),
                       forward.where.line, forward.error));
    }
  }
  if (!load.is_fatal()) return ConfiguredForwards{load.config.run_dir, std::move(specs)};
  for (const Diagnostic& diagnostic : load.diagnostics) {
    if (diagnostic.scope == Scope::daemon) tell(format_diagnostic(diagnostic));
  }
  return std::nullopt;
}

int run_configured(const Context& context, const ForwardOptions& options) {
  const auto configured = read_configured(options);
  if (!configured) return fail(exit_configuration, "the configuration has errors");
  // What is said on the command line counts more.
  const bool is_said = context.run_dir != default_run_dir();
  const std::string run_dir = is_said ? context.run_dir : configured->run_dir;
  auto control = register_forward(run_dir);
  if (!control) tell("not found by --list: " + control.error().text);
  ForwardRun run(run_dir, tell);
  run.on_reload([&options]() -> std::optional<std::vector<ForwardSpec>> {
    auto fresh = read_configured(options);
    if (!fresh) return std::nullopt;
    return std::move(fresh->specs);
  });
  run.set(configured->specs);
  run.run(control ? std::optional(std::move(*control)) : std::nullopt);
  return exit_ok;
}

void leave_terminal() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) ::dup2(null, fd);
  ::close(null);
}

int run_bound(const Context& context, const ForwardOptions& options,
              std::vector<BoundForward> bound, int ready) {
  auto control = register_forward(context.run_dir);
  if (!control && options.detach) {
    for (const BoundForward& one : bound) unlink_forward(one.sockets);
    return fail(exit_not_permitted,
                fmt::format("{}; nobody could stop it: set XDG_RUNTIME_DIR, or run as root",
                            control.error().text));
  }
  if (!control) tell("not found by --list: " + control.error().text);
  ForwardRun run(context.run_dir, tell);
  for (BoundForward& one : bound) run.add(std::move(one));
  if (options.detach) {
    if (::chdir("/") != 0) return exit_broken;
    leave_terminal();
    [[maybe_unused]] const ssize_t told = ::write(ready, "r", 1);
    ::close(ready);
  }
  run.run(control ? std::optional(std::move(*control)) : std::nullopt);
  return exit_ok;
}

/// Returns in the parent when the child listens, is registered and has left the terminal.
int run_detached(const Context& context, const ForwardOptions& options,
                 std::vector<BoundForward> bound) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    ::close(ends[0]);
    ::setsid();
    return run_bound(context, options, std::move(bound), ends[1]);
  }
  ::close(ends[1]);
  char byte = 0;
  ssize_t got = -1;
  do {
    got = ::read(ends[0], &byte, 1);
  } while (got < 0 && errno == EINTR);
  ::close(ends[0]);
  if (got == 1) {
    fmt::print("{}\n", child);
    return exit_ok;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : static_cast<int>(exit_broken);
}

int run_forward(const Context& context, const ForwardOptions& options) {
  if (options.list) return list_forwards(context, options.as_json);
  if (!options.stop.empty()) return stop_forwards(context, options.stop);
  raise_file_limit();
  if (options.configured) return run_configured(context, options);
  const auto specs = parse_specs(options);
  if (specs.failure) return fail(specs.failure->code, specs.failure->message);
  if (specs.value.empty()) {
    return fail(exit_usage, "nothing to forward: give -L, -R or -D; see 'xenlane forward --help'");
  }
  auto bound = bind_all(specs.value);
  if (bound.failure) return fail(bound.failure->code, bound.failure->message);
  if (options.detach) return run_detached(context, options, std::move(bound.value));
  return run_bound(context, options, std::move(bound.value), -1);
}

constexpr const char* forward_footer =
    "SPEC is [BIND:]PORT:GUEST:[HOST:]PORT; each end may be a socket's path instead. In a guest "
    "the\n"
    "far side is called host. What may be dialled or listened on there, its channel says (allow,\n"
    "allow_listen; docs/forward.md).\n"
    "Examples:\n"
    "  xenlane forward -L 5432:web:5432                 here 5432 is PostgreSQL's in guest web\n"
    "  xenlane forward -L /run/redis.sock:web:/run/redis/redis.sock -L 8080:db:10.0.0.7:80\n"
    "  xenlane forward -R 3128:web:3128                 web's 3128 is the proxy's here\n"
    "  xenlane forward -D 1080:web                      SOCKS: names are looked up in web\n"
    "  xenlane forward -L 2222:host:22 --detach         in a guest; prints an ID\n"
    "  xenlane forward --list\n"
    "  xenlane forward --stop all";

}  // namespace

void add_forward(CLI::App& app, Action& action) {
  auto options = std::make_shared<ForwardOptions>();
  CLI::App* verb = app.add_subcommand("forward", "Forward ports and sockets to the other side");
  verb->add_option("-L", options->local, "SPEC: listen here, connect there")->type_name("SPEC");
  verb->add_option("-R", options->remote, "SPEC: listen there, connect here")->type_name("SPEC");
  verb->add_option("-D", options->socks, "[BIND:]PORT:GUEST: a SOCKS server here for there")
      ->type_name("SPEC");
  verb->add_option("--wait", options->wait_s,
                   "Seconds that a connection waits while the far side is not there (default 30)")
      ->check(CLI::Range(std::uint32_t{0}, wait_seconds_max));
  verb->add_flag("--refuse", options->refuse, "Close connections at once instead");
  verb->add_option("--channel", options->channel, "The channel, if it is not the usual one");
  verb->add_flag("--detach", options->detach, "Return when it listens, and run on");
  CLI::Option* list = verb->add_flag("--list", options->list, "List the forwards that run");
  CLI::Option* stop = verb->add_option("--stop", options->stop, "Stop one by its ID, or 'all'");
  verb->add_flag("--json", options->as_json, "With --list: print JSON");
  CLI::Option* configured = verb->add_flag("--configured", options->configured,
                                           "Run those of the configuration; SIGHUP reads it again");
  verb->add_option(
      "--config", options->config,
      "The daemon's configuration file (default: /etc/xenlane/host.toml or guest.toml)");
  CLI::Option* host = verb->add_flag("--host", options->as_host, "This is a host");
  CLI::Option* guest = verb->add_flag("--guest", options->as_guest, "This is a guest");
  host->excludes(guest);
  list->excludes(stop)->excludes(configured);
  stop->excludes(configured);
  verb->footer(forward_footer);
  verb->callback([options, &action] {
    action = [options](const Context& context) { return run_forward(context, *options); };
  });
}

}  // namespace xenlane::bridge::cli

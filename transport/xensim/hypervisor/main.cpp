// The xensim program: verbs, environment, and the launching of the broker. docs/xensim.md.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/system/system_error.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "transport/xensim/hypervisor/broker.hpp"
#include "transport/xensim/hypervisor/console.hpp"
#include "transport/xensim/hypervisor/control.hpp"

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using xenlane::transport::UniqueFd;
using xensim::hv::Layout;

enum ExitCode : int {
  exit_refused = 1,
  exit_usage = 2,
  exit_no_broker = 3,
  exit_launch = 125,
  exit_not_executable = 126,
  exit_not_found = 127,
  exit_signal_base = 128,
};

/// How long CMD may take to end by itself after the launcher was told to stop.
constexpr time_t grace_s = 5;

/// An error of ours: what main prints and exits with.
struct Failure {
  int code;
  std::string text;
};

struct Options {
  std::string dir;
  std::vector<std::string> guests;
  std::vector<std::string> channels;
  std::string guest;
  std::string key;
  std::string value;
  std::uint32_t gntalloc_limit = xensim::hv::default_gntalloc_limit;
  bool as_json = false;
  std::vector<std::string> command;  ///< what follows the first --
};

Layout layout_of(const std::string& dir) {
  Layout layout{fs::absolute(dir).lexically_normal().string()};
  while (layout.dir.size() > 1 && layout.dir.back() == '/') layout.dir.pop_back();
  if (!layout.fits_socket_addresses()) {
    throw Failure{exit_usage, fmt::format("the folder {} has {} bytes, at most {} leave room for "
                                          "socket addresses: choose a shorter --dir",
                                          layout.dir, layout.dir.size(), layout.longest_dir())};
  }
  return layout;
}

Layout existing_layout(const Options& options) {
  if (!options.dir.empty()) return layout_of(options.dir);
  const char* dir = std::getenv("XENSIM_DIR");
  if (dir == nullptr || *dir == '\0') {
    throw Failure{exit_usage, "which xensim? Give --dir DIR or set XENSIM_DIR"};
  }
  return layout_of(dir);
}

json::object ask(const Layout& layout, const json::object& request) {
  try {
    return xensim::hv::ask_broker(layout.control(), request);
  } catch (const xensim::hv::Refused& refusal) {
    throw Failure{exit_refused, refusal.what()};
  } catch (const boost::system::system_error&) {
    throw Failure{exit_no_broker,
                  fmt::format("nothing answers in {}: start it with `xensim up --dir {}`",
                              layout.dir, layout.dir)};
  }
}

/// Beside the program's own folder when built or installed, else where it was to be installed.
std::string library_folder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path beside = program.parent_path().parent_path() / "lib" / "xensim";
  if (fs::exists(beside / "libxengnttab.so.1", error)) return beside.string();
  return XENSIM_INSTALLED_LIBRARIES;
}

void enter_domain(const Layout& layout, std::uint32_t domid, const std::string& nonce) {
  std::string libraries = library_folder();
  if (const char* others = std::getenv("LD_LIBRARY_PATH"); others != nullptr && *others != '\0') {
    libraries += std::string(":") + others;
  }
  ::setenv("LD_LIBRARY_PATH", libraries.c_str(), 1);
  for (const auto& [name, value] : xensim::hv::domain_environment(layout, domid, nonce)) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
}

/// Becomes `command`. Returns only if that fails, with the exit code to use.
int become(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  fmt::print(stderr, "xensim: cannot run {}: {}\n", command[0], std::strerror(error));
  return error == ENOENT ? exit_not_found : exit_not_executable;
}

/// In the freshly forked broker: nothing of the caller's terminal or pipes may be held open.
[[noreturn]] void be_broker(xensim::hv::BrokerOptions options) {
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR);
  std::error_code error;
  fs::create_directories(options.layout.dir, error);
  const int log = ::open(options.layout.log().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(null, 0);
  ::dup2(null, 1);
  ::dup2(log >= 0 ? log : null, 2);
  const int ready = ::fcntl(options.ready_fd, F_DUPFD_CLOEXEC, 100);
  const int lifetime =
      options.lifetime_fd < 0 ? -1 : ::fcntl(options.lifetime_fd, F_DUPFD_CLOEXEC, 101);
  ::syscall(SYS_close_range, 3U, 99U, 0U);
  const int last = lifetime > ready ? lifetime : ready;
  ::syscall(SYS_close_range, static_cast<unsigned>(last) + 1U, ~0U, 0U);
  options.ready_fd = ready;
  options.lifetime_fd = lifetime;
  [[maybe_unused]] const int moved = ::chdir("/");
  std::exit(xensim::hv::run_broker(options));
}

/// Starts the broker in the background and waits until it serves. With `lifetime` the broker goes
/// down when this process does. Returns its process id.
pid_t start_broker(xensim::hv::BrokerOptions options, UniqueFd* lifetime) {
  int ready[2] = {-1, -1};
  int life[2] = {-1, -1};
  if (::pipe2(ready, O_CLOEXEC) != 0 || (lifetime != nullptr && ::pipe2(life, O_CLOEXEC) != 0)) {
    throw Failure{exit_launch, fmt::format("no pipe: {}", std::strerror(errno))};
  }
  const pid_t pid = ::fork();
  if (pid < 0) throw Failure{exit_launch, fmt::format("no process: {}", std::strerror(errno))};
  if (pid == 0) {
    options.ready_fd = ready[1];
    options.lifetime_fd = life[0];
    if (life[1] >= 0) ::close(life[1]);
    be_broker(std::move(options));
  }
  ::close(ready[1]);
  if (life[0] >= 0) ::close(life[0]);
  if (lifetime != nullptr) lifetime->reset(life[1]);
  const UniqueFd from_broker(ready[0]);
  std::string line;
  char byte = 0;
  while (::read(from_broker.get(), &byte, 1) == 1 && byte != '\n') line += byte;
  if (line == "ok") return pid;
  ::waitpid(pid, nullptr, 0);
  throw Failure{exit_refused, line.empty() ? "the broker died: see the log in the folder" : line};
}

/// GUEST:NAME, of a guest that is among `guests`.
void add_channel(std::vector<xensim::hv::GuestSpec>& guests, const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const auto guest =
      std::find_if(guests.begin(), guests.end(), [&](const auto& g) { return g.name == name; });
  if (colon == std::string::npos || guest == guests.end()) {
    throw Failure{exit_usage, fmt::format("--channel {}: use GUEST:NAME with a GUEST that has "
                                          "--guest GUEST",
                                          text)};
  }
  guest->channels.push_back(text.substr(colon + 1));
  xensim::hv::check_channel_name(guest->channels.back());
}

/// All but the layout.
xensim::hv::BrokerOptions broker_options(const Options& options) {
  xensim::hv::BrokerOptions result;
  result.gntalloc_limit = options.gntalloc_limit;
  try {
    for (const std::string& guest : options.guests) {
      result.guests.push_back(xensim::hv::parse_guest(guest));
    }
    for (const std::string& channel : options.channels) add_channel(result.guests, channel);
  } catch (const std::invalid_argument& error) {
    throw Failure{exit_usage, error.what()};
  }
  return result;
}

/// Waits for `child`; told to stop by a signal it passes that on and gives the child a while.
/// Returns the exit code to use. SIGCHLD, SIGINT and SIGTERM must be blocked.
int wait_for(pid_t child, const sigset_t& signals) {
  int stopped_by = 0;
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      if (stopped_by != 0) return exit_signal_base + stopped_by;
      if (WIFSIGNALED(status)) return exit_signal_base + WTERMSIG(status);
      return WEXITSTATUS(status);
    }
    const timespec grace{grace_s, 0};
    const int signal_number = ::sigtimedwait(&signals, nullptr, stopped_by != 0 ? &grace : nullptr);
    if (signal_number == SIGINT || signal_number == SIGTERM) {
      stopped_by = signal_number;
      ::kill(child, signal_number);
    } else if (signal_number < 0 && errno == EAGAIN) {
      return exit_signal_base + stopped_by;
    }
  }
}

int run(const Options& options) {
  xensim::hv::BrokerOptions broker = broker_options(options);
  if (options.dir.empty()) {
    std::string pattern = (fs::temp_directory_path() / "xensim-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      throw Failure{exit_launch, fmt::format("no folder {}: {}", pattern, std::strerror(errno))};
    }
    broker.layout = layout_of(pattern);
    broker.remove_dir = true;
  } else {
    broker.layout = layout_of(options.dir);
  }
  const Layout layout = broker.layout;
  UniqueFd lifetime;
  sigset_t signals;
  sigset_t old_signals;
  ::sigemptyset(&signals);
  for (const int signal_number : {SIGINT, SIGTERM, SIGCHLD}) ::sigaddset(&signals, signal_number);
  const pid_t broker_pid = start_broker(std::move(broker), &lifetime);
  ::sigprocmask(SIG_BLOCK, &signals, &old_signals);
  const std::string nonce(ask(layout, {{"verb", "find"}, {"domain", "0"}}).at("nonce").as_string());
  const pid_t child = ::fork();
  if (child == 0) {
    ::sigprocmask(SIG_SETMASK, &old_signals, nullptr);
    enter_domain(layout, 0, nonce);
    ::_exit(become(options.command));
  }
  const int code = child < 0 ? exit_launch : wait_for(child, signals);
  // The broker also goes down by itself when this end of the pipe closes: that is for our own
  // death.
  ask(layout, {{"verb", "down"}});
  ::waitpid(broker_pid, nullptr, 0);
  return code;
}

int up(const Options& options) {
  if (options.dir.empty()) throw Failure{exit_usage, "up needs --dir DIR"};
  xensim::hv::BrokerOptions broker = broker_options(options);
  broker.layout = layout_of(options.dir);
  start_broker(std::move(broker), nullptr);
  return 0;
}

int exec(const Options& options) {
  const Layout layout = existing_layout(options);
  const json::object found = ask(layout, {{"verb", "find"}, {"domain", options.guest}});
  enter_domain(layout, json::value_to<std::uint32_t>(found.at("domid")),
               std::string(found.at("nonce").as_string()));
  return become(options.command);
}

int list(const Options& options) {
  const json::object reply = ask(existing_layout(options), {{"verb", "list"}});
  if (options.as_json) {
    fmt::print("{}\n", json::serialize(reply.at("domains")));
    return 0;
  }
  fmt::print("{:<24}{:>6}  {:<8}{:>12}{:>8}{:>7}{:>7}{:>9}{:>10}\n", "Name", "ID", "State",
             "Grants", "Mapped", "Ports", "Nodes", "Watches", "Channels");
  for (const json::value& domain : reply.at("domains").as_array()) {
    const auto number = [&](const char* key) {
      return json::value_to<std::uint64_t>(domain.at(key));
    };
    fmt::print("{:<24}{:>6}  {:<8}{:>12}{:>8}{:>7}{:>7}{:>9}{:>10}\n",
               domain.at("name").as_string().c_str(), number("domid"),
               domain.at("state").as_string().c_str(),
               fmt::format("{}/{}", number("grants"), number("grants_limit")), number("mapped"),
               number("ports"), number("nodes"), number("watches"),
               domain.at("channels").as_array().size());
  }
  return 0;
}

int create(const Options& options) {
  const json::object reply =
      ask(existing_layout(options), {{"verb", "create"},
                                     {"guest", options.guest},
                                     {"channels", json::value_from(options.channels)}});
  fmt::print("{}\n", json::value_to<std::uint64_t>(reply.at("domid")));
  return 0;
}

int destroy(const Options& options) {
  ask(existing_layout(options), {{"verb", "destroy"}, {"domain", options.guest}});
  return 0;
}

int set(const Options& options) {
  ask(existing_layout(options),
      {{"verb", "set"}, {"domain", options.guest}, {"key", options.key}, {"value", options.value}});
  return 0;
}

int down(const Options& options) {
  ask(existing_layout(options), {{"verb", "down"}});
  return 0;
}

struct Verb {
  const char* name;
  const char* help;
  const char* examples;
  bool takes_command;
  int (*act)(const Options&);
};

constexpr Verb verbs[] = {
    {"run", "bring everything up, run CMD in domain 0, tear everything down",
     "Examples:\n  xensim run --guest web -- xenstore-ls\n"
     "  xensim run --guest a --guest b:7 --gntalloc-limit 64 -- ./my-test.sh\n"
     "  xensim run --guest web --channel web:org.example.agent -- ./my-test.sh",
     true, run},
    {"up", "start in the background; returns when ready",
     "Example:\n  xensim up --dir /tmp/x --guest web --guest db", false, up},
    {"down", "end all processes of all domains, then the broker",
     "Example:\n  xensim down --dir /tmp/x", false, down},
    {"exec", "become CMD in a domain",
     "Examples:\n  xensim exec web --dir /tmp/x -- xenstore-read domid\n"
     "  XENSIM_DIR=/tmp/x xensim exec 0 -- bash",
     true, exec},
    {"list", "show the domains and what they hold",
     "Examples:\n  xensim list --dir /tmp/x\n  xensim list --dir /tmp/x --json", false, list},
    {"create", "add a domain; prints its domid",
     "Examples:\n  xensim create web\n  xensim create web:12 --channel org.example.agent", false,
     create},
    {"destroy", "end a domain at once, as xl destroy does",
     "Examples:\n  xensim destroy web\n  xensim destroy 12", false, destroy},
    {"set", "change a limit of a domain, or make its channels worse",
     "Examples:\n  xensim set web gntalloc-limit 64\n  xensim set web console-loss 300\n"
     "  xensim set web console off",
     false, set},
};

void add_options(CLI::App& command, const std::string& verb, Options& options) {
  command.add_option("--dir", options.dir,
                     verb == "run" ? "state folder (default: a temporary one)"
                                   : "state folder (default: $XENSIM_DIR)");
  if (verb == "run" || verb == "up") {
    command.add_option("--guest", options.guests, "NAME or NAME:DOMID; may be repeated")
        ->allow_extra_args(false);
    command.add_option("--channel", options.channels, "GUEST:NAME, a PV channel; may be repeated")
        ->allow_extra_args(false);
    command
        .add_option("--gntalloc-limit", options.gntalloc_limit, "pages that each domain may grant")
        ->capture_default_str();
  }
  if (verb == "exec" || verb == "destroy" || verb == "set") {
    command.add_option("DOMAIN", options.guest, "name or domid")->required();
  }
  if (verb == "create") {
    command.add_option("NAME", options.guest, "NAME or NAME:DOMID")->required();
    command.add_option("--channel", options.channels, "NAME of a PV channel; may be repeated")
        ->allow_extra_args(false);
  }
  if (verb == "list") command.add_flag("--json", options.as_json, "for programs");
  if (verb == "set") {
    command
        .add_option("KEY", options.key,
                    "gntalloc-limit, event-channels, console, console-loss, console-echo, "
                    "console-noise or console-limit")
        ->required();
    command.add_option("VALUE", options.value, "pages, cut, on or off, permille, bytes")
        ->required();
  }
}

int perform(const Verb& verb, const Options& options) {
  try {
    if (verb.takes_command && options.command.empty()) {
      throw Failure{exit_usage, fmt::format("{} what? Put -- CMD at the end", verb.name)};
    }
    return verb.act(options);
  } catch (const Failure& failure) {
    fmt::print(stderr, "xensim: {}\n", failure.text);
    // Codes below 125 are CMD's own there.
    return verb.takes_command ? exit_launch : failure.code;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  int own_arguments = 0;
  while (own_arguments < argc && std::strcmp(argv[own_arguments], "--") != 0) ++own_arguments;
  for (int i = own_arguments + 1; i < argc; ++i) options.command.emplace_back(argv[i]);

  CLI::App app(
      "A simulated Xen for one machine: domains, grants, event channels, xenstore, channels.\n"
      "Programs that use libxenvchan or libxenstore run in it unmodified.");
  app.require_subcommand(1);
  for (const Verb& verb : verbs) {
    CLI::App* command = app.add_subcommand(verb.name, verb.help);
    command->footer(verb.examples);
    add_options(*command, verb.name, options);
  }
  try {
    app.parse(own_arguments, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : exit_usage;
  }
  for (const Verb& verb : verbs) {
    if (app.got_subcommand(verb.name)) return perform(verb, options);
  }
  return exit_usage;
}

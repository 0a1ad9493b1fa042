// xenlane, the tool for host and guest: arguments, global options, and the choice of a verb.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string_view>
#include <system_error>

#include "bridge/channel/text.hpp"
#include "bridge/cli/verbs.hpp"
#include "bridge/daemon/config.hpp"

namespace {

constexpr const char* description =
    "Named sockets between a Xen host and its guests: look at them and use them.";

constexpr const char* footer =
    "Examples:\n"
    "  xenlane ls                                   every channel here\n"
    "  xenlane status web                           one guest's session, on the host\n"
    "  echo hello | xenlane connect org.example.echo       in a guest\n"
    "  xenlane connect web/org.example.shell               on the host\n"
    "  xenlane cp disk.img web:images/              files to a guest, or from it\n"
    "  xenlane doctor                               what is wrong here, and the remedy\n"
    "\n"
    "Exit codes: 0 ok, 1 connection broke, 2 usage, 3 configuration, 4 unknown channel or guest,\n"
    "5 refused by the other side, 6 no daemon, 7 permission denied, 8 no Xen, 9 too few grants.";

/// CLI11 writes several lines for a mistake; we promise one.
int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  return xenlane::bridge::cli::fail(
      xenlane::bridge::exit_usage,
      xenlane::bridge::escape_untrusted(error.what(), 300) + "; see 'xenlane --help'");
}

/// With a standard descriptor closed, the next socket would take its number and be read as stdin.
/// Opened for reading only, a missing stdin is at its end and a missing stdout fails to be written.
void fill_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDONLY);
  }
}

int run(int argc, char** argv) {
  namespace cli = xenlane::bridge::cli;
  // A reader of ours that goes away is an error code of write(), not a death.
  std::signal(SIGPIPE, SIG_IGN);
  fill_standard_descriptors();
  CLI::App app(description, "xenlane");
  cli::Context context;
  context.run_dir = xenlane::bridge::default_run_dir();
  cli::Action action;
  app.add_option("--run-dir", context.run_dir,
                 "The daemon's run folder (default: $XENLANE_RUN_DIR, else /run/xenlane)");
  app.set_version_flag("--version", "xenlane " XENLANE_VERSION);
  app.footer(footer);
  app.require_subcommand(1);
  app.fallthrough();
  cli::add_ls(app, action);
  cli::add_status(app, action);
  cli::add_top(app, action);
  cli::add_connect(app, action);
  cli::add_cp(app, action);
  cli::add_serve_files(app, action);
  cli::add_forward(app, action);
  cli::add_lane(app, action);
  cli::add_bench(app, action);
  cli::add_channel(app, action);
  cli::add_reload(app, action);
  cli::add_watch(app, action);
  cli::add_policy(app, action);
  cli::add_doctor(app, action);
  cli::add_channel_list(app, action);
  cli::add_names(app, action);
  cli::add_import(app, action);
  cli::add_export(app, action);
  // What comes behind "--" is somebody else's to parse; but only `lane` has commands.
  const std::span<char*> words(argv, static_cast<std::size_t>(argc));
  auto separator = std::ranges::find(words, std::string_view("--"));
  if (std::find(words.begin(), separator, std::string_view("lane")) == separator) {
    separator = words.end();
  }
  if (separator != words.end()) context.command.assign(separator + 1, words.end());
  try {
    app.parse(static_cast<int>(separator - words.begin()), argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  }
  if (separator != words.end() && (context.command.empty() || !app.got_subcommand("lane"))) {
    return cli::fail(xenlane::bridge::exit_usage,
                     context.command.empty() ? "there is no command behind '--'"
                                             : "a command behind '--' is for 'xenlane lane'");
  }
  if (!action) return cli::fail(xenlane::bridge::exit_usage, "no verb; see 'xenlane --help'");
  const int code = action(context);
  if (std::fflush(stdout) != 0) throw std::system_error(errno, std::generic_category(), "stdout");
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::system_error& error) {
    return xenlane::bridge::cli::fail(xenlane::bridge::exit_broken,
                                      xenlane::bridge::escape_untrusted(error.what()));
  } catch (const std::exception& error) {
    return xenlane::bridge::cli::fail(
        xenlane::bridge::exit_broken,
        xenlane::bridge::escape_untrusted(error.what()) + "; this is a defect of xenlane");
  }
}

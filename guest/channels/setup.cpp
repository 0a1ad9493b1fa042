// xen-console-setup: gives each PV channel of this guest its link /dev/xen-channel/NAME, as
// xen-pv-channel(7) has it. udev runs it whenever a console of Xen's comes or goes.
//
// It always puts everything right, whatever it was started for, so that neither a lost event nor
// two at once matter, and running it once more by hand changes nothing.
#include <syslog.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bridge/channel/text.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "guest/channels/folders.hpp"
#include "transport/xenstore/client.hpp"

namespace {

namespace asio = boost::asio;
using namespace xenlane;         // NOLINT(google-build-using-namespace)
using namespace xenlane::guest;  // NOLINT(google-build-using-namespace)

constexpr const char* description =
    "Makes /dev/xen-channel/NAME for each PV channel of this guest, and removes what is gone.";

constexpr const char* footer =
    "Examples:\n"
    "  xen-console-setup                     all links, made right\n"
    "  xen-console-setup --udev console-2    and what udev is to know of that console\n"
    "Exit codes: 0 ok, 1 failed, 2 usage, 7 permission denied, 8 no Xen.";

/// For each answer of xenstored; there are at most nine questions.
constexpr std::chrono::milliseconds xenstore_wait_max{3000};

struct Failure {
  int exit_code;
  std::string what;
};

/// To the log as well: udev drops what its programs say on stderr.
void say(int priority, const std::string& line) {
  ::syslog(priority, "%s", line.c_str());
}

/// The names that the host wrote, and the domain; a console without a name stays nameless.
asio::awaitable<void> read_names(transport::XenStore& store, std::vector<Console>& consoles,
                                 std::optional<transport::Domid>& domid) {
  if (const auto error = co_await store.wait_connected(xenstore_wait_max)) {
    throw Failure{
        error == std::errc::permission_denied ? bridge::exit_not_permitted : bridge::exit_no_xen,
        transport::default_xenstore_path() + ": " + error.message() +
            "; run this as root in a guest of Xen's"};
  }
  if (const auto own = co_await store.read("domid")) domid = transport::parse_domid(*own);
  for (Console& console : consoles) {
    // Relative to the guest's own folder.
    const std::string node = "device/console/" + std::to_string(console.number) + "/name";
    auto name = co_await store.read(node);
    if (name) {
      console.untrusted_name = std::move(*name);
    } else if (name.error().value() != ENOENT) {
      throw Failure{bridge::exit_broken, "xenstore: " + node + ": " + name.error().message()};
    }
  }
}

void ask_xenstore(std::vector<Console>& consoles, std::optional<transport::Domid>& domid) {
  if (consoles.empty()) return;
  asio::io_context context(1);
  transport::XenStore store(context.get_executor(), transport::default_xenstore_path(),
                            xenstore_wait_max);
  std::exception_ptr failure;
  asio::co_spawn(context, read_names(store, consoles, domid), [&](std::exception_ptr exception) {
    failure = std::move(exception);
    context.stop();
  });
  context.run();
  if (failure) std::rethrow_exception(failure);
}

struct Outcome {
  Placement placement;
  /// For the log, which may be slow: others wait for the lock.
  std::vector<std::string> lines;
};

Outcome put_right(const Folders& folders) {
  const auto lock = lock_state(folders);
  Outcome outcome;
  const Tell tell = [&](const std::string& line) { outcome.lines.push_back(line); };
  auto consoles = find_consoles(folders);
  Memory now;
  ask_xenstore(consoles, now.domid);
  const Memory before = load_memory(folders, tell);
  const bool resumed = before.domid && now.domid && *before.domid != *now.domid;
  NextPlacement next =
      place(std::move(consoles), resumed ? after_resume(before.consoles) : before.consoles);
  for (const std::string& complaint : next.complaints) tell(complaint);
  update_links(folders, before.consoles, next.consoles, tell);
  now.consoles = next.consoles;
  save_memory(folders, now);
  outcome.placement = std::move(next.consoles);
  return outcome;
}

/// For IMPORT{program}: properties of the console, if it has its channel's link.
void print_properties(const Folders& folders, const Placement& placement, int number) {
  for (const Placed& placed : placement) {
    if (placed.number != number || !placed.channel) continue;
    std::printf("XEN_CHANNEL_NAME=%s\nXEN_CHANNEL_TTY=%s\n", placed.channel->text().c_str(),
                folders.tty(placed.tty).c_str());
  }
}

int fail(int exit_code, const std::string& what) {
  say(LOG_ERR, what);
  return exit_code;
}

int run(int argc, char** argv) {
  Folders folders;
  if (const char* dev = std::getenv("XENLANE_DEV_DIR"); dev != nullptr) folders.dev = dev;
  CLI::App app(description, "xen-console-setup");
  std::string device;
  app.add_option("--udev", device, "Print the properties of this device, as in console-2");
  app.add_option("--dev", folders.dev, "Folder of hvc devices (default: $XENLANE_DEV_DIR or /dev)");
  app.add_option("--sys", folders.sys, "Where sysfs is (default: /sys)");
  app.add_option("--state", folders.state, "What is kept (default: /run/xen-channel)");
  app.set_version_flag("--version", "xen-console-setup " XENLANE_VERSION);
  app.footer(footer);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    return fail(bridge::exit_usage,
                bridge::escape_untrusted(error.what(), 300) + "; see 'xen-console-setup --help'");
  }
  const auto number = parse_console_device(device);
  if (!device.empty() && !number) {
    return fail(bridge::exit_usage,
                bridge::escape_untrusted(device) + ": is not one of console-1 to console-9");
  }
  const Outcome outcome = put_right(folders);
  for (const std::string& line : outcome.lines) say(LOG_NOTICE, line);
  if (number) print_properties(folders, outcome.placement, *number);
  return bridge::exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
  ::openlog("xen-console-setup", LOG_PERROR, LOG_DAEMON);
  try {
    return run(argc, argv);
  } catch (const Failure& failure) {
    return fail(failure.exit_code, failure.what);
  } catch (const std::system_error& error) {
    return fail(error.code() == std::errc::permission_denied ? bridge::exit_not_permitted
                                                             : bridge::exit_broken,
                error.what());
  } catch (const std::exception& error) {
    return fail(bridge::exit_broken, error.what());
  }
}

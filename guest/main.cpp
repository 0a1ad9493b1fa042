// xenlane-guest: the guest's one bridge. The whole object graph is here.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>

#include "bridge/bench/service.hpp"
#include "bridge/channel/connect_door.hpp"
#include "bridge/channel/listener.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/server.hpp"
#include "bridge/daemon/listeners.hpp"
#include "bridge/daemon/live_channels.hpp"
#include "bridge/daemon/program.hpp"
#include "bridge/daemon/reload.hpp"
#include "bridge/events/event_server.hpp"
#include "guest/guest_link.hpp"
#include "transport/base/blocking.hpp"
#include "transport/base/spawn.hpp"

namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace xenlane;          // NOLINT(google-build-using-namespace)
using namespace xenlane::bridge;  // NOLINT(google-build-using-namespace)

constexpr const char* examples =
    "Examples:\n"
    "  xenlane-guest                          serve the channels of /etc/xenlane/guest.toml\n"
    "  xenlane-guest --check                  report every error of the configuration\n"
    "  xenlane-guest --config ./guest.toml    serve another configuration\n"
    "Exit codes: 0 stopped, 1 failed, 2 usage, 3 configuration, 7 permission, 8 no Xen,\n"
    "9 too few grants. See also xenlane(1).";

/// For xenstored's answers, when the daemon ends.
constexpr std::chrono::milliseconds closing_max{1000};

// Whether a lane can be had at all is known before anything is promised to anyone; a console may
// stand in for the vchan.
std::optional<StartFailure> vchan_trouble(const BridgeConfig& config) {
  const auto probe = transport::probe_vchan(0, config.vchan.ring_bytes_min);
  if (probe) return std::nullopt;
  return StartFailure{exit_code_of(probe.error().kind), probe.error().text};
}

ChannelOperations operations_of(LiveChannels& channels) {
  return {[&](const BridgeConfig& fresh) {
            const ChannelChanges changes = channels.apply(channels_for(fresh, ""));
            return Applied{describe(changes), !changes.failed.empty()};
          },
          [&](std::string_view, ChannelConfig channel) { return channels.add(std::move(channel)); },
          [&](std::string_view, const ChannelName& name) { return channels.remove(name); },
          [](std::string_view guest) { return guest.empty(); }};
}

int run(const BridgeConfig& config, const std::optional<std::string>& config_path) {
  const std::string store_path = transport::default_xenstore_path();
  require_xenstore(store_path);
  const auto trouble = vchan_trouble(config);
  if (trouble && config.console.device == "none") throw *trouble;
  raise_file_limit();
  const auto lock = lock_run_dir(config.run_dir);

  asio::io_context context(1);
  const auto executor = context.get_executor();
  transport::XenStore store(executor, store_path,
                            std::chrono::milliseconds(config.timeouts.xenstore_ms));
  Peer peer(executor, Role::guest, "host", config);
  ListenerFiles files(config.run_dir);
  ServedChannels server(peer.channels());
  LiveChannels channels(files, server);
  EventServer events(executor, listen_for_events(files, config), "guest",
                     [&] { return peer.events_now(); });
  peer.set_events(&events);
  channels.apply(channels_for(config, ""));
  ConnectDoor door(executor, files.listen(connect_socket_name, config.connect.mode),
                   peer.channels(), config.connect.numbers);
  guest::GuestLink link(executor, store, peer, config);
  if (trouble) link.set_vchan_trouble(*trouble);
  const auto started = std::chrono::steady_clock::now();
  Reloader reloader(Side::guest, config_path, operations_of(channels));
  ControlServer control(executor, files.listen("control", 0600),
                        [&](const json::object& request) -> ControlReply {
                          if (auto reply = reloader.answer(request)) return std::move(*reply);
                          return answer_bridge_request(request, "guest", link.guest_name(),
                                                       link.domid(), started, peer);
                        });
  asio::signal_set signals(executor, SIGTERM, SIGINT);
  signals.async_wait([&](const auto&, int) { context.stop(); });
  asio::co_spawn(executor, link.run(), transport::or_throw);
  asio::co_spawn(executor, reload_on_signal(reloader), transport::or_throw);
  spdlog::info("xenlane-guest {} serves {} channels in {}", XENLANE_VERSION,
               peer.channels().channels().size(), config.run_dir);
  context.run();
  peer.end_session(ECONNRESET, "shutting down");
  peer.channels().programs().end_all();
  // A lane that was being closed takes its nodes in xenstore with it.
  transport::await_blocking_calls(closing_max);
  return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);  // until there is something to reload
  if (argc == 3 && std::string_view(argv[1]) == bench_service_option) {
    return serve_bench(STDIN_FILENO, argv[2]);
  }
  CLI::App app{"Serves this guest's named sockets and carries them to the host.", "xenlane-guest"};
  std::optional<std::string> config_path;
  std::optional<std::string> run_dir;
  bool check = false;
  app.add_option("--config", config_path, "configuration file (default /etc/xenlane/guest.toml)");
  app.add_option("--run-dir", run_dir,
                 "folder of the sockets (default $XENLANE_RUN_DIR, else "
                 "/run/xenlane)");
  app.add_flag("--check", check, "report every error of the configuration and exit");
  app.set_version_flag("--version", XENLANE_VERSION);
  app.footer(examples);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? exit_ok : exit_usage;
  }
  try {
    if (check) return print_check(load_config(Side::guest, config_path), stdout);
    const BridgeConfig config = load_or_fail(Side::guest, config_path, run_dir);
    start_logging(config.log_level);
    return run(config, config_path);
  } catch (const StartFailure& failure) {
    fmt::print(stderr, "xenlane-guest: {}\n", failure.what);
    return failure.exit_code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "xenlane-guest: {}\n", error.what());
    return exit_broken;
  }
}

// xenlane-host: the broker, and with --worker (which only the broker uses) one guest's worker. The
// whole object graph is here and in worker.cpp.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "bridge/bench/service.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/server.hpp"
#include "bridge/daemon/program.hpp"
#include "bridge/daemon/reload.hpp"
#include "bridge/events/event_server.hpp"
#include "host/broker.hpp"
#include "host/worker.hpp"
#include "transport/base/spawn.hpp"

namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using namespace xenlane;          // NOLINT(google-build-using-namespace)
using namespace xenlane::bridge;  // NOLINT(google-build-using-namespace)

constexpr const char* examples =
    "Examples:\n"
    "  xenlane-host                          serve the channels of /etc/xenlane/host.toml\n"
    "  xenlane-host --check                  report every error of the configuration\n"
    "  xenlane-host --config ./host.toml     serve another configuration\n"
    "Exit codes: 0 stopped, 1 failed, 2 usage, 3 configuration, 7 permission, 8 no Xen.\n"
    "See also xenlane(1).";

struct Options {
  std::optional<std::string> config_path;
  std::optional<std::string> run_dir;
  bool check = false;
  std::string worker;
  transport::Domid domid = 0;
  std::string uuid;
  int orders = -1;
  std::vector<std::string> listeners;
};

asio::awaitable<void> stop_on_signal(asio::io_context& context, host::Broker& broker) {
  asio::signal_set signals(context.get_executor(), SIGTERM, SIGINT);
  co_await signals.async_wait(asio::use_awaitable);
  co_await broker.shut_down();
  context.stop();
}

ChannelOperations operations_of(host::Broker& broker) {
  return {[&](BridgeConfig fresh) { return broker.reload(std::move(fresh)); },
          [&](std::string_view guest, ChannelConfig channel) {
            return broker.add_channel(guest, std::move(channel));
          },
          [&](std::string_view guest, const ChannelName& name) {
            return broker.remove_channel(guest, name);
          },
          [&](std::string_view guest) { return broker.serves(guest); }};
}

json::object status_of(const host::Broker& broker, std::chrono::steady_clock::time_point started) {
  const auto uptime = std::chrono::steady_clock::now() - started;
  return {{"role", "broker"},
          {"pid", ::getpid()},
          {"version", XENLANE_VERSION},
          {"uptime_s", std::chrono::duration_cast<std::chrono::seconds>(uptime).count()},
          {"guests", broker.status()}};
}

int run_broker(BridgeConfig& config, const Options& options) {
  const std::string store_path = transport::default_xenstore_path();
  require_xenstore(store_path);
  if (const auto probe = transport::probe_vchan_client(); !probe) {
    throw StartFailure{exit_code_of(probe.error().kind), probe.error().text};
  }
  raise_file_limit();
  const auto lock = lock_run_dir(config.run_dir);

  asio::io_context context(1);
  const auto executor = context.get_executor();
  transport::XenStore store(executor, store_path,
                            std::chrono::milliseconds(config.timeouts.xenstore_ms));
  host::WorkerCommand worker{"/proc/self/exe", {"--run-dir", config.run_dir}, config.settings};
  host::Broker broker(executor, store, config, std::move(worker));
  ListenerFiles files(config.run_dir);
  const auto started = std::chrono::steady_clock::now();
  EventServer events(executor, listen_for_events(files, config), "broker",
                     [&] { return broker.events_now(); });
  broker.set_events(&events);
  Reloader reloader(Side::host, options.config_path, operations_of(broker));
  ControlServer control(
      executor, files.listen("control", 0600), [&](const json::object& request) -> json::object {
        if (json_text(request, "op") == "status") return status_of(broker, started);
        if (auto reply = reloader.answer(request)) return std::move(*reply);
        return control_error("unknown-op",
                             "this daemon answers \"status\", \"reload\", \"channel-add\" and "
                             "\"channel-remove\"");
      });
  asio::co_spawn(executor, reload_on_signal(reloader), transport::or_throw);
  asio::co_spawn(executor, stop_on_signal(context, broker), transport::or_throw);
  asio::co_spawn(executor, broker.run(), transport::or_throw);
  spdlog::info("xenlane-host {} serves in {}", XENLANE_VERSION, config.run_dir);
  context.run();
  return exit_ok;
}

int run(const Options& options) {
  if (options.check) return print_check(load_config(Side::host, options.config_path), stdout);
  BridgeConfig config = load_or_fail(Side::host, options.config_path, options.run_dir);
  start_logging(config.log_level);
  if (options.worker.empty()) return run_broker(config, options);
  host::WorkerOptions worker{options.worker, options.domid, options.uuid, options.orders, {}};
  for (const auto& text : options.listeners) {
    worker.listeners.push_back(host::parse_listener(text));
  }
  return run_worker(config, worker);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);  // until there is something to reload
  if (argc == 3 && std::string_view(argv[1]) == bench_service_option) {
    return serve_bench(STDIN_FILENO, argv[2]);
  }
  CLI::App app{"Serves the guests' named sockets on the host.", "xenlane-host"};
  Options options;
  app.add_option("--config", options.config_path,
                 "configuration file (default /etc/xenlane/host.toml)");
  app.add_option("--run-dir", options.run_dir,
                 "folder of the sockets (default $XENLANE_RUN_DIR, else /run/xenlane)");
  app.add_flag("--check", options.check, "report every error of the configuration and exit");
  app.set_version_flag("--version", XENLANE_VERSION);
  // An empty group keeps these out of --help: only the broker starts workers.
  app.add_option("--worker", options.worker)->group("");
  app.add_option("--domid", options.domid)->group("");
  app.add_option("--uuid", options.uuid)->group("");
  app.add_option("--orders", options.orders)->group("");
  app.add_option("--listener", options.listeners)->group("");
  app.footer(examples);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? exit_ok : exit_usage;
  }
  try {
    return run(options);
  } catch (const StartFailure& failure) {
    fmt::print(stderr, "xenlane-host: {}\n", failure.what);
    return failure.exit_code;
  } catch (const std::exception& error) {
    fmt::print(stderr, "xenlane-host: {}\n", error.what());
    return exit_broken;
  }
}

#include "host/worker.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <optional>

#include "bridge/channel/connect_door.hpp"
#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/server.hpp"
#include "bridge/daemon/console_keeper.hpp"
#include "bridge/daemon/listeners.hpp"
#include "bridge/daemon/program.hpp"
#include "bridge/events/event_server.hpp"
#include "host/orders.hpp"
#include "host/worker_link.hpp"
#include "transport/base/spawn.hpp"
#include "transport/console/console_opener.hpp"

namespace xenlane::host {

namespace asio = boost::asio;
using namespace bridge;  // NOLINT(google-build-using-namespace)

InheritedListener parse_listener(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  int fd = -1;
  if (equals != std::string::npos) {
    std::from_chars(text.data() + equals + 1, text.data() + text.size(), fd);
  }
  if (fd < 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw StartFailure{exit_usage, fmt::format("--listener {}: no such descriptor", text)};
  }
  return {text.substr(0, equals), fd};
}

int run_worker(const BridgeConfig& config, const WorkerOptions& options) {
  // Without its broker a worker has no business; the check after the call closes the race.
  const pid_t broker = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != broker || broker == 1) return exit_broken;
  // Started by way of /proc/self/exe, it would be "exe" in ps and top.
  ::prctl(PR_SET_NAME, "xenlane-worker");
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

  asio::io_context context(1);
  const auto executor = context.get_executor();
  transport::XenStore store(executor, transport::default_xenstore_path(),
                            std::chrono::milliseconds(config.timeouts.xenstore_ms));
  Peer peer(executor, Role::host, options.guest, config);
  peer.channels().set_peer_identity({options.domid, options.uuid});
  ServedChannels channels(peer.channels());
  OrderReceiver orders(transport::UniqueFd(options.orders), channels);
  orders.take_first();
  transport::UniqueFd control_socket;
  transport::UniqueFd events_socket;
  std::optional<ConnectDoor> door;
  for (const auto& inherited : options.listeners) {
    if (inherited.name == "control") control_socket.reset(inherited.fd);
    if (inherited.name == "events") events_socket.reset(inherited.fd);
    if (inherited.name == connect_socket_name) {
      door.emplace(executor, transport::UniqueFd(inherited.fd), peer.channels(),
                   config.connect.numbers);
    }
  }
  EventServer events(executor, std::move(events_socket), "worker",
                     [&] { return peer.events_now(); });
  peer.set_events(&events);
  WorkerLink link(executor, store, peer, config, options.domid, options.guest);
  ConsoleKeeper console(executor, peer, transport::ConsoleEnd::host, config, true,
                        console_socket_of(config, options.guest),
                        transport::connect_console_socket);
  const auto started = std::chrono::steady_clock::now();
  ControlServer control(executor, std::move(control_socket),
                        [&](const boost::json::object& request) {
                          return answer_bridge_request(request, "worker", options.guest,
                                                       options.domid, started, peer);
                        });
  asio::signal_set signals(executor, SIGTERM, SIGINT);
  signals.async_wait([&](const auto&, int) { context.stop(); });
  if (!console_socket_of(config, options.guest).empty()) {
    asio::co_spawn(executor, console.run(), transport::or_throw);
  }
  asio::co_spawn(executor, orders.run(), transport::or_throw);
  asio::co_spawn(executor, link.run(), [&](const std::exception_ptr& exception) {
    transport::or_throw(exception);
    context.stop();
  });
  context.run();
  peer.end_session(ECONNRESET, "shutting down");
  peer.channels().programs().end_all();
  return exit_ok;
}

}  // namespace xenlane::host

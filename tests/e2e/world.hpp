// A simulated Xen host with guests, xenlane running in all of them, and services at both ends: what
// every story here begins with. At its end everything is stopped in good order and must have left
// nothing behind: no grant, mapping, event channel port, node, socket file or process.
//
// Each guest has these channels, and the services behind them are the test's own:
//   org.host.NAME    guest's socket, dialled to the host's service NAME (one for all guests)
//   org.guest.NAME   host's socket, dialled to the guest's own service NAME
//   org.port.one     a socket on both sides
// NAME is echo, digest or source.
#pragma once

#include <boost/json.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/process.hpp"
#include "tests/e2e/sockets.hpp"

namespace xenlane::tests {

/// A [[channel]] section; `more` holds further lines.
std::string channel(const std::string& name, const std::string& end, const std::string& target = "",
                    const std::string& more = "");

/// Upper bounds of what a user may have to wait, as documented.
inline constexpr Seconds end_within{2 * slowness};
inline constexpr Seconds recovery_within{5 * slowness};

class World {
 public:
  /// Brings up the simulated Xen with these guests (NAME or NAME:DOMID) and the services; no daemon
  /// yet.
  explicit World(const std::vector<std::string>& guests) : World(guests, "none") {}
  /// The same with a console channel for each guest, and `lanes` in both configurations.
  World(const std::vector<std::string>& guests, std::string lanes);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  /// Starts the host's daemon and every guest's; returns when all sessions are up.
  void start();
  void start_host();
  void start_guest(const std::string& guest);
  /// SIGTERM; the daemon must end with 0 and its sockets be gone.
  void stop_host();
  void stop_guest(const std::string& guest);
  Process& host() { return host_; }
  Process& guest(const std::string& name) { return guests_.at(name).bridge; }
  bool wait_session(const std::string& guest, Seconds within = long_enough);

  /// The usual configurations, and where the daemons read them.
  std::string host_config() const;
  std::string guest_config(const std::string& guest) const;
  /// The section of both that sets time limits: whoever is killed is not waited for long.
  std::string timeouts = "[timeouts]\nresume_ms = 1000\n";
  /// More sections of both; "none" is for guests without a console channel.
  std::string lanes;
  /// NAME=VALUE for the guests' daemons.
  std::vector<std::string> guest_environment;
  std::string host_config_path() const { return dir_ + "/host.toml"; }
  std::string guest_config_path(const std::string& guest) const {
    return dir_ + "/" + guest + ".toml";
  }

  const std::string& dir() const { return dir_; }
  /// Where a service of the host ("host") or of a guest listens.
  std::string service_path(const std::string& owner, const std::string& name) const;
  /// Starts or ends one of the usual services.
  void serve(const std::string& owner, const std::string& name);
  void stop_serving(const std::string& owner, const std::string& name);
  Service& service(const std::string& owner, const std::string& name);

  std::uint32_t domid(const std::string& guest);
  std::string run_dir(const std::string& domain);
  /// A channel's socket on the host, or in the guest itself.
  std::string host_socket(const std::string& guest, const std::string& channel);
  std::string guest_socket(const std::string& guest, const std::string& channel);

  Outcome xensim(std::vector<std::string> arguments);
  /// Runs a program in a domain ("0" is the host).
  Outcome run_in(const std::string& domain, std::vector<std::string> command,
                 const std::string& in = "", Seconds within = long_enough);
  /// Runs the xenlane tool there.
  Outcome tool(const std::string& domain, std::vector<std::string> arguments,
               const std::string& in = "");
  /// The parsed output of `xenlane ARGUMENTS`; null if that failed.
  boost::json::value tool_json(const std::string& domain, std::vector<std::string> arguments);
  /// The status of a guest's bridge ("web") or of the worker for it ("0", "web").
  boost::json::object bridge_status(const std::string& domain, const std::string& guest = "");
  pid_t worker_pid(const std::string& guest);
  /// `xensim list` by name of the domain.
  std::map<std::string, boost::json::object> domains();
  /// A xenstore node's value or the names below it, as the host sees it; code 1 when missing.
  Outcome xenstore(const std::string& verb, const std::string& path);

  /// A new connection through an echo works; tried again until it does or the time is up.
  bool echo_works(const std::string& socket_path, Seconds within = recovery_within);

  /// Logs of a daemon: "host" or a guest's name.
  std::string log(const std::string& daemon) const { return read_file(dir_ + "/log." + daemon); }
  /// A destroyed guest has nothing left to check or stop.
  void forget_guest(const std::string& name) { guests_.erase(name); }

 private:
  struct Guest {
    Process bridge;
  };

  void check_nothing_left();
  void check_no_processes_left() const;
  void check_no_sanitizer_spoke() const;
  void print_logs() const;

  std::string dir_;
  std::map<std::string, std::unique_ptr<Service>> services_;
  std::map<std::string, Guest> guests_;
  Process host_;
};

/// Path of a program that was built.
std::string program(const std::string& name);

}  // namespace xenlane::tests

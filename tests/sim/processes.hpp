// The simulated processes: the product's guest bridge and host worker, each on an event loop of its
// own that the simulator turns one handler at a time, and the xenstored that both talk to. They are
// put together as guest/main.cpp and host/worker.cpp do it; what is missing is their control
// socket, their signals and their log.
#pragma once

#include <boost/asio/io_context.hpp>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/console_keeper.hpp"
#include "bridge/daemon/listeners.hpp"
#include "bridge/daemon/peer.hpp"
#include "guest/guest_link.hpp"
#include "host/worker_link.hpp"
#include "tests/sim/cable.hpp"
#include "tests/sim/environment.hpp"
#include "tests/sim/link.hpp"
#include "transport/xensim/store/server.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::sim {

using transport::Domid;

struct Process {
  Process(std::string process_name, Domid process_domid)
      : name(std::move(process_name)), domid(process_domid) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  virtual ~Process() = default;

  /// Runs at most one handler. False when there was nothing to do. An exception that nobody
  /// catches is this process's end: `dead` is set.
  bool step();
  bool frozen() const { return environment()->now_ns() < frozen_until_ns; }

  std::string name;
  Domid domid;
  boost::asio::io_context context{1};
  std::uint64_t frozen_until_ns = 0;
  bool dead = false;
  bool spared = false;  ///< its calls do not fail

 private:
  bool die_of(const std::string& what);
};

/// Runs something as that process: what it asks of the kernel is the environment's to answer.
template <typename Work>
void run_as(Process& process, Work work) {
  struct Running {
    explicit Running(Process& now) { environment()->running = &now; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() { environment()->running = nullptr; }
  } running(process);
  work();
}

/// While one lives, what is done is the simulator's own: for what a process has others do for it.
class OutsideOfProcess {
 public:
  OutsideOfProcess() : running_(std::exchange(environment()->running, nullptr)) {}
  OutsideOfProcess(const OutsideOfProcess&) = delete;
  OutsideOfProcess& operator=(const OutsideOfProcess&) = delete;
  ~OutsideOfProcess() { environment()->running = running_; }

 private:
  Process* running_;
};

struct StoreProcess : Process {
  StoreProcess() : Process("xenstored", 0), server(context, xensim::Quotas{}) { spared = true; }
  xensim::StoreServer server;
  bool answers = true;
};

/// What a guest calls the console that is for xenlane.
inline constexpr std::string_view tty_path = "/dev/hvc1";

/// The part of Xen that the bridges see by way of libxenvchan: which rings are on offer. And QEMU.
struct Hypervisor {
  explicit Hypervisor(StoreProcess& xenstored) : store(xenstored) {}

  StoreProcess& store;
  std::map<std::string, std::weak_ptr<Link>> offers;  ///< by absolute xenstore path
  std::vector<std::weak_ptr<Link>> links;
  std::uint64_t links_made = 0;
  std::vector<std::unique_ptr<transport::Lane>> abandoned;
  std::set<Domid> without_vchan;
  std::map<Domid, std::unique_ptr<Cable>> cables;
  std::map<std::string, Domid> console_sockets;  ///< QEMU's, by path

  /// Links that somebody still holds an end of.
  std::vector<std::shared_ptr<Link>> live_links();
  /// That domain's console channel; null when it has none.
  Cable* cable_of(Domid domid);
};

/// The hypervisor of the simulation under way.
Hypervisor*& hypervisor();

/// A bridge as both sides have it.
struct BridgeProcess : Process {
  BridgeProcess(std::string process_name, Domid process_domid, const bridge::BridgeConfig& bridge,
                const std::string& store_path, bridge::Role role, const std::string& peer_name);

  /// I4 and what the mux promises; throws Failure.
  void check_limits();
  /// Streams that ended otherwise than by both applications.
  std::uint64_t bad_endings() const;

  const bridge::BridgeConfig& config;
  transport::XenStore store;
  bridge::Peer peer;
};

struct GuestProcess final : BridgeProcess {
  GuestProcess(Domid process_domid, const bridge::BridgeConfig& bridge,
               const std::string& store_path, bool vchan_missing);
  bridge::ListenerFiles files;
  guest::GuestLink link;
};

/// Channel name and listening socket, as the broker hands them down.
using Listeners = std::vector<std::pair<std::string, transport::UniqueFd>>;

struct WorkerProcess final : BridgeProcess {
  WorkerProcess(Domid guest, const bridge::BridgeConfig& bridge, const std::string& store_path,
                const std::string& guest_name, const Listeners& inherited);
  host::WorkerLink link;
  bridge::ConsoleKeeper console;
};

}  // namespace xenlane::sim

#include "tests/sim/processes.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>

#include "bridge/cli/exit_codes.hpp"
#include "transport/base/spawn.hpp"
#include "transport/console/console_opener.hpp"

namespace xenlane::sim {

namespace asio = boost::asio;
using std::chrono::milliseconds;

bool is_spared(const Process& process) {
  return process.spared;
}

bool Process::step() {
  bool worked = false;
  run_as(*this, [&] {
    try {
      context.restart();  // one that had nothing to wait for has stopped
      worked = context.poll_one() > 0;
    } catch (const Failure&) {
      throw;
    } catch (const std::exception& uncaught) {
      worked = die_of(uncaught.what());
    } catch (const bridge::StartFailure& uncaught) {
      worked = die_of(uncaught.what);
    }
  });
  return worked;
}

bool Process::die_of(const std::string& what) {
  environment()->note(what);
  if (spared) throw Failure(name + " died of " + what);
  return dead = true;
}

Hypervisor*& hypervisor() {
  static Hypervisor* current = nullptr;
  return current;
}

std::vector<std::shared_ptr<Link>> Hypervisor::live_links() {
  std::vector<std::shared_ptr<Link>> live;
  for (const auto& link : links) {
    if (auto held = link.lock()) live.push_back(std::move(held));
  }
  std::erase_if(links, [](const auto& link) { return link.expired(); });
  return live;
}

Cable* Hypervisor::cable_of(Domid domid) {
  const auto found = cables.find(domid);
  return found == cables.end() ? nullptr : found->second.get();
}

BridgeProcess::BridgeProcess(std::string process_name, Domid process_domid,
                             const bridge::BridgeConfig& bridge, const std::string& store_path,
                             bridge::Role role, const std::string& peer_name)
    : Process(std::move(process_name), process_domid),
      config(bridge),
      store(context.get_executor(), store_path, milliseconds(bridge.timeouts.xenstore_ms)),
      peer(context.get_executor(), role, peer_name, bridge) {}

void BridgeProcess::check_limits() {
  const std::size_t connections = peer.channels().connection_count();
  if (connections > 2 * config.limits.streams_max) {
    throw Failure(fmt::format("{}: {} connections, limit 2 x {}", name, connections,
                              config.limits.streams_max));
  }
  const boost::json::object status = peer.status();
  const auto* held_bytes = status.at("counters").as_object().if_contains("held_bytes");
  const auto held = held_bytes != nullptr ? held_bytes->to_number<std::uint64_t>() : 0;
  if (held > config.limits.session_window_bytes) {
    throw Failure(fmt::format("{}: holds {} bytes, limit {}", name, held,
                              config.limits.session_window_bytes));
  }
}

std::uint64_t BridgeProcess::bad_endings() const {
  std::uint64_t count = 0;
  for (const auto& channel : const_cast<bridge::Peer&>(peer).channels().channels()) {
    count += channel->stats.refused + channel->stats.broken;
  }
  return count;
}

GuestProcess::GuestProcess(Domid process_domid, const bridge::BridgeConfig& bridge,
                           const std::string& store_path, bool vchan_missing)
    : BridgeProcess(fmt::format("guest bridge {}", process_domid), process_domid, bridge,
                    store_path, bridge::Role::guest, "host"),
      files(bridge.run_dir),
      link(context.get_executor(), store, peer, bridge) {
  for (const auto* channel : channels_for(bridge, "")) {
    add_channel(peer.channels(), files, *channel);
  }
  if (vchan_missing) link.set_vchan_trouble({bridge::exit_too_few_grants, "no vchan here"});
  asio::co_spawn(context.get_executor(), link.run(), transport::or_throw);
}

WorkerProcess::WorkerProcess(Domid guest, const bridge::BridgeConfig& bridge,
                             const std::string& store_path, const std::string& guest_name,
                             const Listeners& inherited)
    : BridgeProcess(fmt::format("worker for {}", guest), 0, bridge, store_path, bridge::Role::host,
                    guest_name),
      link(context.get_executor(), store, peer, bridge, guest, guest_name),
      console(context.get_executor(), peer, transport::ConsoleEnd::host, bridge, true,
              console_socket_of(bridge, guest_name), transport::connect_console_socket) {
  for (const auto* channel : channels_for(bridge, guest_name)) {
    transport::UniqueFd listener;
    for (const auto& [channel_name, fd] : inherited) {
      if (channel_name == channel->name.text()) {
        listener.reset(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
      }
    }
    const std::string path = bridge.run_dir + '/' + guest_name + '/' + channel->name.text();
    peer.channels().add(*channel, listener ? path : std::string(), std::move(listener));
  }
  if (!console_socket_of(bridge, guest_name).empty()) {
    asio::co_spawn(context.get_executor(), console.run(), transport::or_throw);
  }
  asio::co_spawn(context.get_executor(), link.run(), [this](const std::exception_ptr& exception) {
    transport::or_throw(exception);
    dead = true;
  });
}

}  // namespace xenlane::sim

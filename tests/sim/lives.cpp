// Who lives and who dies: domains as a toolstack makes and destroys them, bridges as an init
// restarts them, workers and socket files as the broker keeps them (host/broker.cpp does it with
// real processes, which the end-to-end tests see), and all the ways in which that goes wrong.
#include <fmt/format.h>
#include <unistd.h>

#include "tests/sim/world.hpp"

namespace xenlane::sim {

namespace fs = std::filesystem;

std::string World::store_path(const Guest& guest) const {
  return fmt::format("{}/xs-{}", folder_, guest.index);
}

void World::make_domain(Guest& guest, bool same_domid) {
  if (!same_domid || guest.domid == 0) guest.domid = next_domid_++;
  ++guest.lives;
  guest.exists = true;
  guest.domain_due_ns = 0;
  const std::string uuid = fmt::format("00000000-0000-0000-{:04}-{:012}", guest.index, guest.lives);
  store_->server.introduce({guest.domid, guest.name, uuid, 65536});
  store_->server.listen(guest.domid, store_path(guest));
  lay_console(guest);
  guest.bridge_due_ns = env_.now_ns();
  env_.note("domain made", guest.index, guest.domid);
}

// As xl does for a channel: the node tells the guest which console it is, and QEMU listens.
void World::lay_console(Guest& guest) {
  if (guest.vchan_missing) hypervisor_->without_vchan.insert(guest.domid);
  if (!guest.has_console) return;
  hypervisor_->cables[guest.domid] = std::make_unique<Cable>(guest.spared);
  hypervisor_->console_sockets[console_socket_of(guest.host_config, guest.name)] = guest.domid;
  const std::string node = fmt::format("/local/domain/{}/device/console", guest.domid);
  store_->server.write(node + "/0/type", "xenconsoled");
  store_->server.write(node + "/1/name", guest.guest_config.console.channel);
}

// No code of the guest's runs any more, and nothing wakes the host but xenstored's announcement.
void World::destroy_domain(Guest& guest) {
  env_.note("domain destroyed", guest.index, guest.domid);
  for (const auto& link : hypervisor_->live_links()) {
    if (link->domid() == guest.domid) link->cut(true);
  }
  end_bridge(guest, true);
  hypervisor_->cables.erase(guest.domid);
  guest.bridge_due_ns = 0;
  store_->server.remove(guest.domid);
  guest.exists = false;
  guest.noticed_due_ns = env_.now_ns() + env_.between(1, 1'200) * ms;
}

// Saved and restored: the guest's memory goes on, all that Xen and xenstore had of it is new.
void World::restore_domain(Guest& guest) {
  env_.note("domain restored", guest.index, guest.domid);
  for (const auto& link : hypervisor_->live_links()) {
    if (link->domid() == guest.domid) link->cut(true);
  }
  store_->server.remove(guest.domid);
  hypervisor_->cables.erase(guest.domid);  // which hangs up the guest's tty
  stop_serving(guest, false);
  guest.domid = next_domid_++;
  ++guest.lives;
  const std::string uuid = fmt::format("00000000-0000-0000-{:04}-{:012}", guest.index, guest.lives);
  store_->server.introduce({guest.domid, guest.name, uuid, 65536});
  store_->server.listen(guest.domid, store_path(guest));
  if (guest.bridge) guest.bridge->domid = guest.domid;
  lay_console(guest);
  serve_guest(guest);
}

void World::start_bridge(Guest& guest) {
  guest.bridge_due_ns = 0;
  fs::create_directories(guest.guest_config.run_dir);
  guest.bridge = std::make_unique<GuestProcess>(guest.domid, guest.guest_config, store_path(guest),
                                                guest.vchan_missing);
  guest.bridge->spared = guest.spared;
  env_.note("guest bridge started", guest.index);
}

void World::end_bridge(Guest& guest, bool killed) {
  if (!guest.bridge) return;
  env_.note(killed ? "guest bridge killed" : "guest bridge stopped", guest.index);
  applications_->excuse(guest.index, Side::guest);
  guest.bad_endings[static_cast<std::size_t>(Side::guest)] += guest.bridge->bad_endings();
  Cable* cable = hypervisor_->cable_of(guest.domid);
  if (!killed) {
    guest.bridge->peer.end_session(ECONNRESET, "shutting down");
  } else if (cable != nullptr) {
    cable->silence_tty();
  }
  // Who is killed leaves his socket files behind: they are out of reach while he is taken apart.
  const std::string aside = guest.guest_config.run_dir + ".aside";
  std::error_code ignored;
  if (killed) fs::rename(guest.guest_config.run_dir, aside, ignored);
  guest.bridge.reset();
  if (killed) fs::rename(aside, guest.guest_config.run_dir, ignored);
  guest.bridge_due_ns = env_.now_ns() + env_.between(1, 1'000) * ms;
}

void World::serve_guest(Guest& guest) {
  const std::string folder = fmt::format("{}/host/{}", folder_, guest.name);
  fs::create_directories(folder);
  guest.host_files.emplace(folder);
  for (const auto* channel : channels_for(guest.host_config, guest.name)) {
    if (!has_listener(*channel)) continue;
    const std::string& name = channel->name.text();
    guest.listeners.emplace_back(name, guest.host_files->listen(name, 0600));
  }
  const std::string node = fmt::format("/local/domain/{}/xenlane", guest.domid);
  store_->server.write(node, "");
  store_->server.write(node + "/host", "0");
  guest.worker_due_ns = env_.now_ns();
  guest.noticed_due_ns = 0;
}

void World::start_worker(Guest& guest) {
  guest.worker_due_ns = 0;
  guest.worker = std::make_unique<WorkerProcess>(guest.domid, guest.host_config,
                                                 folder_ + "/xs-host", guest.name, guest.listeners);
  guest.worker->spared = guest.spared;
  env_.note("worker started", guest.index);
}

void World::end_worker(Guest& guest, bool killed) {
  if (!guest.worker) return;
  env_.note(killed ? "worker killed" : "worker stopped", guest.index);
  applications_->excuse(guest.index, Side::host);
  guest.bad_endings[static_cast<std::size_t>(Side::host)] += guest.worker->bad_endings();
  Cable* cable = hypervisor_->cable_of(guest.domid);
  if (!killed) {
    guest.worker->peer.end_session(ECONNRESET, "shutting down");
  } else if (cable != nullptr) {
    cable->silence_client();
  }
  guest.worker.reset();
  guest.worker_due_ns = env_.now_ns() + env_.between(1, 500) * ms;
}

void World::stop_serving(Guest& guest, bool orderly) {
  applications_->excuse(guest.index, Side::host);  // those in the backlog too
  end_worker(guest, !orderly);
  guest.worker_due_ns = 0;
  guest.listeners.clear();
  guest.host_files.reset();
  if (orderly) store_->server.erase(fmt::format("/local/domain/{}/xenlane", guest.domid));
}

// Starts what is due. What died of itself is started again, as systemd and the broker do.
void World::keep_alive(Guest& guest) {
  const std::uint64_t now = env_.now_ns();
  const auto due = [now](std::uint64_t when) { return when != 0 && now >= when; };
  if (guest.bridge && guest.bridge->dead) end_bridge(guest, true);
  if (guest.worker && guest.worker->dead) end_worker(guest, true);
  if (due(guest.noticed_due_ns)) {
    guest.noticed_due_ns = 0;
    stop_serving(guest, false);
    guest.domain_due_ns = now + env_.between(1, 2'000) * ms;
  }
  if (due(guest.domain_due_ns)) {
    make_domain(guest, env_.strikes(Fault::domid_reused));
    serve_guest(guest);
  }
  if (guest.exists && !guest.host_files && due(guest.worker_due_ns)) serve_guest(guest);
  if (guest.exists && !guest.bridge && due(guest.bridge_due_ns)) start_bridge(guest);
  if (guest.host_files && !guest.worker && due(guest.worker_due_ns)) start_worker(guest);
}

// Of the lane that its session is on; every other time the console is cut at the host's end.
void World::cut_carrier(Guest& guest) {
  Cable* cable = hypervisor_->cable_of(guest.domid);
  if (cable != nullptr && guest.bridge->peer.carries(bridge::LaneKind::console)) {
    if (steps_ % 2 == 0) {
      cable->hang_up_tty();
    } else {
      cable->drop_client();
    }
    return;
  }
  for (const auto& link : hypervisor_->live_links()) link->cut(false);
}

// As `xenlane lane` does, on one of the sides.
void World::set_lane(Guest& guest) {
  BridgeProcess* process = process_of(guest, env_.one_in(2) ? Side::host : Side::guest);
  if (process == nullptr) return;
  const auto force = static_cast<bridge::LaneForce>(env_.below(guest.has_console ? 3 : 2));
  env_.note("lane set by hand", guest.index, static_cast<std::uint64_t>(force));
  process->peer.force_lane(force);
}

void World::strike() {
  for (const auto& link : hypervisor_->live_links()) {
    if (link->spared() || !link->open()) continue;
    if (env_.strikes(Fault::spurious_wake_up)) link->disturb();
    if (env_.strikes(Fault::lane_cut)) link->cut(false);
    if (link->carries_bytes() && env_.strikes(Fault::lane_cut_in_frame)) link->cut(false);
    if (env_.strikes(Fault::lane_cut_unheard)) link->cut(true);
  }
  for (const auto& [domid, cable] : hypervisor_->cables) cable->strike();
  for (const auto& guest : guests_) {
    if (!guest->spared) strike_guest(*guest);
  }
  strike_store();
  if (env_.strikes(Fault::application_vanishes)) {
    const std::uint64_t id = applications_->random_active();
    if (id != 0 && !applications_->spared(applications_->at(id).guest)) applications_->vanish(id);
  }
}

void World::strike_guest(Guest& guest) {
  const auto for_a_while = [this](std::uint64_t most_ms) {
    const std::uint64_t until = env_.now_ns() + env_.between(1, most_ms) * ms;
    env_.hinder(until);
    return until;
  };
  if (guest.bridge && env_.strikes(Fault::guest_bridge_killed)) end_bridge(guest, true);
  if (guest.bridge && env_.strikes(Fault::guest_bridge_stopped)) end_bridge(guest, false);
  if (guest.worker && env_.strikes(Fault::worker_killed)) end_worker(guest, true);
  if (guest.host_files && env_.strikes(Fault::host_stopped)) {
    stop_serving(guest, true);
    guest.worker_due_ns = for_a_while(3'000);
  }
  if (guest.worker && env_.strikes(Fault::process_frozen)) {
    guest.worker->frozen_until_ns = for_a_while(3'000);
  }
  if (guest.bridge && env_.strikes(Fault::process_frozen)) {
    guest.bridge->frozen_until_ns = for_a_while(3'000);
  }
  if (guest.bridge && env_.strikes(Fault::guest_paused)) {
    guest.bridge->frozen_until_ns = for_a_while(20'000);
  }
  if (guest.exists && guest.bridge && env_.strikes(Fault::guest_restored)) restore_domain(guest);
  if (guest.exists && env_.strikes(Fault::guest_destroyed)) destroy_domain(guest);
  if (env_.strikes(Fault::lane_set_by_hand)) set_lane(guest);
  const Side side = env_.one_in(2) ? Side::host : Side::guest;
  if (applications_->serves(guest.index, side)) {
    if (env_.strikes(Fault::no_listener)) applications_->stop_serving(guest.index, side);
    if (env_.strikes(Fault::backlog_full)) {
      applications_->serve(guest.index, side, 0);
      applications_->busy_until(for_a_while(3'000));
    }
  } else if (env_.one_in(2'000)) {
    applications_->serve(guest.index, side);
  }
}

void World::strike_store() {
  const std::string socket = folder_ + "/xs-host";
  if (store_->answers) {
    const auto lasts = [this] {
      const std::uint64_t until = env_.now_ns() + env_.between(1, 8'000) * ms;
      env_.hinder(until);
      return until;
    };
    if (env_.strikes(Fault::store_mute)) {
      mute_until_ns_ = lasts();
      env_.note("xenstored is mute");
      store_->answers = false;
      store_->server.set_mute(true);
    } else if (env_.strikes(Fault::store_gone)) {
      gone_until_ns_ = lasts();
      env_.note("xenstored is gone");
      store_->answers = false;
      store_->server.drop_connections();
      store_->server.set_mute(true);
      fs::rename(socket, socket + ".gone");
    } else if (env_.strikes(Fault::store_connections_dropped)) {
      env_.note("xenstored drops all");
      store_->server.drop_connections();
    }
  } else if (env_.now_ns() >= std::max(mute_until_ns_, gone_until_ns_)) {
    if (gone_until_ns_ != 0) fs::rename(socket + ".gone", socket);
    mute_until_ns_ = gone_until_ns_ = 0;
    env_.note("xenstored answers");
    store_->answers = true;
    store_->server.set_mute(false);
  }
  for (const auto& guest : guests_) {
    const std::string node = fmt::format("/local/domain/{}/xenlane", guest->domid);
    if (!guest->exists || !guest->host_files) continue;
    if (env_.strikes(Fault::spurious_watch)) store_->server.write(node + "/host", "0");
    // Whoever has a transaction open on these finds them changed under it.
    const auto usage = store_->server.usage(guest->domid);
    if (usage.transactions + store_->server.usage(0).transactions == 0) continue;
    if (env_.strikes(Fault::transaction_conflict)) {
      store_->server.write(node, "");
      store_->server.write(fmt::format("/local/domain/{}/data", guest->domid), "");
    }
  }
}

// The last fault ends.
void World::mend() {
  env_.note("faults end");
  env_.allow_faults(false);
  applications_->busy_until(0);
  for (const auto& link : hypervisor_->live_links()) link->mend();
  for (const auto& [domid, cable] : hypervisor_->cables) cable->mend();
  mute_until_ns_ = 0;
  gone_until_ns_ = gone_until_ns_ == 0 ? 0 : 1;
  strike_store();
  for (const auto& guest : guests_) {
    for (Process* process :
         {static_cast<Process*>(guest->bridge.get()), static_cast<Process*>(guest->worker.get())}) {
      if (process != nullptr) process->frozen_until_ns = 0;
    }
    // Much may be under way, too much for a console alone.
    for (const Side side : {Side::host, Side::guest}) {
      BridgeProcess* process = process_of(*guest, side);
      if (process == nullptr || !may_have_vchan(*guest)) continue;
      const bool to_console = process->peer.status().at("lane").at("set") == "console";
      if (to_console) process->peer.force_lane(bridge::LaneForce::automatic);
    }
    for (const Side side : {Side::host, Side::guest}) applications_->serve(guest->index, side);
  }
}

}  // namespace xenlane::sim

// What must hold: the invariants I1 to I6 of docs/testing.md. I1 and the half of I2 that a
// single reader can see are checked where bytes are read (applications.cpp); here is the rest.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "tests/sim/world.hpp"

namespace xenlane::sim {

namespace {

constexpr std::uint64_t s = 1'000 * ms;

/// I6: service is back within this after the last fault has ended, by what there is.
constexpr std::uint64_t vchan_recovery_ns = 10 * s;
constexpr std::uint64_t console_recovery_ns = 30 * s;
/// How long the applications of the time of faults may take to come to their ends.
constexpr std::uint64_t vchan_endings_ns = 30 * s;
constexpr std::uint64_t console_endings_ns = 90 * s;
/// How long the model waits before it gives up on partners that have not come.
constexpr std::uint64_t pairing_ns = 5 * s;
/// After each partner for a port: its stream has to be asked for, and a wake-up may be lost.
constexpr std::uint64_t pairing_pause_ns = s / 10;
constexpr std::uint64_t quiet_ns = 2 * s;
/// Two of the longest pauses between tries (timeouts.retry_ms_max): to try, and to try no more.
constexpr std::uint64_t retries_ns = 6 * s;
/// Things that may happen in that time in a bridge and a worker that have nothing to do.
constexpr std::uint64_t quiet_steps_max = 12;
/// And where a vchan is asked for again and again that cannot be had.
constexpr std::uint64_t trying_steps_max = 80;
/// Nodes in xenstore that one guest's bridge may own: a ring or two, their folders, the pointer.
constexpr std::size_t nodes_max = 24;

std::uint64_t number(const boost::json::object& status, const char* part, const char* name) {
  const auto* found = status.at(part).as_object().if_contains(name);
  return found != nullptr && !found->is_null() ? found->to_number<std::uint64_t>() : 0;
}

}  // namespace

std::uint64_t World::bad_endings(const Guest& guest, Side side) const {
  std::uint64_t count = guest.bad_endings[static_cast<std::size_t>(side)];
  const BridgeProcess* process = guest.bridge.get();
  if (side == Side::host) process = guest.worker.get();
  if (process != nullptr) count += process->bad_endings();
  return count;
}

void World::check_always() {
  for (const auto& guest : guests_) {
    for (BridgeProcess* process : {static_cast<BridgeProcess*>(guest->bridge.get()),
                                   static_cast<BridgeProcess*>(guest->worker.get())}) {
      if (process != nullptr) process->check_limits();
    }
    check_endings(*guest);
    if (const auto nodes = store_->server.usage(guest->domid).nodes; nodes > nodes_max) {
      throw Failure(fmt::format("I4: guest {} owns {} nodes in xenstore", guest->index, nodes));
    }
  }
}

// I2: an end of file that comes early is explained by an ending that the bridge there has counted
// as bad, or by a partner that left before it had said who it was.
void World::check_endings(Guest& guest) {
  for (const Side side : {Side::host, Side::guest}) {
    const std::uint64_t early = applications_->early_ends(guest.index, side);
    const std::uint64_t explained = bad_endings(guest, side) + applications_->nameless(guest.index);
    if (early > explained) {
      throw Failure(fmt::format("I2: guest {}, {} side: {} early ends of file, {} explained{}",
                                guest.index, side == Side::host ? "host" : "guest", early,
                                explained, applications_->describe_active()));
    }
  }
}

std::uint64_t World::recovery_ns(const Guest& guest) const {
  return may_have_vchan(guest) ? vchan_recovery_ns : console_recovery_ns;
}

void World::wait_for_sessions() {
  const auto up = [](const Guest& guest) {
    return guest.bridge && guest.bridge->peer.session_up() && guest.worker &&
           guest.worker->peer.session_up();
  };
  const std::uint64_t begin = env_.now_ns();
  for (const std::uint64_t limit : {vchan_recovery_ns, console_recovery_ns}) {
    const auto all_up = [&] {
      return std::ranges::all_of(
          guests_, [&](const auto& guest) { return recovery_ns(*guest) > limit || up(*guest); });
    };
    run_until(all_up, begin + limit - env_.now_ns(), "I6: a session");
  }
}

void World::settle() {
  const std::uint64_t mended_ns = env_.now_ns();
  applications_->finish_all();
  wait_for_sessions();
  // Connections to a port that wait for a partner are streams like others: where few are allowed,
  // they may be all.
  applications_->drop_unpaired();
  for (const auto& guest : guests_) drain_ports(*guest);
  for (const auto& guest : guests_) {
    probe(*guest, Side::host, mended_ns + recovery_ns(*guest));
    probe(*guest, Side::guest, mended_ns + recovery_ns(*guest));
  }
  const std::uint64_t give_up = env_.now_ns() + pairing_ns;
  bool dropped = false;
  const bool slow =
      std::ranges::any_of(guests_, [this](const auto& guest) { return !may_have_vchan(*guest); });
  run_until(
      [&] {
        if (!dropped && env_.now_ns() >= give_up) {
          dropped = true;
          applications_->drop_unpaired();
        }
        return applications_->active() == 0;
      },
      slow ? console_endings_ns : vchan_endings_ns, "I5: the end of every connection");
  wait_for_sessions();  // the one call that was to fail may have failed only now
  for (const auto& guest : guests_) drain_ports(*guest);
  check_always();
  // Without work nothing may happen, but for what is still on its way; and no lane is kept that
  // nobody wants.
  std::chrono::milliseconds idle{0};
  for (const auto& guest : guests_) {
    idle = std::max(
        {idle, guest->guest_config.lanes.policy.idle, guest->host_config.lanes.policy.idle});
  }
  const std::uint64_t idle_ns = static_cast<std::uint64_t>(idle.count()) * ms;
  run_for(idle_ns + quiet_ns);
  check_lanes(mended_ns + vchan_recovery_ns + idle_ns);
  run_for(quiet_ns + retries_ns);
  std::uint64_t allowed = 0;
  for (const auto& guest : guests_) {
    const bool tries = guest->vchan_missing && wants_vchan(*guest);
    allowed += tries ? trying_steps_max : quiet_steps_max;
  }
  const std::uint64_t steps_before = steps_;
  run_for(quiet_ns);
  if (steps_ - steps_before > allowed) {
    throw Failure(
        fmt::format("idle bridges did {} things in {} s", steps_ - steps_before, quiet_ns / s));
  }
  for (const auto& guest : guests_) check_nothing_left(*guest);
}

// A new connection works, in full and both ways. One that meets a session which is about to be
// found dead may fail, in good order, and is made again.
void World::probe(Guest& guest, Side side, std::uint64_t deadline_ns) {
  Script script;
  script.to_send = 6'000;
  const char* channel = side == Side::host ? "org.sim.to-guest" : "org.sim.to-host";
  for (;;) {
    const std::uint64_t id = connect(guest, side, channel, script);
    if (id != 0) {
      await_probe(guest, id);
      const Application& probe = applications_->at(id);
      if (probe.clean && probe.sent == script.to_send && probe.partner != 0) return;
      drain_ports(guest);  // over a console, some may have come only now
    } else {
      run_for(s / 100);
    }
    if (env_.now_ns() >= deadline_ns) {
      throw Failure(
          fmt::format("I6: guest {}: no connection to {} worked within {} s after the "
                      "last fault{}",
                      guest.index, channel, recovery_ns(guest) / s, describe()));
    }
  }
}

// Where few streams are allowed, connections to a port may get them all as soon as they come out of
// a socket's backlog.
void World::await_probe(Guest& guest, std::uint64_t id) {
  const std::uint64_t deadline = env_.now_ns() + recovery_ns(guest);
  while (!applications_->at(id).over()) {
    if (env_.now_ns() >= deadline) {
      throw Failure(fmt::format("I6: a new connection did not come within {} s{}",
                                recovery_ns(guest) / s, describe()));
    }
    for (int i = 0; i < 10 && !applications_->at(id).over(); ++i) run_for(s / 10);
    if (!applications_->at(id).over()) drain_ports(guest);
  }
}

// A port keeps what a connection said that has gone again, for a partner to come: here it comes.
// Some of those that wait turn out to have left without a word, and then the partner is the next to
// wait for one.
void World::drain_ports(Guest& guest) {
  const auto waiting = [&](Side side) {
    std::size_t count = 0;
    if (!guest.worker) return count;
    for (const auto& channel : guest.worker->peer.channels().channels()) {
      count += side == Side::host ? channel->waiting_local.size() : channel->waiting_remote.size();
    }
    return count;
  };
  Script script;
  script.to_send = 8;
  std::uint64_t partner = 0;
  const auto is_on_its_way = [&] {
    return partner != 0 && applications_->at(partner).partner == 0 &&
           !applications_->at(partner).over();
  };
  const std::uint64_t deadline = env_.now_ns() + recovery_ns(guest);
  run_for(pairing_pause_ns);  // others may be in the socket's backlog, with no stream to be had yet
  while (waiting(Side::host) + waiting(Side::guest) > 0 || is_on_its_way()) {
    if (env_.now_ns() >= deadline) throw Failure("I6: ports are not paired" + describe());
    const Side side = waiting(Side::host) > 0 ? Side::guest : Side::host;
    const Side other = side == Side::host ? Side::guest : Side::host;
    if (waiting(other) == 0) {
      idle_or_advance(round());
      continue;
    }
    partner = connect(guest, side, "org.sim.port", script);
    if (partner == 0) throw Failure("I6: a port's socket is gone");
    run_for(pairing_pause_ns);
    // One at a time: those in the backlog take streams, of which there may be few.
    while (is_on_its_way() && waiting(other) > 0 && env_.now_ns() < deadline) {
      idle_or_advance(round());
    }
  }
}

void World::check_nothing_left(Guest& guest) {
  for (const BridgeProcess* process : {static_cast<BridgeProcess*>(guest.bridge.get()),
                                       static_cast<BridgeProcess*>(guest.worker.get())}) {
    const boost::json::object status = process->peer.status();
    const std::uint64_t streams = number(status, "streams", "open");
    const std::uint64_t held = number(status, "counters", "held_bytes");
    if (streams != 0 || held != 0) {
      throw Failure(fmt::format("{}: {} streams and {} held bytes are left of nothing",
                                process->name, streams, held));
    }
  }
}

}  // namespace xenlane::sim

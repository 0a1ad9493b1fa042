// What becomes of sessions while lanes come and go: a session ends with one of its two bridges, or
// because there was no lane for it for as long as it may wait, and for no other reason. And a vchan
// that nobody wants is given up.
#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/world.hpp"

namespace xenlane::sim {

namespace {

constexpr bridge::RandomId no_session{};
/// How long a guest waits for an answer to its HELLO, at least, before it asks on another lane.
constexpr std::uint64_t answer_ns = 3'000 * ms;
/// Beyond the time that a session may wait for a lane, how late its end may be seen.
constexpr std::uint64_t late_ns = 200 * ms;

std::string_view name_of(Side side) {
  return side == Side::host ? "host" : "guest";
}

Side other(Side side) {
  return side == Side::host ? Side::guest : Side::host;
}

}  // namespace

BridgeProcess* World::process_of(Guest& guest, Side side) const {
  if (side == Side::host) return guest.worker.get();
  return guest.bridge.get();
}

void World::watch_sessions(Guest& guest) {
  for (const Side side : {Side::host, Side::guest}) {
    View& view = guest.views[static_cast<std::size_t>(side)];
    BridgeProcess* process = process_of(guest, side);
    const bool same = process != nullptr && process->peer.session().instance() == view.instance;
    if (!same) {
      if (view.session != no_session) applications_->note_break(guest.index);
      if (view.session != no_session && guest.spared) handle_session_gone(guest, side, view);
      view = View{};
      if (process == nullptr) continue;
      view.instance = process->peer.session().instance();
    }
    const bridge::Session& session = process->peer.session();
    if (view.session != session.id()) {
      if (view.session != no_session) {
        applications_->note_break(guest.index);
        handle_session_gone(guest, side, view);
      }
      view.session = session.id();
      view.partner = session.id() == no_session ? no_session : session.peer().instance;
      view.began_ns = watched_ns_;
      view.cut_since_ns = 0;
      view.lanes = session.lanes();
      if (side == Side::guest) guest.known.insert(session.id());
    }
    if (session.lanes() != view.lanes) {
      ++resumed_;
      view.lanes = session.lanes();
      view.cut_since_ns = 0;
    }
    const bool cut = session.state() == bridge::SessionState::cut;
    if (!cut) view.cut_since_ns = 0;
    if (cut && view.cut_since_ns == 0) view.cut_since_ns = env_.now_ns();
  }
}

// A session that one side had is no more there. Why?
void World::handle_session_gone(Guest& guest, Side side, const View& view) {
  env_.note("session gone", guest.index, static_cast<std::uint64_t>(side));
  const BridgeProcess* partner = process_of(guest, other(side));
  const bool partner_lives =
      partner != nullptr && !partner->dead && partner->peer.session().instance() == view.partner;
  if (!guest.spared) {
    if (!partner_lives) return;               // it has died or was stopped, with what it knew
    if (guest.ended == view.session) return;  // as the other side has found already
  }
  // The guest never heard of it: its HELLO came too late, or the answer was lost.
  const bool unheard = side == Side::host && !guest.known.contains(view.session) &&
                       env_.hindered_since(view.began_ns - answer_ns);
  const std::uint64_t waited = view.cut_since_ns == 0 ? 0 : env_.now_ns() - view.cut_since_ns;
  const std::uint64_t resume_ns = guest.host_config.timeouts.resume_ms * ms;
  const bool waited_in_vain =
      waited + late_ns >= resume_ns && env_.hindered_since(view.cut_since_ns);
  if ((waited_in_vain || unheard) && !guest.spared) {
    guest.ended = view.session;
    return;
  }
  throw Failure(
      fmt::format("{}: guest {}: the {} side's session ended without need, {} ms after "
                  "its last lane{}",
                  guest.spared ? "I3" : "I2", guest.index, name_of(side), waited / ms, describe()));
}

bool World::wants_vchan(Guest& guest) const {
  bool console_wanted = false;
  bool vchan_wanted = !guest.has_console;
  for (const Side side : {Side::host, Side::guest}) {
    BridgeProcess* process = process_of(guest, side);
    const auto mode = process->config.lanes.policy.mode;
    const std::string set(process->peer.status().at("lane").at("set").as_string());
    console_wanted |= set == "console" || (set == "auto" && mode == bridge::LaneMode::never);
    vchan_wanted |= set == "vchan" || (set == "auto" && mode == bridge::LaneMode::always);
  }
  return vchan_wanted && !console_wanted;
}

// Which lane a guest has that does nothing, as soon as it can: with xenlane's defaults the console.
void World::check_lanes(std::uint64_t deadline_ns) {
  for (const auto& guest : guests_) {
    const bool wanted = wants_vchan(*guest);
    if (wanted && guest->vchan_missing) continue;
    const auto has_its_lane = [&] {
      if (wanted) return guest->bridge->peer.carries(bridge::LaneKind::vchan);
      return std::ranges::none_of(hypervisor_->live_links(), [&](const auto& link) {
        return link->domid() == guest->domid && link->offered();
      });
    };
    const std::uint64_t left = deadline_ns - std::min(deadline_ns, env_.now_ns());
    run_until(has_its_lane, left,
              wanted
                  ? fmt::format("I6: the vchan that guest {} is to have", guest->index)
                  : fmt::format("the end of the vchan that guest {} needs no more", guest->index));
  }
}

}  // namespace xenlane::sim

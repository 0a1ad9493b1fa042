// Judges what the daemons say of themselves: who answers, the session, its lane, the channels.
#include <fmt/format.h>

#include "bridge/daemon/negotiation.hpp"
#include "bridge/doctor/examine.hpp"
#include "bridge/session/handshake.hpp"

namespace xenlane::bridge::doctor {
namespace {

using Answer = DaemonFact::Answer;

bool examine_daemon_answer(const Facts& facts, Findings& findings) {
  const DaemonFact& daemon = facts.daemon;
  const char* unit = facts.side == Side::host ? "xenlane-host" : "xenlane-guest";
  switch (daemon.answer) {
    case Answer::answers:
      findings.ok(check::daemon_answer, daemon.control,
                  fmt::format("{} answers, pid {}", unit, daemon.pid));
      return true;
    case Answer::absent:
      findings.error(check::daemon_answer, exit_no_daemon, daemon.control,
                     fmt::format("no {} answers there: {}", unit, daemon.trouble),
                     fmt::format("systemctl start {}", unit));
      return false;
    case Answer::forbidden:
      findings.note(check::daemon_answer, daemon.control,
                    fmt::format("may not be asked: {}; sessions, lanes and channels are not "
                                "looked at",
                                daemon.trouble),
                    "run xenlane doctor as root");
      return false;
    case Answer::failed:
      findings.error(check::daemon_answer, exit_no_daemon, daemon.control,
                     fmt::format("{} does not answer as it should: {}", unit, daemon.trouble),
                     fmt::format("journalctl -u {}", unit));
      return false;
  }
  return false;
}

void examine_version(const Facts& facts, const DaemonFact& daemon, Findings& findings) {
  if (daemon.answer != Answer::answers) return;
  if (daemon.version != facts.version) {
    findings.warn(
        check::daemon_version, daemon.control,
        fmt::format("the daemon is version {}, this tool {}", daemon.version, facts.version),
        fmt::format("systemctl restart {}",
                    facts.side == Side::host ? "xenlane-host" : "xenlane-guest"));
  } else {
    findings.ok(check::daemon_version, daemon.control,
                fmt::format("version {}, as this tool", daemon.version));
  }
}

void examine_session(const Facts& facts, const BridgeFact& bridge, const std::string& thing,
                     Findings& findings) {
  const std::string other = facts.side == Side::host ? "in the guest: systemctl start xenlane-guest"
                                                     : "on the host: systemctl start xenlane-host";
  if (bridge.session_reason.find(no_common_version) != std::string::npos) {
    findings.error(check::session_version, exit_refused, thing, bridge.session_reason,
                   "install the same version of xenlane on both sides");
    return;
  }
  if (bridge.session_state != "up") {
    findings.warn(
        check::session_state, thing,
        fmt::format("the session is {} since {} s{}{}", bridge.session_state, bridge.session_s,
                    bridge.session_reason.empty() ? "" : ": ", bridge.session_reason),
        other);
    return;
  }
  findings.ok(check::session_state, thing, fmt::format("up since {} s", bridge.session_s));
  if (!bridge.protocol_version) {
    findings.note(check::session_version, thing, "the daemon does not tell the protocol's version");
  } else if (*bridge.protocol_version < protocol_version_max) {
    findings.note(check::session_version, thing,
                  fmt::format("the other side is older: protocol {} is used, this side speaks {}",
                              *bridge.protocol_version, protocol_version_max),
                  "install the same version of xenlane on both sides");
  } else if (bridge.peer_version > *bridge.protocol_version) {
    findings.note(check::session_version, thing,
                  fmt::format("the other side is newer: protocol {} is used, it speaks {}",
                              *bridge.protocol_version, bridge.peer_version),
                  "install the same version of xenlane on both sides");
  } else {
    findings.ok(check::session_version, thing,
                fmt::format("protocol {} on both sides", *bridge.protocol_version));
  }
}

void examine_lane(const Facts& facts, const BridgeFact& bridge, const std::string& thing,
                  Findings& findings) {
  if (bridge.session_state != "up") return;
  const std::string why =
      bridge.lane_why.empty() ? bridge.lane : fmt::format("{}: {}", bridge.lane, bridge.lane_why);
  const bool by_hand = !bridge.lane_set.empty() && bridge.lane_set != "auto";
  const bool wanted = facts.config.config.lanes.policy.mode == LaneMode::always;
  if (by_hand) {
    findings.note(check::lane_carrier, thing, why,
                  facts.side == Side::host ? fmt::format("xenlane lane {} auto", thing)
                                           : "xenlane lane auto");
  } else if (wanted && bridge.lane == "console") {
    findings.warn(check::lane_carrier, thing,
                  fmt::format("[lanes] policy is \"always\", and there is no vchan; {}", why),
                  "look at the findings on devices and grants, here and on the other side");
  } else {
    findings.ok(check::lane_carrier, thing, why);
  }
}

void examine_channels(const BridgeFact& bridge, const std::string& prefix, Findings& findings) {
  for (const ChannelFact& channel : bridge.channels) {
    const std::string thing = prefix + channel.name;
    if (!channel.error.empty()) {
      findings.error(check::channel_disabled, exit_configuration, thing,
                     "disabled: " + channel.error,
                     "mend the [[channel]] section, then xenlane reload");
    }
    if (channel.refused == 0) continue;
    const std::string what =
        fmt::format("refused {} times, the last one: {}", channel.refused, channel.last_refusal);
    if (channel.last_refused_s && *channel.last_refused_s <= refused_recently_s) {
      findings.warn(check::channel_refused, thing,
                    fmt::format("{}, {} s ago", what, *channel.last_refused_s),
                    "start the program behind the target, on the side that has end = \"dial\"");
    } else {
      findings.note(check::channel_refused, thing, what);
    }
  }
}

void examine_bridge(const Facts& facts, const BridgeFact& bridge, const std::string& thing,
                    const std::string& prefix, Findings& findings) {
  examine_session(facts, bridge, thing, findings);
  examine_lane(facts, bridge, thing, findings);
  examine_channels(bridge, prefix, findings);
}

void examine_guest(const Facts& facts, const GuestFact& guest, Findings& findings) {
  if (!guest.known && !guest.matches) {
    findings.note(check::guest_served, guest.name, "runs, and is not one of [daemon] guests");
    return;
  }
  if (!guest.known) {
    findings.warn(check::guest_served, guest.name,
                  fmt::format("domain {} runs and is to be served, but is not", guest.domid),
                  "journalctl -u xenlane-host: its name may be one that no folder can have");
    return;
  }
  findings.ok(check::guest_served, guest.name, fmt::format("domain {} is served", guest.domid));
  if (guest.worker_restarts >= worker_restarts_many) {
    findings.warn(check::guest_worker, guest.name,
                  fmt::format("its worker was restarted {} times", guest.worker_restarts),
                  "journalctl -u xenlane-host");
  } else if (guest.worker.answer == Answer::absent || guest.worker.answer == Answer::failed) {
    findings.warn(
        check::guest_worker, guest.name,
        fmt::format("its worker ({}) does not answer: {}", guest.state, guest.worker.trouble),
        "journalctl -u xenlane-host");
  } else if (guest.worker.answer == Answer::forbidden) {
    findings.note(check::guest_worker, guest.name, "its worker may not be asked",
                  "run xenlane doctor as root");
  } else {
    findings.ok(check::guest_worker, guest.name,
                fmt::format("its worker answers, pid {}", guest.worker.pid));
  }
  examine_version(facts, guest.worker, findings);
  if (guest.bridge) {
    examine_bridge(facts, *guest.bridge, guest.name, guest.name + '/', findings);
  }
}

}  // namespace

void examine_daemon(const Facts& facts, Findings& findings) {
  if (!examine_daemon_answer(facts, findings)) return;
  examine_version(facts, facts.daemon, findings);
  if (facts.side == Side::guest) {
    if (facts.bridge) examine_bridge(facts, *facts.bridge, "the session", "", findings);
    return;
  }
  for (const GuestFact& guest : facts.guests) examine_guest(facts, guest, findings);
}

}  // namespace xenlane::bridge::doctor

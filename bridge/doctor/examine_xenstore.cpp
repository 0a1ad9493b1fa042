// Judges xenstore: whether it answers, whether it has room, and the keys by which the two sides
// agree on a lane (docs/xenstore.md).
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "bridge/daemon/negotiation.hpp"
#include "bridge/doctor/examine.hpp"

namespace xenlane::bridge::doctor {
namespace {

std::string words_of(int error) {
  return std::generic_category().message(error);
}

/// False when there is nothing more to look at.
bool examine_answer(const Facts& facts, Findings& findings) {
  const XenstoreFacts& store = facts.xenstore;
  if (store.error == EACCES || store.error == EPERM) {
    if (facts.user == 0) {
      findings.error(check::xenstore_answer, exit_not_permitted, store.path,
                     "root may not use it: " + words_of(store.error),
                     "look at the permissions of that file");
    } else {
      findings.note(check::xenstore_answer, store.path, "this user may not use it",
                    "run xenlane doctor as root");
    }
    return false;
  }
  if (store.error != 0) {
    findings.error(check::xenstore_answer, exit_no_xen, store.path,
                   "xenstore does not answer: " + words_of(store.error),
                   facts.side == Side::host ? "systemctl start xenstored"
                                            : "on the host: systemctl status xenstored");
    return false;
  }
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(store.answer_time);
  if (ms >= xenstore_very_slow) {
    findings.warn(
        check::xenstore_answer, store.path,
        fmt::format("an answer took {} ms: lanes are set up late or not at all", ms.count()),
        "on the host: xenstore-control check, and look for what keeps xenstored busy");
  } else if (ms >= xenstore_slow) {
    findings.note(check::xenstore_answer, store.path,
                  fmt::format("an answer took {} ms, which is slow", ms.count()));
  } else {
    findings.ok(check::xenstore_answer, store.path,
                fmt::format("answers in {} us", store.answer_time.count()));
  }
  return true;
}

void examine_room(const Facts& facts, Findings& findings) {
  const XenstoreFacts& store = facts.xenstore;
  if (!store.write_error || !store.watch_error) return;
  const std::string quota = fmt::format("on the host: xenstore-control quota {}",
                                        store.domid ? std::to_string(*store.domid) : "DOMID");
  if (*store.write_error == EACCES || *store.write_error == EPERM || *store.write_error == ENOENT) {
    findings.error(check::xenstore_room, exit_not_permitted, "data",
                   "this domain may not write there, as after a removal of that folder: " +
                       words_of(*store.write_error),
                   "start the domain anew: xl reboot, on the host");
  } else if (*store.write_error != 0) {
    findings.warn(check::xenstore_room, "xenstore's quotas",
                  "the nodes of one lane were not taken: " + words_of(*store.write_error), quota);
  }
  if (*store.watch_error != 0) {
    findings.warn(check::xenstore_room, "xenstore's quotas",
                  "one more watch was not taken: " + words_of(*store.watch_error), quota);
  }
  if (*store.write_error == 0 && *store.watch_error == 0) {
    findings.ok(check::xenstore_room, "xenstore's quotas",
                "there is room for a lane's nodes, a transaction and a watch");
  }
}

bool may_write(const std::vector<std::string>& permissions, Domid domid) {
  const std::string digits = std::to_string(domid);
  for (std::size_t i = 0; i < permissions.size(); ++i) {
    const std::string& entry = permissions[i];
    if (entry.size() < 2) continue;
    const bool is_its = entry.substr(1) == digits;
    // The first entry names the owner, who may do anything; its letter is for all who are not
    // named.
    if (i == 0 && is_its) return true;
    if ((i == 0 || is_its) && (entry[0] == 'w' || entry[0] == 'b')) return true;
  }
  return false;
}

void examine_permissions(const NodeFact& node, Domid guest, Findings& findings) {
  if (node.error != 0) return;
  if (node.permissions_error != 0) {
    findings.note(check::xenstore_permissions, node.path,
                  "who may write it cannot be seen: " + words_of(node.permissions_error));
  } else if (may_write(node.permissions, guest)) {
    findings.error(check::xenstore_permissions, exit_configuration, node.path,
                   fmt::format("the guest may write what only the host is to write ({})",
                               fmt::join(node.permissions, ",")),
                   "on the host: restart xenlane-host, which sets them");
  } else {
    findings.ok(check::xenstore_permissions, node.path,
                fmt::format("only the host may write it ({})", fmt::join(node.permissions, ",")));
  }
}

void examine_keys(const NodeFact& host, const NodeFact& wanted, const std::string& remedy,
                  Findings& findings) {
  if (host.error == EACCES || wanted.error == EACCES) {
    findings.warn(check::xenstore_nodes, host.path, "may not be read: " + words_of(EACCES), remedy);
  } else if (host.error == ENOENT) {
    findings.warn(check::xenstore_nodes, host.path,
                  "the host does not serve this guest: there is no such node", remedy);
  } else if (host.error != 0) {
    findings.note(check::xenstore_nodes, host.path, "could not be read: " + words_of(host.error));
  } else if (!transport::parse_domid(host.value)) {
    findings.warn(check::xenstore_nodes, host.path, "holds no domain id", remedy);
  } else if (wanted.error == ENOENT) {
    findings.warn(check::xenstore_nodes, wanted.path, "the host's worker has asked for no lane yet",
                  remedy);
  } else if (wanted.error != 0) {
    findings.note(check::xenstore_nodes, wanted.path,
                  "could not be read: " + words_of(wanted.error));
  } else if (!parse_epoch(wanted.value)) {
    findings.warn(check::xenstore_nodes, wanted.path, "holds no usable wish", remedy);
  } else {
    findings.ok(
        check::xenstore_nodes, host.path,
        fmt::format("domain {} serves this guest and asks for epoch {}", host.value, wanted.value));
  }
}

}  // namespace

void examine_xenstore(const Facts& facts, Findings& findings) {
  if (!examine_answer(facts, findings)) return;
  examine_room(facts, findings);
  if (facts.side == Side::guest) {
    examine_keys(
        facts.host_node, facts.wanted_node,
        "on the host: systemctl start xenlane-host, and name this guest in [daemon] guests",
        findings);
    if (facts.xenstore.domid) {
      examine_permissions(facts.host_node, *facts.xenstore.domid, findings);
      examine_permissions(facts.wanted_node, *facts.xenstore.domid, findings);
    }
    return;
  }
  for (const GuestFact& guest : facts.guests) {
    if (!guest.known || !guest.runs) continue;
    examine_keys(guest.host_node, guest.wanted_node, "restart xenlane-host, which writes it",
                 findings);
    examine_permissions(guest.host_node, guest.domid, findings);
    examine_permissions(guest.wanted_node, guest.domid, findings);
  }
}

}  // namespace xenlane::bridge::doctor

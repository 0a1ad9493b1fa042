// The part of Store about domains coming and going, for the simulator and for domain 0's requests.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "transport/xensim/store/path.hpp"
#include "transport/xensim/store/store.hpp"

extern "C" {
#include <xen/xen.h>
}

namespace xensim {
namespace {

constexpr std::string_view introduce_event = "@introduceDomain";
constexpr std::string_view release_event = "@releaseDomain";

// As atoi(): requests carry domids as decimal text and xenstored reads them no stricter.
std::uint32_t parse_number(std::string_view untrusted_text) {
  return static_cast<std::uint32_t>(std::atoi(std::string(untrusted_text).c_str()));
}

std::string libxl_path(Domid domid) {
  return "/libxl/" + std::to_string(domid);
}
std::string vm_path(const std::string& uuid) {
  return "/vm/" + uuid;
}

Domain* find_domain(std::map<Domid, Domain>& domains, std::uint32_t domid) {
  if (domid > UINT16_MAX) return nullptr;
  const auto found = domains.find(static_cast<Domid>(domid));
  return found == domains.end() ? nullptr : &found->second;
}

}  // namespace

// What libxl__domain_make() and libxl__build_post() write for a PVH guest (libxl_create.c,
// libxl_dom.c), without devices, consoles and the xenstore ring.
void Store::lay_out(const DomainSpec& spec, std::vector<Change>& changes) {
  const std::uint32_t guest = spec.domid;
  const PermissionList closed{{0, 0}};
  const PermissionList guest_reads{{0, 0}, {guest, may_read}};
  const PermissionList guest_owns{{guest, 0}};
  const auto home = domain_path(spec.domid);
  const auto vm = vm_path(spec.uuid);
  const auto libxl = libxl_path(spec.domid);

  const auto write_node = [&](const std::string& path, std::string_view value) {
    tree_.write(Actor{}, path, value, changes);
  };
  const auto make_node = [&](const std::string& path, const PermissionList& permissions) {
    write_node(path, "");
    tree_.set_permissions(Actor{}, path, permissions, changes);
  };
  for (const auto& path : {home, vm, libxl}) tree_.remove(Actor{}, path, changes);
  make_node(home, guest_reads);
  make_node(vm, guest_reads);
  make_node(libxl, closed);
  make_node(libxl + "/device", closed);
  write_node(home + "/vm", vm);
  write_node(home + "/name", spec.name);
  for (const auto* name : {"/cpu", "/memory", "/device", "/control"}) {
    make_node(home + name, guest_reads);
  }
  for (const auto* name :
       {"/device/suspend/event-channel", "/control/shutdown", "/control/feature-poweroff",
        "/control/feature-reboot", "/control/feature-suspend", "/control/sysrq", "/data",
        "/drivers", "/feature", "/attr", "/error"}) {
    make_node(home + name, guest_owns);
  }
  write_node(vm + "/uuid", spec.uuid);
  write_node(vm + "/name", spec.name);
  write_node(home + "/control/platform-feature-multiprocessor-suspend", "1");
  write_node(home + "/control/platform-feature-xs_reset_watches", "1");
  write_node(libxl + "/type", "pvh");
  write_node(home + "/memory/static-max", std::to_string(spec.memory_kib));
  write_node(home + "/memory/target", std::to_string(spec.memory_kib));
  write_node(home + "/memory/videoram", "0");
  write_node(home + "/domid", std::to_string(spec.domid));
  write_node(home + "/cpu/0/availability", "online");
}

Outcome Store::introduce(const DomainSpec& spec) {
  std::vector<Change> changes;
  if (spec.domid == 0) {
    tree_.write(Actor{}, domain_path(0) + "/name", spec.name, changes);
  } else {
    auto& domain = tree_.domains()[spec.domid];
    domain.uuid = spec.uuid;
    lay_out(spec, changes);
    domain.is_introduced = true;
  }
  auto outcome = fire_all(changes);
  fire_special(introduce_event, outcome.messages);
  return outcome;
}

Outcome Store::announce_release() {
  Outcome outcome;
  fire_special(release_event, outcome.messages);
  return outcome;
}

Outcome Store::remove(Domid domid) {
  const auto* domain = find_domain(tree_.domains(), domid);
  if (domid == 0 || domain == nullptr) return {};
  std::vector<Change> changes;
  const auto uuid = domain->uuid;
  tree_.remove(Actor{}, domain_path(domid), changes);
  if (!uuid.empty()) tree_.remove(Actor{}, vm_path(uuid), changes);
  tree_.remove(Actor{}, libxl_path(domid), changes);
  std::vector<ConnectionId> closed;
  forget_domain(domid, changes, closed);
  tree_.domains().erase(domid);

  auto outcome = fire_all(changes);
  fire_special(release_event, outcome.messages);
  outcome.closed = std::move(closed);
  return outcome;
}

// Leaves nothing in the store by which a later domain of the same number would gain anything.
void Store::forget_domain(Domid domid, std::vector<Change>& changes,
                          std::vector<ConnectionId>& closed) {
  for (auto& [id, connection] : connections_) {
    if (connection.domid != domid) {
      for (auto& [number, transaction] : connection.transactions) {
        Tree::scrub_domain(domid, transaction);
      }
      continue;
    }
    drop_watches(connection);
    drop_transactions(connection);
    closed.push_back(id);
  }
  tree_.remove_owned(domid, changes);
  tree_.scrub_domain(domid);
  for (auto* special : {&introduce_permissions_, &release_permissions_}) {
    scrub(*special, domid);
    if (special->front().domid == domid) special->front().domid = 0;
  }
  for (auto& [other, domain] : tree_.domains()) {
    if (domain.target == domid) domain.target.reset();
  }
  auto& domain = tree_.domains()[domid];
  auto uuid = std::move(domain.uuid);
  domain = Domain{};
  domain.uuid = std::move(uuid);
}

std::optional<std::string> Store::read(std::string_view path) const {
  const auto node = tree_.peek(std::string(path));
  if (!node) return std::nullopt;
  return node->value;
}

Outcome Store::write(std::string_view path, std::string_view value) {
  std::vector<Change> changes;
  tree_.write(Actor{}, std::string(path), value, changes);
  return fire_all(changes);
}

Outcome Store::allow_reading(std::string_view path, Domid domid) {
  std::vector<Change> changes;
  tree_.set_permissions(Actor{}, std::string(path), {{0, 0}, {domid, may_read}}, changes);
  return fire_all(changes);
}

Outcome Store::erase(std::string_view path) {
  std::vector<Change> changes;
  tree_.remove(Actor{}, std::string(path), changes);
  return fire_all(changes);
}

Usage Store::usage(Domid domid) const {
  const auto found = tree_.domains().find(domid);
  if (found == tree_.domains().end()) return {};
  const auto& domain = found->second;
  return {static_cast<std::size_t>(domain.nodes), domain.watches, domain.transactions};
}

// ---- requests ----------------------------------------------------------------------------------

int Store::handle_get_domain_path(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  call.reply = domain_path(parse_number(call.strings[0])) + '\0';
  return 0;
}

int Store::handle_is_domain_introduced(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  const auto domid = parse_number(call.strings[0]);
  const auto* domain = find_domain(tree_.domains(), domid);
  const bool is_introduced = domid == DOMID_SELF || (domain != nullptr && domain->is_introduced);
  call.reply = is_introduced ? "T" : "F";
  call.reply += '\0';
  return 0;
}

// domid, frame, event channel port. There is no ring here to map, so only the domain counts.
int Store::handle_introduce(Call& call) {
  if (call.strings.size() < 3) return EINVAL;
  const auto domid = parse_number(call.strings[0]);
  const auto port = static_cast<std::int32_t>(parse_number(call.strings[2]));
  if (port <= 0) return EINVAL;
  auto* domain = find_domain(tree_.domains(), domid);
  if (domain == nullptr) return EINVAL;
  if (!domain->is_introduced) {
    domain->is_introduced = true;
    if (domid != 0) call.special_events.emplace_back(introduce_event);
  }
  if (domid != 0) {
    for (auto& [id, connection] : connections_) {
      if (connection.domid != domid) continue;
      drop_watches(connection);
      drop_transactions(connection);
    }
  }
  call.reply = ok_reply;
  return 0;
}

int Store::handle_release(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  const auto domid = parse_number(call.strings[0]);
  if (domid == 0) return EINVAL;
  const auto* domain = find_domain(tree_.domains(), domid);
  if (domain == nullptr || !domain->is_introduced) return ENOENT;
  forget_domain(static_cast<Domid>(domid), call.changes, call.closed);
  call.special_events.emplace_back(release_event);
  call.reply = ok_reply;
  return 0;
}

int Store::handle_resume(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  const auto domid = parse_number(call.strings[0]);
  if (domid == 0) return EINVAL;
  const auto* domain = find_domain(tree_.domains(), domid);
  if (domain == nullptr || !domain->is_introduced) return ENOENT;
  call.reply = ok_reply;
  return 0;
}

int Store::handle_set_target(Call& call) {
  if (call.strings.size() < 2) return EINVAL;
  auto* domain = find_domain(tree_.domains(), parse_number(call.strings[0]));
  const auto target = parse_number(call.strings[1]);
  const auto* target_domain = find_domain(tree_.domains(), target);
  if (domain == nullptr || !domain->is_introduced) return ENOENT;
  if (target_domain == nullptr || !target_domain->is_introduced) return ENOENT;
  domain->target = static_cast<Domid>(target);
  call.reply = ok_reply;
  return 0;
}

int Store::handle_control(Call& call) {
  if (call.strings.empty()) return EINVAL;
  const auto command = call.strings[0];
  if (command == "help" && call.strings.size() == 1) {
    call.reply = "check\t\nprint\t<string>\nhelp\t\n";
    call.reply += '\0';
    return 0;
  }
  const bool is_known = (command == "check" && call.strings.size() == 1) ||
                        (command == "print" && call.strings.size() == 2);
  if (!is_known) return EINVAL;
  call.reply = ok_reply;
  return 0;
}

}  // namespace xensim

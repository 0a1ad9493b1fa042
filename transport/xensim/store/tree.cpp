#include "transport/xensim/store/tree.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/xensim/store/path.hpp"

namespace xensim {
namespace {

// What C xenstored counts against node_bytes: its record header and eight bytes a permission are
// part of the node's size (struct xs_tdb_record_hdr).
std::size_t stored_bytes(const Node& node) {
  constexpr std::size_t record_header_bytes = 24;
  constexpr std::size_t permission_bytes = 8;
  std::size_t bytes =
      record_header_bytes + permission_bytes * node.permissions.size() + node.value.size();
  for (const auto& name : node.children) bytes += name.size() + 1;
  return bytes;
}

// A full transaction is reported whatever the caller may know of the node; everything else is not.
bool is_told_to_everybody(int error) {
  return error == ENOSPC;
}

}  // namespace

Tree::Tree(Quotas quotas) : quotas_(quotas) {
  domains_[0].is_introduced = true;
  const PermissionList closed{Permission{}};
  const auto make = [&](const std::string& path, std::vector<std::string> children) {
    nodes_[path] =
        std::make_shared<const Node>(Node{"", std::move(children), closed, ++generation_});
    ++domains_[0].nodes;
  };
  make("/", {"tool"});
  make("/tool", {"xenstored"});
  make("/tool/xenstored", {});
}

NodePtr Tree::peek(const std::string& path) const {
  const auto found = nodes_.find(path);
  return found == nodes_.end() ? nullptr : found->second;
}

Checked<NodePtr> Tree::look_up(const Actor& actor, const std::string& path) {
  NodePtr node;
  if (actor.transaction == nullptr) {
    node = peek(path);
  } else {
    const auto entry = touch(actor, path);
    if (entry.error != 0) return {entry.error, nullptr};
    node = entry.value->node;
  }
  const int error = node ? 0 : ENOENT;
  return {error, std::move(node)};
}

int Tree::nearest_rights(const Actor& actor, std::string path, unsigned& rights) {
  do {
    path = parent_path(path);
    const auto above = look_up(actor, path);
    if (above.error == 0) {
      rights = rights_of(actor.who, above.value->permissions);
      return 0;
    }
    if (is_told_to_everybody(above.error)) return above.error;
  } while (path != "/");
  rights = 0;
  return 0;
}

Checked<NodePtr> Tree::get(const Actor& actor, const std::string& path, unsigned rights) {
  if (!is_valid_path(path, quotas_.path_bytes)) return {EINVAL, nullptr};
  auto found = look_up(actor, path);
  if (found.error == 0) {
    if ((rights_of(actor.who, found.value->permissions) & rights) == rights) return found;
    found.error = EACCES;
  }
  if (is_told_to_everybody(found.error)) return {found.error, nullptr};
  // The error may tell that there is no such node only to who has a say in the node above.
  unsigned rights_above = 0;
  if (const int error = nearest_rights(actor, path, rights_above)) return {error, nullptr};
  return {(rights_above & rights) != 0 ? found.error : EACCES, nullptr};
}

int Tree::put(const Actor& actor, const std::string& path, Node node, bool is_limited) {
  node.generation = ++generation_;
  if (is_limited && !actor.who.is_privileged() && stored_bytes(node) >= quotas_.node_bytes) {
    if (actor.transaction != nullptr) actor.transaction->has_failed = true;
    return ENOSPC;
  }
  auto stored = std::make_shared<const Node>(std::move(node));
  if (actor.transaction == nullptr) {
    nodes_[path] = std::move(stored);
    return 0;
  }
  const auto entry = touch(actor, path);
  if (entry.error != 0) return entry.error;
  entry.value->node = std::move(stored);
  entry.value->is_changed = true;
  return 0;
}

void Tree::erase(const Actor& actor, const std::string& path) {
  if (actor.transaction == nullptr) {
    nodes_.erase(path);
    return;
  }
  // Whatever is erased was looked up first, so there is an entry and this cannot fail.
  const auto entry = touch(actor, path);
  if (entry.error != 0) return;
  entry.value->node = nullptr;
  entry.value->is_changed = true;
}

int Tree::write(const Actor& actor, const std::string& path, std::string_view value,
                std::vector<Change>& changes) {
  const auto found = get(actor, path, may_write);
  if (found.error == ENOENT) return create(actor, path, value, changes);
  if (found.error != 0) return found.error;
  Node node = *found.value;
  node.value = value;
  if (const int error = put(actor, path, node, true)) return error;
  note(actor, change_of(actor, path, node), changes);
  return 0;
}

int Tree::make_directory(const Actor& actor, const std::string& path,
                         std::vector<Change>& changes) {
  const auto found = get(actor, path, may_write);
  if (found.error == ENOENT) return create(actor, path, "", changes);
  return found.error;
}

int Tree::create(const Actor& actor, const std::string& path, std::string_view value,
                 std::vector<Change>& changes) {
  std::vector<std::string> made;
  if (const int error = create_missing(actor, path, value, made)) {
    for (const auto& undone : made) {
      const auto node = look_up(actor, undone);
      if (node.error == 0) count_node(actor, node.value->permissions.front().domid, -1);
      erase(actor, undone);
    }
    if (actor.transaction != nullptr && !made.empty()) actor.transaction->has_failed = true;
    return error;
  }
  const auto node = look_up(actor, path);
  if (node.error != 0) return node.error;
  note(actor, change_of(actor, path, *node.value), changes);
  return 0;
}

// From the node itself upwards, as xenstored does it, so that `made` names what to take back when
// a quota is met half-way.
int Tree::create_missing(const Actor& actor, const std::string& path, std::string_view value,
                         std::vector<std::string>& made) {
  std::vector<std::string> missing{path};
  NodePtr above;
  while (!above) {
    auto parent = parent_path(missing.back());
    auto found = look_up(actor, parent);
    if (found.error == 0) {
      above = std::move(found.value);
    } else if (found.error != ENOENT || parent == "/") {
      return found.error;
    } else {
      missing.push_back(std::move(parent));
    }
  }
  if (actor.transaction != nullptr) actor.transaction->has_created = true;

  // What domain 0 makes takes the parent's owner too; what a guest makes is its own.
  PermissionList permissions = above->permissions;
  if (!actor.who.is_privileged()) permissions.front().domid = actor.who.domid;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    if (!actor.who.is_privileged() &&
        domains_[actor.who.domid].nodes >= static_cast<long>(quotas_.nodes)) {
      return ENOSPC;
    }
    Node node{"", {}, permissions, 0};
    if (i == 0) {
      node.value = value;
    } else {
      node.children.emplace_back(base_name(missing[i - 1]));
    }
    if (const int error = put(actor, missing[i], std::move(node), true)) return error;
    count_node(actor, permissions.front().domid, +1);
    made.push_back(missing[i]);
  }
  Node extended = *above;
  extended.children.emplace_back(base_name(missing.back()));
  return put(actor, parent_path(missing.back()), std::move(extended), true);
}

int Tree::remove(const Actor& actor, const std::string& path, std::vector<Change>& changes) {
  const auto found = get(actor, path, may_write);
  if (found.error == ENOENT) {
    // Nothing to remove is fine where there would be a place for it.
    const auto parent = look_up(actor, parent_path(path));
    return parent.error;
  }
  if (found.error != 0) return found.error;
  if (path == "/") return EINVAL;
  return remove_subtree(actor, path, changes);
}

int Tree::remove_subtree(const Actor& actor, const std::string& path,
                         std::vector<Change>& changes) {
  const auto parent_name = parent_path(path);
  const auto parent = look_up(actor, parent_name);
  if (parent.error != 0) return is_told_to_everybody(parent.error) ? parent.error : EINVAL;
  if (const int error = erase_below(actor, path, parent.value->permissions, true, changes)) {
    return error;
  }
  Node reduced = *parent.value;
  std::erase(reduced.children, base_name(path));
  return put(actor, parent_name, std::move(reduced), false) == 0 ? 0 : EIO;
}

int Tree::erase_below(const Actor& actor, const std::string& path, const PermissionList& parent,
                      bool is_top, std::vector<Change>& changes) {
  const auto found = look_up(actor, path);
  if (found.error != 0) return EIO;
  const Node& node = *found.value;
  for (const auto& name : node.children) {
    const auto child = child_path(path, name);
    if (const int error = erase_below(actor, child, node.permissions, false, changes)) return error;
  }
  note(actor, {path, !is_top, {node.permissions, parent}}, changes);
  erase(actor, path);
  count_node(actor, node.permissions.front().domid, -1);
  return 0;
}

int Tree::set_permissions(const Actor& actor, const std::string& path, PermissionList permissions,
                          std::vector<Change>& changes) {
  const auto found = get(actor, path, may_write | may_own);
  if (found.error != 0) return found.error;
  const auto old_permissions = found.value->permissions;
  const auto old_owner = old_permissions.front().domid;
  const auto new_owner = permissions.front().domid;
  if (!actor.who.is_privileged() && new_owner != old_owner) return EPERM;
  Node node = *found.value;
  node.permissions = std::move(permissions);
  if (const int error = put(actor, path, node, true)) return error;
  count_node(actor, old_owner, -1);
  count_node(actor, new_owner, +1);
  auto change = change_of(actor, path, node);
  change.readable_by.push_back(old_permissions);
  note(actor, std::move(change), changes);
  return 0;
}

Change Tree::change_of(const Actor& actor, const std::string& path, const Node& node) {
  Change change{path, false, {node.permissions}};
  if (actor.transaction != nullptr) return change;  // worked out at commit
  if (const auto parent = peek(parent_path(path))) {
    change.readable_by.push_back(parent->permissions);
  }
  return change;
}

void Tree::collect_owned(const std::string& path, Domid domid,
                         std::vector<std::string>& found) const {
  const auto node = peek(path);
  if (!node) return;
  if (node->permissions.front().domid == domid) {
    found.push_back(path);
    return;
  }
  for (const auto& name : node->children) collect_owned(child_path(path, name), domid, found);
}

void Tree::remove_owned(Domid domid, std::vector<Change>& changes) {
  std::vector<std::string> owned;
  collect_owned("/", domid, owned);
  for (const auto& path : owned) {
    if (path != "/") remove_subtree(Actor{}, path, changes);
  }
}

void Tree::scrub_domain(Domid domid) {
  for (auto& [path, node] : nodes_) {
    auto permissions = node->permissions;
    if (!scrub(permissions, domid)) continue;
    // The generation stays: for transactions that looked at it this is still the same node.
    Node scrubbed = *node;
    scrubbed.permissions = std::move(permissions);
    node = std::make_shared<const Node>(std::move(scrubbed));
  }
}

bool Tree::void_unknown_domains(PermissionList& permissions) const {
  for (auto& entry : permissions) {
    entry.is_void = entry.domid > UINT16_MAX || !domains_.contains(static_cast<Domid>(entry.domid));
  }
  return !permissions.front().is_void;
}

}  // namespace xensim

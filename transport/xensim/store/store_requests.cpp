// The requests of Store about nodes and transactions.
#include <cerrno>
#include <cstdlib>
#include <string>

#include "transport/xensim/store/path.hpp"
#include "transport/xensim/store/store.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xensim {
namespace {

std::string absolute(Domid domid, std::string_view untrusted_path) {
  std::string path(untrusted_path);
  if (path.starts_with('/') || path.starts_with('@')) return path;
  return domain_path(domid) + "/" + path;
}

std::string join_children(const Node& node) {
  std::string names;
  for (const auto& name : node.children) names.append(name).append(1, '\0');
  return names;
}

}  // namespace

Checked<NodePtr> Store::get_only_argument(Call& call, unsigned rights) {
  if (!is_one_string(call.untrusted_request.payload)) return {EINVAL, nullptr};
  return tree_.get(call.actor, absolute(call.connection.domid, call.strings[0]), rights);
}

int Store::handle_read(Call& call) {
  const auto node = get_only_argument(call, may_read);
  if (node.error == 0) call.reply = node.value->value;
  return node.error;
}

int Store::handle_write(Call& call) {
  if (call.strings.empty()) return EINVAL;
  const auto value = std::string_view(call.untrusted_request.payload)
                         .substr(call.strings[0].size() + 1);  // may hold NULs
  call.reply = ok_reply;
  return tree_.write(call.actor, absolute(call.connection.domid, call.strings[0]), value,
                     call.changes);
}

int Store::handle_mkdir(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  call.reply = ok_reply;
  return tree_.make_directory(call.actor, absolute(call.connection.domid, call.strings[0]),
                              call.changes);
}

int Store::handle_rm(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  call.reply = ok_reply;
  return tree_.remove(call.actor, absolute(call.connection.domid, call.strings[0]), call.changes);
}

int Store::handle_directory(Call& call) {
  const auto node = get_only_argument(call, may_read);
  if (node.error == 0) call.reply = join_children(*node.value);
  return node.error;
}

// The reply is the node's generation, by which the client sees that the list changed between two
// parts, and as many whole names from the offset on as fit; an empty name after the last.
int Store::handle_directory_part(Call& call) {
  if (call.strings.size() != 2) return EINVAL;
  const auto node =
      tree_.get(call.actor, absolute(call.connection.domid, call.strings[0]), may_read);
  if (node.error != 0) return node.error;
  const auto names = join_children(*node.value);
  const int untrusted_offset = std::atoi(std::string(call.strings[1]).c_str());
  call.reply = std::to_string(node.value->generation) + '\0';
  if (untrusted_offset < 0 || static_cast<std::size_t>(untrusted_offset) >= names.size()) {
    call.reply += '\0';
    return 0;
  }
  const std::size_t room = payload_bytes_max - call.reply.size() - 1;
  std::string_view rest =
      std::string_view(names).substr(static_cast<std::size_t>(untrusted_offset));
  std::size_t part_bytes = 0;
  while (part_bytes < rest.size()) {
    const auto name_bytes = rest.find('\0', part_bytes) - part_bytes;
    if (part_bytes + name_bytes >= room) break;
    part_bytes += name_bytes + 1;
  }
  call.reply += rest.substr(0, part_bytes);
  if (part_bytes == rest.size()) call.reply += '\0';
  return 0;
}

int Store::handle_get_perms(Call& call) {
  const auto node = get_only_argument(call, may_read);
  if (node.error == 0) call.reply = format_permissions(node.value->permissions);
  return node.error;
}

int Store::handle_set_perms(Call& call) {
  if (call.strings.size() < 2) return EINVAL;
  const auto texts = std::span(call.strings).subspan(1);
  const auto& quotas = tree_.quotas();
  if (!call.actor.who.is_privileged() && texts.size() > quotas.permissions_per_node) return ENOSPC;
  auto permissions = parse_permissions(texts);
  if (!permissions) return EINVAL;
  if (!tree_.void_unknown_domains(*permissions)) return ENOENT;
  call.reply = ok_reply;
  if (call.strings[0].starts_with('@')) {
    return set_special_permissions(call, call.strings[0], std::move(*permissions));
  }
  return tree_.set_permissions(call.actor, absolute(call.connection.domid, call.strings[0]),
                               std::move(*permissions), call.changes);
}

int Store::set_special_permissions(const Call& call, std::string_view name,
                                   PermissionList permissions) {
  auto* special = special_permissions(name);
  if (special == nullptr) return EINVAL;
  constexpr unsigned needed = may_write | may_own;
  if ((rights_of(call.actor.who, *special) & needed) != needed) return EACCES;
  *special = std::move(permissions);
  return 0;
}

int Store::handle_transaction_start(Call& call) {
  if (call.actor.transaction != nullptr) return EBUSY;
  auto& domain = tree_.domains()[call.connection.domid];
  // "More than", as in C xenstored: one transaction above the quota is let through.
  if (!call.actor.who.is_privileged() && domain.transactions > tree_.quotas().transactions) {
    return ENOSPC;
  }
  auto& transactions = call.connection.transactions;
  auto& next_id = call.connection.next_transaction_id;
  while (next_id == 0 || transactions.contains(next_id)) ++next_id;
  transactions.emplace(next_id, Transaction{});
  ++domain.transactions;
  call.reply = std::to_string(next_id++) + '\0';
  return 0;
}

int Store::handle_transaction_end(Call& call) {
  if (!is_one_string(call.untrusted_request.payload)) return EINVAL;
  const bool is_commit = call.strings[0] == "T";
  if (!is_commit && call.strings[0] != "F") return EINVAL;
  if (call.actor.transaction == nullptr) return ENOENT;
  const auto domid = call.connection.domid;
  call.reply = ok_reply;
  const int error = is_commit ? tree_.commit(domid, *call.actor.transaction, call.changes) : 0;
  call.actor.transaction = nullptr;
  call.connection.transactions.erase(call.untrusted_request.transaction_id);
  --tree_.domains()[domid].transactions;
  return error;
}

}  // namespace xensim

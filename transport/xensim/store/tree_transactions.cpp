// The part of Tree that knows how a transaction sees nodes and how it ends.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/xensim/store/path.hpp"
#include "transport/xensim/store/tree.hpp"

namespace xensim {

Checked<Transaction::Entry*> Tree::touch(const Actor& actor, const std::string& path) {
  Transaction& transaction = *actor.transaction;
  if (const auto known = transaction.index.find(path); known != transaction.index.end()) {
    return {0, &transaction.entries[known->second]};
  }
  if (!actor.who.is_privileged() && transaction.entries.size() >= quotas_.nodes_per_transaction) {
    transaction.has_failed = true;
    return {ENOSPC, nullptr};
  }
  Entry entry;
  entry.path = path;
  entry.node = peek(path);
  if (entry.node) {
    entry.seen_generation = entry.node->generation;
    entry.seen_permissions = entry.node->permissions;
  }
  transaction.index.emplace(path, transaction.entries.size());
  transaction.entries.push_back(std::move(entry));
  return {0, &transaction.entries.back()};
}

void Tree::note(const Actor& actor, Change change, std::vector<Change>& changes) {
  if (actor.transaction == nullptr) {
    changes.push_back(std::move(change));
    return;
  }
  const auto entry = touch(actor, change.path);
  if (entry.error != 0) return;
  // A change that everybody above sees is not narrowed by a later one that they don't.
  auto& fires_exact = entry.value->fires_exact;
  fires_exact = fires_exact.value_or(true) && change.is_exact;
}

void Tree::count_node(const Actor& actor, std::uint32_t owner, long delta) {
  if (actor.transaction != nullptr) {
    actor.transaction->owned_delta[owner] += delta;
  } else {
    // Only domains that exist own nodes: void_unknown_domains() and removal see to it.
    domains_[static_cast<Domid>(owner)].nodes += delta;
  }
}

int Tree::check_counts(Domid domid, const Transaction& transaction) const {
  const bool is_limited = domid != 0 && transaction.has_created;
  for (const auto& [owner, delta] : transaction.owned_delta) {
    const auto domain = domains_.find(static_cast<Domid>(owner));
    if (domain == domains_.end()) return ENOMEM;
    const long nodes = domain->second.nodes + delta;
    if (is_limited && owner != 0 && nodes >= static_cast<long>(quotas_.nodes)) return ENOSPC;
  }
  return 0;
}

int Tree::commit(Domid domid, Transaction& transaction, std::vector<Change>& changes) {
  if (transaction.has_failed) return ENOMEM;
  if (const int error = check_counts(domid, transaction)) return error;
  for (const auto& entry : transaction.entries) {
    const auto node = peek(entry.path);
    if ((node ? node->generation : 0) != entry.seen_generation) return EAGAIN;
  }
  for (const auto& entry : transaction.entries) {
    if (!entry.is_changed) continue;
    if (entry.node) {
      nodes_[entry.path] = entry.node;
    } else {
      nodes_.erase(entry.path);
    }
  }
  for (const auto& [owner, delta] : transaction.owned_delta) {
    domains_[static_cast<Domid>(owner)].nodes += delta;
  }
  for (const auto& entry : transaction.entries) {
    if (!entry.fires_exact) continue;
    Change change{entry.path, *entry.fires_exact, {}};
    if (entry.node) change = change_of(Actor{}, entry.path, *entry.node);
    change.is_exact = *entry.fires_exact;
    if (!entry.seen_permissions.empty()) change.readable_by.push_back(entry.seen_permissions);
    changes.push_back(std::move(change));
  }
  return 0;
}

void Tree::scrub_domain(Domid domid, Transaction& transaction) {
  for (auto& entry : transaction.entries) {
    if (!entry.seen_permissions.empty()) scrub(entry.seen_permissions, domid);
    if (!entry.node) continue;
    if (entry.node->permissions.front().domid == domid) transaction.has_failed = true;
    Node scrubbed = *entry.node;
    if (!scrub(scrubbed.permissions, domid)) continue;
    entry.node = std::make_shared<const Node>(std::move(scrubbed));
  }
}

}  // namespace xensim

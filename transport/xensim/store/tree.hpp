// The nodes, and what a domain may do to them, inside and outside of transactions.
//
// The one idea: nodes are immutable once stored, and a transaction is a table of the nodes it has
// touched. Its first look at a node puts the node, or its absence, into that table; from then on it
// sees and changes only its own entry. At commit every node it looked at must still be the one it
// saw (each stored node has a generation of its own), and then the changed entries replace the
// nodes of the tree. Nodes not touched yet are seen as they are now, not as they were at the start:
// so does C xenstored, and what is in the table at commit was true of one moment all the same.
//
// Errors are errno values, 0 for success; which one in which case follows C xenstored 4.17.
// Not here: connections, watches, messages.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "transport/xensim/store/permissions.hpp"
#include "transport/xensim/store/types.hpp"

namespace xensim {

struct Node {
  std::string value;
  std::vector<std::string> children;  ///< names, in the order in which they were made
  PermissionList permissions;
  std::uint64_t generation = 0;
};
using NodePtr = std::shared_ptr<const Node>;

/// A node was written, made, removed or given other permissions.
struct Change {
  std::string path;
  /// Only watches on this very path see it, not those on what is above: the node went away
  /// together with a node above it, whose own change the others see.
  bool is_exact = false;
  /// Whoever may read by any of these may see the event: the node's own permissions now, its
  /// parent's, and its own before.
  std::vector<PermissionList> readable_by;
};

/// What is counted of one domain, and what is known of it.
struct Domain {
  bool is_introduced = false;
  std::string uuid;
  std::optional<Domid> target;
  long nodes = 0;  ///< nodes it owns
  std::size_t watches = 0;
  std::size_t transactions = 0;
};

/// Changes made and not yet committed. Belongs to one connection.
struct Transaction {
  struct Entry {
    std::string path;
    NodePtr node;                       ///< null: no such node, as this transaction sees it
    std::uint64_t seen_generation = 0;  ///< of the node first seen; 0 if there was none
    PermissionList seen_permissions;    ///< empty if there was none
    bool is_changed = false;
    std::optional<bool> fires_exact;  ///< set: fire a change at commit, exact or not
  };

  std::vector<Entry> entries;  ///< in the order of first touch
  std::unordered_map<std::string, std::size_t> index;
  std::map<std::uint32_t, long> owned_delta;  ///< by owner: nodes made less nodes removed
  bool has_created = false;
  bool has_failed = false;  ///< an error left it half done: commit will be refused with ENOMEM
};

/// Who acts, and inside which transaction, if any.
struct Actor {
  Identity who;
  Transaction* transaction = nullptr;
};

template <class T>
struct Checked {
  int error = 0;
  T value{};
};

class Tree {
 public:
  /// Makes "/", "/tool" and "/tool/xenstored", all of domain 0 and closed to others.
  explicit Tree(Quotas quotas);

  /// The node, if `actor` has all of `rights` on it. EINVAL for a malformed path; ENOENT for a
  /// missing node only where the nearest node above it grants one of `rights`, else EACCES.
  Checked<NodePtr> get(const Actor& actor, const std::string& path, unsigned rights);

  /// The four changes. `changes` gets what happened, except inside a transaction: that keeps them
  /// for its commit.
  int write(const Actor& actor, const std::string& path, std::string_view value,
            std::vector<Change>& changes);
  int make_directory(const Actor& actor, const std::string& path, std::vector<Change>& changes);
  int remove(const Actor& actor, const std::string& path, std::vector<Change>& changes);
  int set_permissions(const Actor& actor, const std::string& path, PermissionList permissions,
                      std::vector<Change>& changes);

  /// EAGAIN if a node the transaction looked at has changed; it is of no use afterwards either way.
  int commit(Domid domid, Transaction& transaction, std::vector<Change>& changes);

  /// Removes every node that `domid` owns, with all below.
  void remove_owned(Domid domid, std::vector<Change>& changes);

  /// Takes `domid` out of all permission lists, those of `transaction_entries` excepted.
  void scrub_domain(Domid domid);
  /// The same inside an open transaction, which fails if it made or holds a node of the domain.
  static void scrub_domain(Domid domid, Transaction& transaction);

  /// Marks the entries that name no existing domain. False if the owner is such.
  bool void_unknown_domains(PermissionList& permissions) const;

  /// Without permission checks, outside of transactions. Null if there is none.
  NodePtr peek(const std::string& path) const;

  std::map<Domid, Domain>& domains() { return domains_; }
  const std::map<Domid, Domain>& domains() const { return domains_; }
  const Quotas& quotas() const { return quotas_; }

 private:
  using Entry = Transaction::Entry;

  Checked<NodePtr> look_up(const Actor& actor, const std::string& path);
  Checked<Entry*> touch(const Actor& actor, const std::string& path);
  int nearest_rights(const Actor& actor, std::string path, unsigned& rights);
  int put(const Actor& actor, const std::string& path, Node node, bool is_limited);
  void erase(const Actor& actor, const std::string& path);
  int create(const Actor& actor, const std::string& path, std::string_view value,
             std::vector<Change>& changes);
  int create_missing(const Actor& actor, const std::string& path, std::string_view value,
                     std::vector<std::string>& made);
  int remove_subtree(const Actor& actor, const std::string& path, std::vector<Change>& changes);
  int erase_below(const Actor& actor, const std::string& path, const PermissionList& parent,
                  bool is_top, std::vector<Change>& changes);
  void count_node(const Actor& actor, std::uint32_t owner, long delta);
  int check_counts(Domid domid, const Transaction& transaction) const;
  void note(const Actor& actor, Change change, std::vector<Change>& changes);
  Change change_of(const Actor& actor, const std::string& path, const Node& node);
  void collect_owned(const std::string& path, Domid domid, std::vector<std::string>& found) const;

  Quotas quotas_;
  std::unordered_map<std::string, NodePtr> nodes_;
  std::map<Domid, Domain> domains_;
  std::uint64_t generation_ = 0;
};

}  // namespace xensim

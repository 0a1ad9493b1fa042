// Plain values shared by every part of the xenstore: who a domain is and what it may use up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace xensim {

/// A Xen domain number; 0 is the privileged control domain.
using Domid = std::uint16_t;

/// What one unprivileged domain may hold. The defaults are C xenstored's (4.17, "quota" table and
/// command line defaults). Domain 0 is exempt from all of them but `path_bytes`.
struct Quotas {
  std::size_t nodes = 1000;       ///< nodes owned by the domain
  std::size_t watches = 128;      ///< over all connections of the domain
  std::size_t transactions = 10;  ///< open at once, over all connections of the domain
  std::size_t outstanding_requests =
      20;                         ///< replies and events not yet taken, before reading stops
  std::size_t node_bytes = 2048;  ///< one node: value, child names, permissions, header
  std::size_t permissions_per_node = 5;
  std::size_t path_bytes = 2048;  ///< of a relative path, or the rest of /local/domain/N/...
  std::size_t nodes_per_transaction = 1024;
};

/// What is laid out in the store when a domain is made.
struct DomainSpec {
  Domid domid = 0;
  std::string name;
  std::string uuid;
  std::uint64_t memory_kib = 0;
};

/// What a domain holds at this moment.
struct Usage {
  std::size_t nodes = 0;
  std::size_t watches = 0;
  std::size_t transactions = 0;
};

}  // namespace xensim

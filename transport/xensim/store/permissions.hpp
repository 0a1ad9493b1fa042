// Who may do what with one node.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "transport/xensim/store/types.hpp"

namespace xensim {

/// Rights, to be combined by "|".
inline constexpr unsigned may_read = 1;
inline constexpr unsigned may_write = 2;
inline constexpr unsigned may_own = 4;

struct Permission {
  std::uint32_t domid = 0;  ///< wider than a Domid: clients may name domains that cannot exist
  unsigned rights = 0;      ///< may_read, may_write
  /// Named a domain that did not exist. Shown, but without effect, so that a later domain with
  /// that number gains nothing (XSA-322).
  bool is_void = false;

  friend bool operator==(const Permission&, const Permission&) = default;
};

/// Never empty. The first entry is special: its domid owns the node, and its rights are what every
/// domain not named further on has.
using PermissionList = std::vector<Permission>;

/// On whose behalf something is done.
struct Identity {
  Domid domid = 0;
  std::optional<Domid> target;  ///< XS_SET_TARGET: may also do what this domain may

  bool is_privileged() const { return domid == 0; }
};

/// The rights of `who` under `permissions`. Owner and domain 0 have them all.
unsigned rights_of(const Identity& who, const PermissionList& permissions);

/// "n0", "r5", "w5", "b5" (read and write); nothing if one is malformed or there is none.
std::optional<PermissionList> parse_permissions(std::span<const std::string_view> untrusted_texts);

/// The same texts, each with its NUL.
std::string format_permissions(const PermissionList& permissions);

/// Drops every entry that names `domid` but the owner's; true if there was one.
bool scrub(PermissionList& permissions, Domid domid);

}  // namespace xensim

#include "transport/xensim/store/permissions.hpp"

#include <algorithm>
#include <cstdlib>

namespace xensim {
namespace {

bool speaks_for(const Identity& who, std::uint32_t domid) {
  return who.domid == domid || (who.target && *who.target == domid);
}

std::optional<Permission> parse_permission(std::string_view untrusted_text) {
  if (untrusted_text.size() < 2) return std::nullopt;
  Permission permission;
  switch (untrusted_text.front()) {
    case 'n':
      break;
    case 'r':
      permission.rights = may_read;
      break;
    case 'w':
      permission.rights = may_write;
      break;
    case 'b':
      permission.rights = may_read | may_write;
      break;
    default:
      return std::nullopt;
  }
  // Any base, as xs_strings_to_perms() has it.
  const std::string digits(untrusted_text.substr(1));
  char* end = nullptr;
  permission.domid = static_cast<std::uint32_t>(std::strtol(digits.c_str(), &end, 0));
  if (*end != '\0') return std::nullopt;
  return permission;
}

}  // namespace

unsigned rights_of(const Identity& who, const PermissionList& permissions) {
  if (who.is_privileged() || speaks_for(who, permissions.front().domid)) {
    return may_read | may_write | may_own;
  }
  for (std::size_t i = 1; i < permissions.size(); ++i) {
    const Permission& entry = permissions[i];
    if (!entry.is_void && speaks_for(who, entry.domid)) return entry.rights;
  }
  return permissions.front().rights;
}

std::optional<PermissionList> parse_permissions(std::span<const std::string_view> untrusted_texts) {
  PermissionList permissions;
  for (const auto untrusted_text : untrusted_texts) {
    const auto permission = parse_permission(untrusted_text);
    if (!permission) return std::nullopt;
    permissions.push_back(*permission);
  }
  if (permissions.empty()) return std::nullopt;
  return permissions;
}

std::string format_permissions(const PermissionList& permissions) {
  constexpr std::string_view letters = "nrwb";
  std::string texts;
  for (const auto& entry : permissions) {
    texts += letters[entry.rights];
    texts += std::to_string(static_cast<std::int32_t>(entry.domid));
    texts += '\0';
  }
  return texts;
}

bool scrub(PermissionList& permissions, Domid domid) {
  const auto removed = std::remove_if(permissions.begin() + 1, permissions.end(),
                                      [&](const auto& entry) { return entry.domid == domid; });
  const bool found = removed != permissions.end();
  permissions.erase(removed, permissions.end());
  return found;
}

}  // namespace xensim

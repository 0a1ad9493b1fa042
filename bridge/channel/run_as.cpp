#include "bridge/channel/run_as.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>

namespace xenlane::bridge {

namespace {

/// Linux knows no more (NGROUPS_MAX).
constexpr int groups_max = 65536;

}  // namespace

boost::system::result<RunAs, ParseError> RunAs::parse(const std::string& name) {
  const passwd* entry = ::getpwnam(name.c_str());
  if (entry == nullptr) {
    return ParseError{fmt::format("there is no user '{}'", escape_untrusted(name, 40))};
  }
  RunAs found{name, entry->pw_uid, entry->pw_gid, {}};
  const uid_t own = ::geteuid();
  if (own != 0 && own != found.uid) {
    return ParseError{fmt::format(
        "only root can run programs as another user, and this is user {}; start the daemon as root "
        "or as '{}'",
        own, name)};
  }
  int count = 16;
  while (count <= groups_max) {
    found.groups.resize(static_cast<std::size_t>(count));
    const int room = count;
    if (::getgrouplist(name.c_str(), found.gid, found.groups.data(), &count) >= 0) break;
    count = std::max(count, 2 * room);
  }
  found.groups.resize(static_cast<std::size_t>(std::min(count, groups_max)));
  return found;
}

}  // namespace xenlane::bridge

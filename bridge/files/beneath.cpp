#include "bridge/files/beneath.hpp"

#include <fcntl.h>

namespace xenlane::bridge::files {

using transport::UniqueFd;

// A walk and not openat2(2): that takes one path of at most PATH_MAX bytes, is missing before Linux
// 5.6 and behind many seccomp filters, and a folder that is entered once is kept open anyway.
UniqueFd open_beneath(int folder, const std::vector<std::string>& names) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd at(::openat(folder, ".", flags));
  for (const std::string& name : names) {
    if (!at) break;
    UniqueFd next(::openat(at.get(), name.c_str(), flags));
    at = std::move(next);
  }
  return at;
}

}  // namespace xenlane::bridge::files

// A connection that a local program has made to us.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "bridge/wire/frame.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

struct LocalEnd {
  transport::UniqueFd socket;
  pid_t pid = 0;  ///< 0 when the kernel does not say
  std::uint32_t uid = uid_unknown;
  std::string greeting = {};  ///< what it is told before all else, once the other side has accepted

  /// Asks the kernel who made it.
  static LocalEnd of(transport::UniqueFd socket);
};

}  // namespace xenlane::bridge

// The user that an exec target's program runs as, looked up once, when the configuration is read:
// between fork and exec nothing may ask the user database.
#pragma once

#include <sys/types.h>

#include <boost/system/result.hpp>
#include <string>
#include <vector>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

struct RunAs {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< all of them, `gid` included

  /// Of the user of that name; the error is ready to follow "user: ". This process must be root
  /// or that user, or it could not become it.
  static boost::system::result<RunAs, ParseError> parse(const std::string& name);

  friend bool operator==(const RunAs&, const RunAs&) = default;
};

}  // namespace xenlane::bridge

// A world whose one guest, web, takes and makes forwards, and the processes that run them.
#pragma once

#include <string>
#include <vector>

#include "tests/e2e/tcp.hpp"
#include "tests/e2e/world.hpp"

namespace xenlane::tests {

class Forwards {
 public:
  /// `allow` and `allow_listen` are of both sides, as TOML lists; `more` is for the host's
  /// configuration, `lanes` as in World.
  explicit Forwards(
      const std::string& allow = R"(["tcp:localhost:*", "tcp:*:*", "unix:/tmp/*/*/*"])",
      const std::string& allow_listen = R"(["tcp:localhost:*"])", const std::string& more = "",
      const std::string& lanes = "none");

  /// Starts `xenlane forward ARGUMENTS` in a domain ("0" is the host) and waits until it has said
  /// `sign` on standard error.
  Process start(const std::string& domain, std::vector<std::string> arguments,
                const std::string& sign = ": up");
  /// What the one started last has said.
  std::string said() const { return read_file(said_); }
  std::string path(const std::string& name) const { return world.dir() + "/s/" + name; }

  World world;

 private:
  std::string said_;
  int started_ = 0;
};

/// The values of `xenlane forward --list --json` there.
boost::json::array list_of(World& world, const std::string& domain);

}  // namespace xenlane::tests

// A host and a guest with the file service on both sides: what every story of `xenlane cp` begins
// with. The guest serves dir/guest, the host dir/host (the guest's files land in incoming/web).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {

class Copies {
 public:
  /// `more` are further options of both services; `lines` further lines of their channels.
  explicit Copies(const std::string& more = "", const std::string& lines = "",
                  const std::string& lanes = "none");

  /// `xenlane cp` on the host, or in the guest.
  Outcome copy(std::vector<std::string> arguments, const std::string& in = "");
  Outcome copy_in_guest(std::vector<std::string> arguments, const std::string& in = "");
  /// The last line of `cp --json` on the host; an empty object if there is none.
  boost::json::object copy_json(std::vector<std::string> arguments);
  /// Begins one on the host; its standard error goes to `errors()`.
  Process begin(std::vector<std::string> arguments);
  std::string errors() const { return read_file(dir() + "/cp.err"); }

  const std::string& dir() const { return world.dir(); }
  /// Of the guest's service and of the host's.
  std::string in_guest(const std::string& path = "") const { return dir() + "/guest/" + path; }
  std::string on_host(const std::string& path = "") const { return dir() + "/host/" + path; }

  World world;
};

/// A number of a line of JSON; -1 if there is none.
std::int64_t number(const boost::json::object& line, const char* key);

/// What there is below a folder: each path with type, permissions, time, size and content, or what
/// a link leads to.
std::map<std::string, std::string> snapshot(const std::string& folder);

/// A file of this many bytes that are like no other's.
void make_file(const std::string& path, std::uint64_t bytes, std::uint64_t seed = 1);

/// Files small and large, folders within each other, links of both kinds, an empty file and folder,
/// a hole, names that are not plain.
void make_tree(const std::string& folder);

/// Regular files' bytes below a folder.
std::uint64_t bytes_below(const std::string& folder);

}  // namespace xenlane::tests

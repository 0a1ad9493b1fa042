// Which names and which links a receiver lets in. The sender sends single names and says in which
// folder; there is no path to be parsed. No I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/files/message.hpp"

namespace xenlane::bridge::files {

/// How much of what a file system takes as a name is let in.
enum class NameRule : std::uint8_t {
  printable,  ///< UTF-8 without control characters and without those that turn the writing about
  any,        ///< all but "/" and NUL
};

/// Why this cannot become the name of a file, a folder or a link; empty: it can. Whatever the rule:
/// one component of at most name_bytes_max bytes, not "." or "..", and none that xenlane gives to
/// files that are not whole.
std::string fault_of_name(std::string_view untrusted_name, NameRule rule);

/// Why a symbolic link to `untrusted_target` would lead out of the destination, `depth` folders
/// above the link; empty: it stays inside. It may climb at its beginning only: a ".." behind the
/// name of another link would climb from where that leads. What is shown of it is writing too, so
/// that the rule for names holds.
std::string fault_of_link(std::string_view untrusted_target, std::size_t depth, NameRule rule);

/// The name under which a file's content is kept until it is whole: beside it, hidden, and the same
/// each time, so that another run finds what there is of it.
std::string partial_name(std::string_view name);

/// A path on the service's side, below its folder: components without "", "." and "..".
struct ServicePath {
  std::vector<std::string> components;
  bool is_folder = false;  ///< it ended with "/" or is the service's folder itself
};

/// A leading "/" is the service's folder too. No ".." and no component that cannot be a name.
Decoded<ServicePath> parse_service_path(std::string_view untrusted_path);

/// A pattern of --exclude: globs, where * stands for any bytes and ? for one.
class Exclude {
 public:
  /// Without "/", or with one at its end, it is compared with the name; else with the whole path
  /// from the source on. With "/" at its end it means folders only.
  explicit Exclude(std::string_view pattern);
  bool matches(std::string_view path, std::string_view name, bool is_folder) const;

 private:
  std::string glob_;
  bool whole_path_ = false;
  bool folders_only_ = false;
};

}  // namespace xenlane::bridge::files

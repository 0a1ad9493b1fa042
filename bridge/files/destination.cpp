#include "bridge/files/destination.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "bridge/files/beneath.hpp"
#include "bridge/files/source.hpp"

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

constexpr int folder_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
constexpr mode_t incoming_mode = 0700;

boost::system::error_code error_now() {
  return {errno, boost::system::generic_category()};
}

/// `name` in `above` as a folder, or as the only name. `follow`: 0, or O_NOFOLLOW.
boost::system::result<Destination> enter(UniqueFd above, const std::string& name, bool into_folder,
                                         bool dry_run, int follow) {
  Destination out;
  out.folder = UniqueFd(::openat(above.get(), name.c_str(), folder_flags | follow));
  if (out.folder) return out;
  if (!into_folder) {
    if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return error_now();
    out.folder = std::move(above);
    out.only_name = name;
    return out;
  }
  if (errno != ENOENT) return error_now();
  if (dry_run) return out;
  if (::mkdirat(above.get(), name.c_str(), 0777) != 0) return error_now();
  out.folder = UniqueFd(::openat(above.get(), name.c_str(), folder_flags | O_NOFOLLOW));
  if (!out.folder) return error_now();
  return out;
}

}  // namespace

boost::system::result<Destination> open_destination(const std::string& path, bool into_folder,
                                                    bool dry_run) {
  std::string rest = path;
  bool is_folder = into_folder;
  while (rest.size() > 1 && rest.back() == '/') {
    rest.pop_back();
    is_folder = true;
  }
  const std::size_t slash = rest.rfind('/');
  const std::string name = slash == std::string::npos ? rest : rest.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "." : rest.substr(0, slash + 1);
  UniqueFd above(::open(folder.c_str(), folder_flags));
  if (!above) return error_now();
  if (name.empty() || name == "." || name == "..") {
    UniqueFd opened(::openat(above.get(), name.empty() ? "." : name.c_str(), folder_flags));
    if (!opened) return error_now();
    return Destination{std::move(opened), {}};
  }
  return enter(std::move(above), name, is_folder, dry_run, 0);
}

boost::system::result<Destination> open_destination_beneath(int top, const ServicePath& path,
                                                            bool into_folder, bool dry_run) {
  std::vector<std::string> components = path.components;
  const std::string name = components.empty() ? "." : components.back();
  if (!components.empty()) components.pop_back();
  UniqueFd above = open_beneath(top, components);
  if (!above) return error_now();
  return enter(std::move(above), name, into_folder || path.is_folder, dry_run, O_NOFOLLOW);
}

boost::system::result<UniqueFd> open_incoming(int top, const std::string& peer) {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{}, std::vector<std::string>{"incoming"}}) {
    const UniqueFd above = open_beneath(top, names);
    const std::string& name = names.empty() ? "incoming" : peer;
    if (!above) return error_now();
    if (::mkdirat(above.get(), name.c_str(), incoming_mode) != 0 && errno != EEXIST) {
      return error_now();
    }
  }
  UniqueFd folder = open_beneath(top, {"incoming", peer});
  if (!folder) return error_now();
  return folder;
}

boost::system::result<Usage> usage_of(int folder) {
  Usage usage;
  std::vector<Source> sources(1);
  sources[0].folder = open_beneath(folder, {});
  sources[0].name = ".";
  sources[0].contents = true;
  if (!sources[0].folder) return error_now();
  int failed = 0;
  Walk walk(std::move(sources), {}, false, [&failed](Trouble what, int error, const std::string&) {
    if (what == Trouble::source && error != ENOENT) failed = error;
  });
  while (const auto found = walk.next()) {
    usage.bytes += found->entry.size;
    ++usage.entries;
  }
  if (failed != 0) return boost::system::error_code(failed, boost::system::generic_category());
  return usage;
}

}  // namespace xenlane::bridge::files

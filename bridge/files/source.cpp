#include "bridge/files/source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "bridge/files/beneath.hpp"

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

boost::system::error_code error_now() {
  return {errno, boost::system::generic_category()};
}

constexpr int source_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

}  // namespace

bool is_unchanged(const struct stat& status, const Entry& entry) {
  return S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) == entry.size &&
         status.st_mtim.tv_sec == entry.mtime_s && status.st_mtim.tv_nsec == entry.mtime_ns;
}

SourceFolder::SourceFolder(UniqueFd fd, std::string path, std::shared_ptr<std::size_t> count)
    : fd_(fd.release()), path_(std::move(path)), count_(std::move(count)) {
  ++*count_;
}

SourceFolder::~SourceFolder() {
  --*count_;
  if (names_ != nullptr) {
    ::closedir(names_);
  } else {
    ::close(fd_);
  }
}

DIR* SourceFolder::names() {
  if (names_ == nullptr) names_ = ::fdopendir(fd_);
  return names_;
}

boost::system::result<Source> open_source(const std::string& path) {
  Source source;
  source.shown = path;
  if (path == "-") return source;
  const std::size_t slash = path.rfind('/');
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  source.contents = name.empty() || name == "." || name == "..";
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (source.contents) folder = path;
  source.folder = UniqueFd(::open(folder.c_str(), source_flags));
  if (!source.folder) return error_now();
  source.name = source.contents ? "." : name;
  return source;
}

boost::system::result<Source> open_source_beneath(int folder, const ServicePath& path) {
  Source source;
  source.contents = path.is_folder;
  std::vector<std::string> components = path.components;
  for (const std::string& component : components) source.shown += "/" + component;
  source.name = ".";
  if (!source.contents) {
    source.name = components.back();
    components.pop_back();
  }
  source.folder = open_beneath(folder, components);
  if (!source.folder) return error_now();
  return source;
}

bool is_folder(const Source& source) {
  if (source.name.empty()) return false;
  struct stat status = {};
  return source.contents ||
         (::fstatat(source.folder.get(), source.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISDIR(status.st_mode));
}

Walk::Walk(std::vector<Source> sources, std::vector<Exclude> excludes, bool xattrs,
           OnTrouble on_trouble)
    : sources_(std::move(sources)),
      excludes_(std::move(excludes)),
      xattrs_(xattrs),
      on_trouble_(std::move(on_trouble)) {}

std::optional<Found> Walk::next() {
  for (;;) {
    if (levels_.empty()) {
      if (next_source_ == sources_.size()) return std::nullopt;
      if (auto found = next_source()) return found;
      continue;
    }
    Level& level = levels_.back();
    DIR* names = level.folder->names();
    errno = 0;
    const dirent* entry = names == nullptr ? nullptr : ::readdir(names);
    if (entry == nullptr) {
      if (errno != 0) on_trouble_(Trouble::source, errno, level.folder->path());
      levels_.pop_back();
      continue;
    }
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    // Copied: what is found may become a level of its own.
    if (auto found = look_at(Level(level), name)) return found;
  }
}

std::optional<Found> Walk::next_source() {
  Source source = std::move(sources_[next_source_++]);
  if (source.name.empty()) {
    Found found;
    found.entry.id = ++last_id_;
    found.entry.kind = EntryKind::file;
    found.entry.size_known = false;
    found.entry.mode = 0600;
    found.entry.mtime_s = std::time(nullptr);
    found.entry.name = "stdin";
    found.path = "-";
    return found;
  }
  std::string path = source.shown;
  if (!source.contents) path = path.substr(0, path.size() - source.name.size());
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  auto folder = std::make_shared<SourceFolder>(std::move(source.folder), path, open_folders_);
  if (source.contents) {
    levels_.push_back({std::move(folder), 0, {}});
    return std::nullopt;
  }
  return look_at({std::move(folder), 0, {}}, source.name);
}

std::optional<Found> Walk::look_at(const Level& level, const std::string& name) {
  Found found;
  found.folder = level.folder;
  found.name = name;
  const std::string& above = level.folder->path();
  found.path = above.empty() || above.back() == '/' ? above + name : above + "/" + name;
  const std::string below = level.below + name;
  struct stat status = {};
  if (::fstatat(level.folder->fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    // What the user named has to be there; what was just listed has gone since.
    const bool vanished = errno == ENOENT && !level.below.empty();
    on_trouble_(vanished ? Trouble::changed : Trouble::source, errno, found.path);
    return std::nullopt;
  }
  const bool is_folder = S_ISDIR(status.st_mode);
  const bool excluded = std::ranges::any_of(
      excludes_, [&](const Exclude& exclude) { return exclude.matches(below, name, is_folder); });
  if (excluded || !fill(found, status, level)) return std::nullopt;
  if (is_folder && !enter(found, below)) return std::nullopt;
  found.entry.id = ++last_id_;
  if (is_folder) levels_.back().id = last_id_;
  if (found.entry.has_links) linked_.emplace(std::pair(status.st_dev, status.st_ino), last_id_);
  if (xattrs_) read_xattrs(found);
  return found;
}

/// All but the id; false if there is nothing to send.
bool Walk::fill(Found& found, const struct stat& status, const Level& level) {
  Entry& entry = found.entry;
  entry.parent = level.id;
  entry.name = found.name;
  entry.mode = status.st_mode & 0777;
  entry.mtime_s = status.st_mtim.tv_sec;
  entry.mtime_ns = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
  entry.uid = status.st_uid;
  entry.gid = status.st_gid;
  if (S_ISDIR(status.st_mode)) {
    entry.kind = EntryKind::folder;
    return true;
  }
  if (S_ISLNK(status.st_mode)) {
    entry.kind = EntryKind::symlink;
    std::array<char, path_bytes_max + 1> target;
    const ssize_t size =
        ::readlinkat(level.folder->fd(), found.name.c_str(), target.data(), target.size());
    if (size < 0 || static_cast<std::size_t>(size) == target.size()) {
      on_trouble_(Trouble::source, size < 0 ? errno : ENAMETOOLONG, found.path);
      return false;
    }
    entry.target.assign(target.data(), static_cast<std::size_t>(size));
    return true;
  }
  if (!S_ISREG(status.st_mode)) {
    on_trouble_(Trouble::refused, EOPNOTSUPP, found.path);
    return false;
  }
  entry.kind = EntryKind::file;
  entry.size = static_cast<std::uint64_t>(status.st_size);
  if (status.st_nlink == 1) return true;
  const auto first = linked_.find({status.st_dev, status.st_ino});
  if (first != linked_.end()) {
    entry.kind = EntryKind::hard_link;
    entry.link_to = first->second;
    entry.size = 0;
  } else {
    entry.has_links = linked_.size() < linked_files_max;
  }
  return true;
}

/// Makes the folder the next to be read.
bool Walk::enter(const Found& found, const std::string& below) {
  if (levels_.size() >= source_depth_max) {
    on_trouble_(Trouble::source, ENAMETOOLONG, found.path);
    return false;
  }
  UniqueFd fd(::openat(found.folder->fd(), found.name.c_str(), source_flags | O_NOFOLLOW));
  if (!fd) {
    on_trouble_(
        errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? Trouble::changed : Trouble::source,
        errno, found.path);
    return false;
  }
  levels_.push_back(
      {std::make_shared<SourceFolder>(std::move(fd), found.path, open_folders_), 0, below + "/"});
  return true;
}

/// Those of users: the others are the system's own affair on each side.
void Walk::read_xattrs(Found& found) const {
  if (found.entry.kind != EntryKind::file && found.entry.kind != EntryKind::folder) return;
  const UniqueFd file(::openat(found.folder->fd(), found.name.c_str(),
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file) return;  // whoever reads the content says so
  std::string names(64 * 1024, '\0');
  const ssize_t size = ::flistxattr(file.get(), names.data(), names.size());
  names.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  std::size_t total = 0;
  for (std::size_t begin = 0; begin < names.size();) {
    const std::string name = names.c_str() + begin;
    begin += name.size() + 1;
    if (!name.starts_with("user.")) continue;
    std::string value(xattr_bytes_max, '\0');
    const ssize_t length = ::fgetxattr(file.get(), name.c_str(), value.data(), value.size());
    value.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
    total += name.size() + value.size();
    const bool fits = found.entry.xattrs.size() < xattrs_max && total <= body_bytes_max / 2;
    if (length >= 0 && fits) {
      found.entry.xattrs.push_back({name, std::move(value)});
    } else {
      on_trouble_(Trouble::source, length < 0 ? errno : E2BIG, found.path);
    }
  }
}

}  // namespace xenlane::bridge::files

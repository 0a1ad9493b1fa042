#include "bridge/files/tree.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

constexpr int enter_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
/// Until it is whole, for its owner alone.
constexpr mode_t mode_meanwhile = 0700;

}  // namespace

Attributes attributes_of(const Entry& entry, bool xattrs, bool owner) {
  Attributes out;
  out.mode = entry.mode;
  out.mtime_s = entry.mtime_s;
  out.mtime_ns = entry.mtime_ns;
  out.owner = owner;
  out.uid = entry.uid;
  out.gid = entry.gid;
  if (!xattrs) return out;
  for (const Xattr& xattr : entry.xattrs) {
    if (xattr.name.starts_with("user.")) out.xattrs.push_back(xattr);
  }
  return out;
}

int set_xattrs(int fd, const std::vector<Xattr>& xattrs) {
  for (const Xattr& xattr : xattrs) {
    if (::fsetxattr(fd, xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) != 0) {
      return errno;
    }
  }
  return 0;
}

int set_attributes(int fd, const Attributes& attributes) {
  if (const int error = set_xattrs(fd, attributes.xattrs); error != 0) return error;
  // The owner before the mode: the kernel takes bits away with the former.
  if (attributes.owner && ::fchown(fd, attributes.uid, attributes.gid) != 0) return errno;
  if (::fchmod(fd, attributes.mode) != 0) return errno;
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT},
                             {.tv_sec = attributes.mtime_s, .tv_nsec = attributes.mtime_ns}};
  return ::futimens(fd, times) == 0 ? 0 : errno;
}

Tree::Tree(UniqueFd root) : root_(std::move(root)) {}

int Tree::add(std::uint32_t id, std::uint32_t parent, const std::string& name,
              Attributes attributes, bool dry) {
  Folder folder;
  folder.parent = parent;
  folder.depth = depth(parent) + 1;
  folder.name = name;
  folder.attributes = std::move(attributes);
  folder.error = make(id, folder, dry);
  folder.attributes.xattrs = {};
  const int error = folder.error;
  folders_.emplace(id, std::move(folder));
  ids_.push_back(id);
  return error;
}

void Tree::add_failed(std::uint32_t id, int error) {
  Folder folder;
  folder.error = error;
  folders_.emplace(id, std::move(folder));
}

int Tree::make(std::uint32_t id, Folder& folder, bool dry) {
  if (dry && is_new(folder.parent)) {
    folder.is_new = true;
    return 0;
  }
  const int above = fd(folder.parent);
  if (above < 0) {
    if (!dry || errno != ENOENT) return errno;
    folder.is_new = true;
    return 0;
  }
  if (!dry) {
    folder.is_new = ::mkdirat(above, folder.name.c_str(), mode_meanwhile) == 0;
    if (!folder.is_new && errno != EEXIST) return errno;
  }
  UniqueFd opened(::openat(above, folder.name.c_str(), enter_flags));
  if (!opened && dry && errno == ENOENT) {
    folder.is_new = true;
    return 0;
  }
  struct stat status = {};
  if (!opened || ::fstat(opened.get(), &status) != 0) return errno;
  folder.device = status.st_dev;
  folder.inode = status.st_ino;
  if (!dry) folder.xattrs_error = set_xattrs(opened.get(), folder.attributes.xattrs);
  keep(id, std::move(opened));
  return 0;
}

std::string Tree::path(std::uint32_t id) const {
  std::string path;
  for (; id != 0; id = folders_.at(id).parent) path = folders_.at(id).name + "/" + path;
  return path;
}

int Tree::keep(std::uint32_t id, UniqueFd fd) {
  if (open_.size() >= open_folders_max) {
    open_by_id_.erase(open_.back().id);
    open_.pop_back();
  }
  open_.push_front({id, std::move(fd)});
  open_by_id_[id] = open_.begin();
  return open_.front().fd.get();
}

int Tree::fd(std::uint32_t id) {
  if (id == 0) {
    if (!root_) errno = ENOENT;
    return root_.get();
  }
  if (const auto found = open_by_id_.find(id); found != open_by_id_.end()) {
    open_.splice(open_.begin(), open_, found->second);
    return open_.front().fd.get();
  }
  const Folder& folder = folders_.at(id);
  // No deeper than the quota of depth, or a name's length on the sender's own disk.
  const int above = fd(folder.parent);
  if (above < 0) return -1;
  UniqueFd opened(::openat(above, folder.name.c_str(), enter_flags));
  struct stat status = {};
  if (!opened || ::fstat(opened.get(), &status) != 0) return -1;
  if (status.st_dev != folder.device || status.st_ino != folder.inode) {
    errno = ESTALE;
    return -1;
  }
  return keep(id, std::move(opened));
}

int Tree::finish(std::uint32_t id, const Folder& folder) {
  const int opened = fd(id);
  if (opened < 0) return errno;
  const int error = set_attributes(opened, folder.attributes);
  return error != 0 ? error : folder.xattrs_error;
}

}  // namespace xenlane::bridge::files

#include "bridge/files/incoming.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "bridge/files/digest.hpp"
#include "bridge/files/names.hpp"

namespace xenlane::bridge::files {

using transport::UniqueFd;

namespace {

constexpr mode_t mode_meanwhile = 0600;
constexpr std::size_t zeros_bytes = 256 * 1024;

boost::system::error_code error_of(int error) {
  return {error, boost::system::generic_category()};
}

/// Links the file of a descriptor into a folder. Only root may do it without /proc (open(2)).
int link_in(int fd, int folder, const char* name) {
  if (::linkat(fd, "", folder, name, AT_EMPTY_PATH) == 0) return 0;
  if (errno != ENOENT && errno != EPERM) return errno;
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  return ::linkat(AT_FDCWD, path.c_str(), folder, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

}  // namespace

FileState state_of(const struct stat& status) {
  return {status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size),
          status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
}

boost::system::result<Incoming> Incoming::begin(int folder, const std::string& name, bool keep,
                                                const Basis* basis) {
  Incoming file;
  file.name_ = name;
  if (folder < 0) {
    file.is_stdout_ = true;
    return file;
  }
  int error = keep ? file.open_partial(folder, basis) : file.open_fresh(folder);
  if (error == 0) error = file.learn();
  if (error != 0) return error_of(error);
  return file;
}

int Incoming::learn() {
  struct stat status = {};
  if (::fstat(fd_.get(), &status) != 0) return errno;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  return 0;
}

int Incoming::open_fresh(int folder) {
  fd_ = UniqueFd(::openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode_meanwhile));
  if (fd_) return 0;
  // File systems without such files, and folders that are gone.
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return errno;
  return open_partial(folder, nullptr);
}

int Incoming::open_partial(int folder, const Basis* basis) {
  const std::uint64_t offset = basis == nullptr ? 0 : basis->bytes;
  const std::string partial = partial_name(name_);
  constexpr int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  for (int attempt = 0; attempt < 3; ++attempt) {
    fd_ = UniqueFd(::openat(folder, partial.c_str(), flags, mode_meanwhile));
    if (!fd_ && errno != ELOOP && errno != EISDIR && errno != ENXIO) return errno;
    struct stat status = {};
    struct stat named = {};
    const bool ours = fd_ && ::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode) &&
                      status.st_uid == ::geteuid() && status.st_nlink <= 1;
    if (!ours) {
      // Somebody else's, or no file at all: its content is nothing to go on with.
      if (offset != 0 || ::unlinkat(folder, partial.c_str(), 0) != 0) return ESTALE;
      continue;
    }
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) return EBUSY;
    // Whoever held it may have given it its name meanwhile.
    if (::fstatat(folder, partial.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
        named.st_ino != status.st_ino || named.st_dev != status.st_dev) {
      continue;
    }
    // Its digest was taken before it was locked.
    if (basis != nullptr && state_of(status) != basis->state) return ESTALE;
    // Not where it changes nothing: ext4 starts to write out on close what was truncated to nothing
    // once (ext4(5), auto_da_alloc), and whoever closes waits.
    const auto begin = static_cast<off_t>(offset);
    if (status.st_size != begin && ::ftruncate(fd_.get(), begin) != 0) return errno;
    if (::lseek(fd_.get(), begin, SEEK_SET) < 0) return errno;
    has_name_ = true;
    size_ = offset;
    return 0;
  }
  return EBUSY;
}

int Incoming::write(BytesView bytes) {
  const int fd = is_stdout_ ? STDOUT_FILENO : fd_.get();
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    size_ += static_cast<std::uint64_t>(written);
    ends_in_hole_ = false;
  }
  return 0;
}

int Incoming::skip(std::uint64_t length) {
  if (is_stdout_) {
    const Bytes zeros(static_cast<std::size_t>(std::min<std::uint64_t>(length, zeros_bytes)));
    for (; length > 0; length -= std::min<std::uint64_t>(length, zeros_bytes)) {
      const auto piece = static_cast<std::size_t>(std::min<std::uint64_t>(length, zeros_bytes));
      if (const int error = write(BytesView(zeros).first(piece)); error != 0) return error;
    }
    return 0;
  }
  if (::lseek(fd_.get(), static_cast<off_t>(size_ + length), SEEK_SET) < 0) return errno;
  size_ += length;
  ends_in_hole_ = true;
  return 0;
}

int Incoming::verify(DigestKind kind, const Digest& digest) {
  if (is_stdout_) return 0;
  if (ends_in_hole_ && ::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) return errno;
  // From the disk, not from the cache that it was just written to.
  if (::fdatasync(fd_.get()) != 0) return errno;
  ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
  Hasher hasher(kind);
  if (!hash_begin(fd_.get(), size_, hasher)) return EIO;
  return hasher.digest() == digest ? 0 : EIO;
}

int Incoming::place(int folder, const Attributes& attributes) {
  if (is_stdout_) return 0;
  if (ends_in_hole_ && ::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) return errno;
  if (const int error = set_attributes(fd_.get(), attributes); error != 0) return error;
  if (!has_name_) {
    const int error = link_in(fd_.get(), folder, name_.c_str());
    if (error != EEXIST) return error;
    // A link cannot replace another name, a renaming can.
    const std::string partial = partial_name(name_);
    if (::unlinkat(folder, partial.c_str(), 0) != 0 && errno != ENOENT) return errno;
    if (const int linked = link_in(fd_.get(), folder, partial.c_str()); linked != 0) return linked;
    has_name_ = true;
  }
  const std::string partial = partial_name(name_);
  if (::renameat(folder, partial.c_str(), folder, name_.c_str()) != 0) return errno;
  has_name_ = false;
  return 0;
}

void Incoming::discard(int folder) {
  if (has_name_ && folder >= 0) ::unlinkat(folder, partial_name(name_).c_str(), 0);
  has_name_ = false;
}

std::optional<Basis> basis_of(int folder, const std::string& name, std::uint64_t bytes_max,
                              DigestKind kind) {
  const UniqueFd file(
      ::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status = {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_uid != ::geteuid()) {
    return std::nullopt;
  }
  Basis basis{std::min(static_cast<std::uint64_t>(status.st_size), bytes_max), Hasher(kind),
              state_of(status)};
  if (basis.bytes == 0 || !hash_begin(file.get(), basis.bytes, basis.hasher)) return std::nullopt;
  return basis;
}

}  // namespace xenlane::bridge::files

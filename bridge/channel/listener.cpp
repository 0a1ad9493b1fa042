#include "bridge/channel/listener.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "bridge/channel/target.hpp"

namespace xenlane::bridge {
namespace {

SocketError socket_error(int error, const char* action, const std::string& path) {
  const std::error_code code(error, std::generic_category());
  return {code, fmt::format("{}: cannot {}: {}", path, action, code.message())};
}

/// A name nobody else uses in the folder of `path`. Threads and processes differ in it; what a
/// dead process left under the same name is removed by the caller.
std::string temporary_beside(const std::string& path) {
  static std::atomic<unsigned> count{0};
  return fmt::format("{}.{:x}-{:x}", path.substr(0, path.rfind('/') + 1), ::getpid(),
                     count.fetch_add(1));
}

/// Removes the temporary file unless it was renamed to its final name.
struct TemporaryFile {
  std::string path;
  bool kept = false;
  explicit TemporaryFile(std::string where) : path(std::move(where)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!kept) ::unlink(path.c_str());
  }
};

}  // namespace

boost::system::result<ListenerSocket, SocketError> listen_unix(const std::string& path, mode_t mode,
                                                               uid_t uid, gid_t gid, int backlog,
                                                               SocketKind kind) {
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos) {
    return socket_error(EINVAL, "listen on a path that is not absolute", path);
  }
  const std::string temporary = temporary_beside(path);
  if (path.size() > unix_path_bytes_max || temporary.size() > unix_path_bytes_max) {
    return socket_error(ENAMETOOLONG, "listen", path);
  }
  struct stat found = {};
  if (::lstat(path.c_str(), &found) == 0 && !S_ISSOCK(found.st_mode)) {
    return socket_error(EEXIST, "replace what is not a socket", path);
  }

  ListenerSocket listener;
  listener.path = path;
  const int type = kind == SocketKind::seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
  listener.fd.reset(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.fd) return socket_error(errno, "make a socket", path);

  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(static_cast<char*>(address.sun_path), temporary.data(), temporary.size());
  ::unlink(temporary.c_str());
  if (::bind(listener.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0) {
    return socket_error(errno, "bind", path);
  }
  TemporaryFile file(temporary);
  // Nobody can connect before listen(), so the mode that bind() gave it is never of use to anyone.
  if (::lchown(temporary.c_str(), uid, gid) < 0) return socket_error(errno, "set the owner", path);
  if (::chmod(temporary.c_str(), mode) < 0) return socket_error(errno, "set the mode", path);
  if (::listen(listener.fd.get(), backlog) < 0) return socket_error(errno, "listen", path);
  if (::lstat(temporary.c_str(), &found) < 0) return socket_error(errno, "look at", path);
  listener.device = found.st_dev;
  listener.inode = found.st_ino;
  if (::rename(temporary.c_str(), path.c_str()) < 0) return socket_error(errno, "rename", path);
  file.kept = true;
  return listener;
}

bool unlink_if_ours(const std::string& path, dev_t device, ino_t inode) {
  struct stat found = {};
  if (::lstat(path.c_str(), &found) < 0) return false;
  if (found.st_dev != device || found.st_ino != inode) return false;
  return ::unlink(path.c_str()) == 0;
}

}  // namespace xenlane::bridge

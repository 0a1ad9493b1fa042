// Making and removing the file of a listening Unix socket. A socket appears under its name in one
// step, already listening and with its final owner and mode, and replaces a stale one: it is bound
// to a temporary name in the same folder and renamed. No event loop in here.
#pragma once

#include <sys/types.h>

#include <boost/system/result.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "bridge/wire/frame.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// What failed, with the path; `code` is in the generic category (an errno value).
struct SocketError {
  std::error_code code;
  std::string text;
};

[[noreturn]] inline void throw_exception_from_error(const SocketError& error,
                                                    const boost::source_location& /*where*/) {
  throw std::system_error(error.code, error.text);
}

/// A listening socket (close-on-exec, non-blocking) and the identity of its file.
struct ListenerSocket {
  transport::UniqueFd fd;
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

/// Listens on `path` (absolute, at most unix_path_bytes_max bytes; its folder must exist). `uid`
/// or `gid` of -1 leaves that as it is. A socket file in the way is replaced, even a live one; any
/// other kind of file is left alone and reported as EEXIST.
boost::system::result<ListenerSocket, SocketError> listen_unix(
    const std::string& path, mode_t mode, uid_t uid, gid_t gid, int backlog,
    SocketKind kind = SocketKind::stream);

/// Removes `path` if it still is the file that this daemon made, so that a successor's socket is
/// spared. True when it was removed.
bool unlink_if_ours(const std::string& path, dev_t device, ino_t inode);

}  // namespace xenlane::bridge

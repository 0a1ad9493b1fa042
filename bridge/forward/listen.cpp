#include "bridge/forward/listen.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace xenlane::bridge {

namespace {

using transport::UniqueFd;
using Sockets = boost::system::result<std::vector<ForwardSocket>, SocketError>;

SocketError listen_error(int error, const ForwardAddress& address) {
  const std::error_code code(error, std::generic_category());
  return {code, fmt::format("{}: cannot listen: {}", address.uri(), code.message())};
}

bool somebody_listens(const std::string& path) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int made =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return made == 0 || errno == EAGAIN;
}

Sockets listen_path(const ForwardAddress& address) {
  if (somebody_listens(address.path())) return listen_error(EADDRINUSE, address);
  auto made =
      listen_unix(address.path(), 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), SOMAXCONN);
  if (!made) return made.error();
  std::vector<ForwardSocket> sockets(1);
  sockets.front().fd = std::move(made->fd);
  sockets.front().file = std::move(*made);
  return sockets;
}

/// The socket, or an errno value.
boost::system::result<UniqueFd> listen_tcp(const addrinfo& at, bool only_ipv6) {
  const auto failed = [] {
    return boost::system::error_code(errno, boost::system::generic_category());
  };
  UniqueFd fd(::socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd) return failed();
  const int on = 1;
  const int only = only_ipv6 ? 1 : 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.ai_family == AF_INET6) {
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  }
  if (::bind(fd.get(), at.ai_addr, at.ai_addrlen) != 0) return failed();
  if (::listen(fd.get(), SOMAXCONN) != 0) return failed();
  return fd;
}

/// Names of the machine's addresses, in the order in which they are tried.
std::vector<std::string> hosts_of(const ForwardAddress& address) {
  if (address.host_kind() == HostKind::any) return {"0.0.0.0", "::"};
  if (address.host() == "localhost") return {"127.0.0.1", "::1"};
  return {address.host()};
}

}  // namespace

Sockets listen_forward(const ForwardAddress& address) {
  if (address.is_unix()) return listen_path(address);
  std::vector<ForwardSocket> sockets;
  SocketError error = listen_error(EADDRNOTAVAIL, address);
  for (const std::string& host : hosts_of(address)) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const int found =
        ::getaddrinfo(host.c_str(), std::to_string(address.port()).c_str(), &hints, &list);
    if (found != 0) {
      error.text = fmt::format("{}: {}", address.uri(), ::gai_strerror(found));
      continue;
    }
    auto fd = listen_tcp(*list, true);
    ::freeaddrinfo(list);
    if (fd) {
      sockets.emplace_back().fd = std::move(*fd);
      continue;
    }
    // That a machine has no IPv6 is no reason; that somebody else has the port there is.
    const int why = fd.error().value();
    const bool no_such_family = why == EAFNOSUPPORT || why == EADDRNOTAVAIL;
    if (sockets.empty() || !no_such_family) {
      error = listen_error(why, address);
      if (!no_such_family) return error;
    }
  }
  if (sockets.empty()) return error;
  return sockets;
}

void unlink_forward(const std::vector<ForwardSocket>& sockets) {
  for (const ForwardSocket& one : sockets) {
    if (!one.file.path.empty()) unlink_if_ours(one.file.path, one.file.device, one.file.inode);
  }
}

}  // namespace xenlane::bridge

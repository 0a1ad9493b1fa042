#include "transport/xensim/hypervisor/dropin/connection.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace xensim::dropin {

Connection::~Connection() {
  if (fd_ >= 0) ::close(fd_);
  ::pthread_mutex_destroy(&mutex_);
}

bool Connection::open(wire::Op op, Extras& extras) {
  const char* path = ::secure_getenv("XENSIM_HV");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path == nullptr || *path == '\0' || std::strlen(path) >= sizeof address.sun_path) {
    errno = ENOENT;
    return false;
  }
  std::strcpy(address.sun_path, path);
  fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return false;
  owner_ = ::getpid();
  const timeval timeout{wire::reply_timeout_s, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    errno = ENOENT;
    return false;
  }
  wire::Request request;
  request.op = op;
  wire::Reply reply;
  return ask(request, reply, extras);
}

bool Connection::ask(const wire::Request& request, wire::Reply& reply, Extras& extras) {
  const Lock lock(mutex_);
  if (!send(request, extras) || !receive(reply, extras)) {
    if (errno == EPIPE || errno == ECONNRESET) errno = EIO;
    if (errno == EAGAIN) errno = ETIMEDOUT;
    return false;
  }
  if (reply.error != 0) {
    errno = reply.error;
    return false;
  }
  return true;
}

void Connection::release() {
  if (fd_ < 0 || owner_ != ::getpid()) return;
  wire::Request request;
  request.op = wire::Op::close;
  wire::Reply reply;
  Extras none;
  const int saved = errno;
  ask(request, reply, none);
  errno = saved;
}

bool Connection::send(const wire::Request& request, const Extras& extras) {
  iovec parts[2] = {
      {const_cast<wire::Request*>(&request), sizeof request},
      {const_cast<std::uint32_t*>(extras.words_out),
       extras.words_out_count * sizeof(std::uint32_t)},
  };
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (extras.fd_out >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &extras.fd_out, sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

bool Connection::receive(wire::Reply& reply, Extras& extras) {
  iovec parts[2] = {
      {&reply, sizeof reply},
      {extras.words_in, extras.words_in_room * sizeof(std::uint32_t)},
  };
  alignas(cmsghdr) char control[CMSG_SPACE(wire::max_fds * sizeof(int))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return false;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (extras.fds_in_count < extras.fds_in_room) {
        extras.fds_in[extras.fds_in_count++] = fd;
      } else {
        ::close(fd);
      }
    }
  }
  if (static_cast<std::size_t>(got) < sizeof reply) {
    errno = EIO;
    return false;
  }
  return true;
}

}  // namespace xensim::dropin

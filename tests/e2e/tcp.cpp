#include "tests/e2e/tcp.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace xenlane::tests {

using transport::UniqueFd;

namespace {

constexpr int longest_wait_ms = 60'000;

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

UniqueFd listen_somewhere(int& port) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::listen(listener.get(), SOMAXCONN), 0);
  EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  port = ntohs(address.sin_port);
  return listener;
}

bool await_events(int socket, short events) {
  pollfd poll{socket, events, 0};
  return ::poll(&poll, 1, longest_wait_ms) == 1;
}

}  // namespace

int free_port() {
  int port = 0;
  listen_somewhere(port);
  return port;
}

TcpServer::TcpServer(Service::Handler handler) : handler_(std::move(handler)) {
  listener_ = listen_somewhere(port_);
  acceptor_ = std::thread([this] { serve(); });
}

TcpServer::~TcpServer() {
  ::shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
}

void TcpServer::serve() {
  for (;;) {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) return;
    threads_.emplace_back([this, fd = client.release()] {
      const UniqueFd owned(fd);
      handler_(fd);
    });
  }
}

UniqueFd connect_port(int port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    socket.reset();
  }
  return socket;
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    if (!await_events(socket, POLLOUT)) return false;
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string receive_bytes(int socket, std::size_t count, int& error) {
  std::string got;
  error = 0;
  std::array<char, 65536> bytes;
  while (got.size() < count) {
    if (!await_events(socket, POLLIN)) {
      error = ETIME;
      return got;
    }
    const std::size_t room = std::min(bytes.size(), count - got.size());
    const ssize_t read = ::recv(socket, bytes.data(), room, MSG_DONTWAIT);
    if (read < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (read < 0) error = errno;
    if (read <= 0) return got;
    got.append(bytes.data(), static_cast<std::size_t>(read));
  }
  return got;
}

void close_with_reset(UniqueFd socket) {
  const linger at_once{1, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace xenlane::tests

// The services that the end-to-end tests run: what stands behind a channel's target.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "tests/e2e/sockets.hpp"

namespace xenlane::tests {

namespace {

transport::UniqueFd listen_on(const std::string& path) {
  transport::UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 256) != 0) {
    ADD_FAILURE() << path << ": " << std::strerror(errno);
  }
  return listener;
}

bool write_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

}  // namespace

Service::Service(const std::string& path, Handler handler)
    : path_(path),
      handler_(std::move(handler)),
      listener_(listen_on(path)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      acceptor_([this] { accept_connections(); }) {}

Service::~Service() {
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [socket, open] : sockets_) ::shutdown(socket, SHUT_RDWR);
  }
  for (auto& thread : threads_) thread.join();
  ::unlink(path_.c_str());
}

void Service::accept_connections() {
  for (;;) {
    std::array<pollfd, 2> polls{pollfd{listener_.get(), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
    ::poll(polls.data(), polls.size(), -1);
    if (polls[1].revents != 0) return;
    const int socket = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    ++open_;
    {
      const std::lock_guard lock(mutex_);
      sockets_[socket] = true;
    }
    threads_.emplace_back([this, socket] {
      handler_(socket);
      const std::lock_guard lock(mutex_);
      sockets_.erase(socket);
      ::close(socket);
      --open_;
    });
  }
}

void echo(int socket) {
  std::vector<char> buffer(chunk_bytes);
  for (;;) {
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0 || !write_all(socket, {buffer.data(), static_cast<std::size_t>(got)})) return;
  }
}

namespace {

Digest digest_to_end(int socket) {
  Digest digest;
  std::vector<char> buffer(chunk_bytes);
  for (;;) {
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) return digest;
    digest.add({buffer.data(), static_cast<std::size_t>(got)});
  }
}

}  // namespace

void answer_digest(int socket) {
  write_all(socket, digest_to_end(socket).text());
}

void send_source(int socket) {
  std::string line;
  char byte = 0;
  while (::recv(socket, &byte, 1, 0) == 1 && byte != '\n') line += byte;
  std::istringstream request(line);
  std::uint64_t seed = 0;
  std::uint64_t count = 0;
  request >> seed >> count;
  Pattern pattern(seed);
  std::vector<char> chunk(chunk_bytes);
  while (count > 0) {
    const std::size_t now = std::min<std::uint64_t>(count, chunk.size());
    pattern.fill(std::span(chunk).first(now));
    if (!write_all(socket, {chunk.data(), now})) return;
    count -= now;
  }
}

Service::Handler finish_then_collect(std::function<void(std::string)> report) {
  return [report = std::move(report)](int socket) {
    write_all(socket, "done");
    ::shutdown(socket, SHUT_WR);
    report(digest_to_end(socket).text());
  };
}

void send_part_and_stay(int socket) {
  write_all(socket, "part");
  pollfd poll{socket, 0, 0};  // POLLHUP needs no asking for
  ::poll(&poll, 1, -1);
}

EchoProcess::EchoProcess(const std::string& path) {
  const transport::UniqueFd listener = listen_on(path);
  pid_ = ::fork();
  if (pid_ != 0) {
    ::setpgid(pid_, pid_);
    return;
  }
  // The test has threads: only plain system calls from here on. None of its sockets is to live on
  // in here.
  ::setpgid(0, 0);
  const auto keep = static_cast<unsigned>(listener.get());
  if (keep > 3) ::syscall(SYS_close_range, 3U, keep - 1, 0U);
  ::syscall(SYS_close_range, keep + 1, ~0U, 0U);
  ::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    const int socket = ::accept4(listener.get(), nullptr, nullptr, 0);
    if (socket < 0) ::_exit(1);
    if (::fork() == 0) {
      static char buffer[chunk_bytes];
      for (;;) {
        const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
        if (got <= 0 || !write_all(socket, {buffer, static_cast<std::size_t>(got)})) ::_exit(0);
      }
    }
    ::close(socket);
  }
}

void EchoProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace xenlane::tests

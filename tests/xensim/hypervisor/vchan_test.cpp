// Debian's unmodified vchan-socket-proxy, libxenvchan and libxenstore move a file through xensim.
//
// The proxy drops what is in flight when either side ends, so nobody ends before the last byte is
// there: both Unix sockets belong to this test.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

#include "tests/xensim/hypervisor/simulator.hpp"
#include "transport/base/unique_fd.hpp"

namespace xensim_test {
namespace {

using xenlane::transport::UniqueFd;

constexpr const char* proxy = "/usr/lib/xen-4.17/bin/vchan-socket-proxy";
constexpr std::size_t file_bytes = std::size_t{16} << 20;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

UniqueFd listen_at(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(fd.get(), 1), 0);
  return fd;
}

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fd.reset();
  }
  return fd;
}

/// A proxy in a domain, killed when it goes out of scope.
class Proxy {
 public:
  Proxy(const Simulator& sim, const std::string& domain, const std::string& arguments) {
    const std::string command = "exec " XENSIM_PROGRAM " exec " + domain + " --dir " + sim.dir() +
                                " -- " + proxy + " " + arguments;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~Proxy() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

 private:
  pid_t pid_;
};

std::string random_file() {
  std::mt19937_64 random(20'250'101);
  std::string data(file_bytes, '\0');
  for (std::size_t i = 0; i < file_bytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    data.replace(i, sizeof word, reinterpret_cast<const char*>(&word), sizeof word);
  }
  return data;
}

/// Sends `data` into `from` and returns what comes out of `to`.
std::string carry(const std::string& data, int from, int to) {
  std::thread writer([&] {
    for (std::size_t done = 0; done < data.size();) {
      const ssize_t sent = ::send(from, data.data() + done, data.size() - done, MSG_NOSIGNAL);
      if (sent <= 0) break;
      done += static_cast<std::size_t>(sent);
    }
  });
  std::string received(data.size(), '\0');
  std::size_t got_bytes = 0;
  while (got_bytes < received.size()) {
    pollfd waiting{to, POLLIN, 0};
    if (::poll(&waiting, 1, 20'000) != 1) break;
    const ssize_t got = ::recv(to, received.data() + got_bytes, received.size() - got_bytes, 0);
    if (got <= 0) break;
    got_bytes += static_cast<std::size_t>(got);
  }
  if (got_bytes < received.size()) ::shutdown(from, SHUT_RDWR);
  writer.join();
  received.resize(got_bytes);
  return received;
}

TEST(VchanSocketProxy, MovesAFileBothWaysIntact) {
  if (!std::filesystem::exists(proxy)) GTEST_SKIP() << "install xen-utils-4.17 for " << proxy;
  const Simulator sim("--guest web");
  const std::string guest_socket = sim.dir() + "/dom/1/run/service";
  const std::string host_socket = sim.dir() + "/dom/0/run/client";
  const UniqueFd service = listen_at(guest_socket);
  const Proxy server(sim, "web", "--mode=server 0 data/vchan " + guest_socket);
  const Proxy client(sim, "0", "--mode=client 1 /local/domain/1/data/vchan " + host_socket);
  UniqueFd host_end;
  ASSERT_TRUE(eventually([&] {
    host_end = connect_to(host_socket);
    return static_cast<bool>(host_end);
  }));
  pollfd waiting{service.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&waiting, 1, 20'000), 1) << "the server never heard of its client";
  const UniqueFd guest_end(::accept4(service.get(), nullptr, nullptr, SOCK_CLOEXEC));

  const std::string file = random_file();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(carry(file, host_end.get(), guest_end.get()) == file) << "host to guest";
  const auto middle = std::chrono::steady_clock::now();
  EXPECT_TRUE(carry(file, guest_end.get(), host_end.get()) == file) << "guest to host";
  const auto end = std::chrono::steady_clock::now();
  const auto mb_per_s = [](auto from, auto to) {
    return static_cast<int>(file_bytes / 1e6 / std::chrono::duration<double>(to - from).count());
  };
  RecordProperty("to_guest_mb_per_s", mb_per_s(start, middle));
  RecordProperty("to_host_mb_per_s", mb_per_s(middle, end));
}

}  // namespace
}  // namespace xensim_test

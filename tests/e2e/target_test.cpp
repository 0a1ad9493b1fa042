// Targets that are not programs: TCP services, and services that are told who asks.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <thread>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::HasSubstr;
using transport::UniqueFd;

/// Listens on 127.0.0.1 and serves one connection after another.
class TcpService {
 public:
  explicit TcpService(Service::Handler handler) : handler_(std::move(handler)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~TcpService() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  TcpService(const TcpService&) = delete;
  TcpService& operator=(const TcpService&) = delete;

  int port() const { return port_; }

 private:
  void serve() {
    for (;;) {
      const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) return;
      handler_(client.get());
    }
  }

  Service::Handler handler_;
  UniqueFd listener_;
  int port_ = 0;
  std::thread thread_;
};

/// A guest whose channel org.test.out is dialled on the host.
class Dialled {
 public:
  explicit Dialled(const std::string& target, const std::string& more = "") {
    write_file(world.host_config_path(),
               world.host_config() +
                   channel("org.test.out", "dial", "", "target = \"" + target + "\"\n" + more));
    write_file(world.guest_config_path("web"),
               world.guest_config("web") + channel("org.test.out", "listen"));
    world.start();
    socket = world.guest_socket("web", "org.test.out");
  }
  World world{{"web:7"}};
  std::string socket;
};

TEST(Target, TcpServiceIsReachedByAddressAndByName) {
  const TcpService service(echo);
  for (const std::string host : {"127.0.0.1", "localhost"}) {
    Dialled there("tcp:" + host + ":" + std::to_string(service.port()));
    std::array<Client, 1> clients{Client(there.socket)};
    EXPECT_TRUE(exchange_with_echo(clients, 4 * mebibyte)) << host;
  }
}

TEST(Target, TcpServiceThatIsNotThereIsSaidAtOnce) {
  Dialled there("tcp:127.0.0.1:1");
  const Outcome outcome = there.world.tool("web", {"connect", "org.test.out"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("ECONNREFUSED"));
  EXPECT_THAT(outcome.err, HasSubstr("tcp:127.0.0.1:1"));
}

TEST(Target, NameThatDoesNotExistIsRefused) {
  Dialled there("tcp:no-such-host.invalid:80");
  const Outcome outcome = there.world.tool("web", {"connect", "org.test.out"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("tcp:no-such-host.invalid:80"));
}

// An end that looks good would pass a truncated stream for a whole one.
TEST(Target, TcpServiceSeesThatAStreamBroke) {
  std::promise<int> seen;
  const TcpService service([&](int socket) {
    std::array<char, 16> bytes;
    if (::recv(socket, bytes.data(), bytes.size(), 0) <= 0) return;
    ::send(socket, bytes.data(), 1, MSG_NOSIGNAL);
    const ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
    seen.set_value(got < 0 ? errno : 0);
  });
  Dialled there("tcp:127.0.0.1:" + std::to_string(service.port()));
  Client client(there.socket);
  ASSERT_TRUE(client.send("x"));
  pollfd answer{client.fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&answer, 1, 30'000), 1);
  client.close();  // without having read it: that breaks the stream
  EXPECT_EQ(seen.get_future().get(), ECONNRESET);
}

std::uint32_t u32_at(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes.at(i));
  }
  return value;
}

/// The value of one TLV of a PROXY header of version 2 with addresses of Unix sockets.
std::string tlv_of(const std::string& header, unsigned char type) {
  constexpr std::size_t addresses_end = 16 + 216;
  for (std::size_t at = addresses_end; at + 3 <= header.size();) {
    const std::size_t size = static_cast<unsigned char>(header[at + 1]) * 256U +
                             static_cast<unsigned char>(header[at + 2]);
    if (static_cast<unsigned char>(header[at]) == type) return header.substr(at + 3, size);
    at += 3 + size;
  }
  return "(none)";
}

TEST(Target, ServiceIsToldWhoAsksBeforeAllElse) {
  for (const bool over_tcp : {false, true}) {
    std::promise<std::string> promise;
    const auto collect = [&](int socket) {
      std::string got;
      std::array<char, 4096> bytes;
      for (ssize_t count; (count = ::recv(socket, bytes.data(), bytes.size(), 0)) > 0;) {
        got.append(bytes.data(), static_cast<std::size_t>(count));
      }
      promise.set_value(got);
    };
    const TcpService tcp(collect);
    const std::string path = "/tmp/xl-proxy-" + std::to_string(::getpid());
    const Service unix_service(path, collect);
    Dialled there(over_tcp ? "tcp:127.0.0.1:" + std::to_string(tcp.port()) : "unix:" + path,
                  "proxy_protocol = true\n");
    Client client(there.socket);
    ASSERT_TRUE(client.send("hello"));
    client.finish();
    const std::string got = promise.get_future().get();
    ASSERT_GT(got.size(), 16U + 216U);
    EXPECT_EQ(got.substr(0, 14), std::string("\r\n\r\n\0\r\nQUIT\n\x21\x31", 14));
    const std::size_t header_bytes =
        16 + static_cast<unsigned char>(got[14]) * 256U + static_cast<unsigned char>(got[15]);
    EXPECT_EQ(got.substr(header_bytes), "hello");
    const std::string header = got.substr(0, header_bytes);
    EXPECT_EQ(tlv_of(header, 0x02), "org.test.out");
    EXPECT_EQ(tlv_of(header, 0xE0), "web");
    EXPECT_EQ(u32_at(tlv_of(header, 0xE1), 0), 7U);
    EXPECT_EQ(u32_at(tlv_of(header, 0xE2), 0), ::geteuid());
    EXPECT_THAT(there.world.xenstore("read", "/local/domain/7/vm").out,
                HasSubstr(tlv_of(header, 0xE3)));
  }
}

}  // namespace
}  // namespace xenlane::tests

// Sockets whose messages stay whole (SOCK_SEQPACKET), over both kinds of lane.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <optional>
#include <thread>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::HasSubstr;
using transport::UniqueFd;

constexpr const char* of_messages = "socket = \"seqpacket\"\n";
constexpr std::size_t message_bytes_max = 65536;

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// A client of a message socket, with a deadline in what it receives.
class Messenger {
 public:
  explicit Messenger(const std::string& path) {
    socket_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0)
        << path;
    const int room = 1024 * 1024;  // for messages that are too long for us
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  }
  explicit Messenger(UniqueFd socket) : socket_(std::move(socket)) {}

  bool send(const std::string& message) {
    return ::send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(message.size());
  }
  /// The next message, or nothing when the time is up or the kernel has an error.
  std::optional<std::string> receive() {
    pollfd entry{socket_.get(), POLLIN, 0};
    if (::poll(&entry, 1, 60'000) != 1) return std::nullopt;
    std::string message(2 * message_bytes_max, '\0');
    const ssize_t got = ::recv(socket_.get(), message.data(), message.size(), 0);
    if (got < 0) return std::nullopt;
    message.resize(static_cast<std::size_t>(got));
    return message;
  }
  void finish() { ::shutdown(socket_.get(), SHUT_WR); }
  int fd() const { return socket_.get(); }

 private:
  UniqueFd socket_;
};

/// Sends every message back until one says "bye".
class MessageEcho {
 public:
  explicit MessageEcho(const std::string& path) {
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~MessageEcho() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  MessageEcho(const MessageEcho&) = delete;
  MessageEcho& operator=(const MessageEcho&) = delete;

 private:
  void serve() {
    for (;;) {
      UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!accepted) return;
      Messenger client(std::move(accepted));
      for (auto message = client.receive(); message && *message != "bye";
           message = client.receive()) {
        if (!client.send(*message)) break;
      }
    }
  }

  UniqueFd listener_;
  std::thread thread_;
};

/// Channels org.test.in (host to guest) and org.test.out (guest to host), both to echoes, and the
/// port org.test.port.
class Messages {
 public:
  explicit Messages(const std::string& lanes) : world({"web"}, lanes) {
    const std::string in = world.dir() + "/in";
    const std::string out = world.dir() + "/out";
    guest_echo.emplace(in);
    host_echo.emplace(out);
    write_file(world.host_config_path(), world.host_config() +
                                             channel("org.test.in", "listen", "", of_messages) +
                                             channel("org.test.out", "dial", out, of_messages) +
                                             channel("org.test.port", "port", "", of_messages));
    write_file(world.guest_config_path("web"),
               world.guest_config("web") + channel("org.test.in", "dial", in, of_messages) +
                   channel("org.test.out", "listen", "", of_messages) +
                   channel("org.test.port", "port", "", of_messages));
    world.start();
  }
  World world;
  std::optional<MessageEcho> guest_echo;
  std::optional<MessageEcho> host_echo;
};

class MessagesOver : public testing::TestWithParam<const char*> {};

TEST_P(MessagesOver, ArriveOneByOneAndWholeBothWays) {
  Messages there(GetParam());
  for (const std::string& path : {there.world.host_socket("web", "org.test.in"),
                                  there.world.guest_socket("web", "org.test.out")}) {
    Messenger client(path);
    Pattern pattern(5);
    std::vector<std::string> sent;
    for (const std::size_t size : {1UL, 0UL, 4UL, 3UL, 0UL, 0UL, 100UL, 4092UL, 4096UL, 32768UL,
                                   65535UL, message_bytes_max, 7UL, message_bytes_max, 1UL}) {
      sent.emplace_back(size, '\0');
      pattern.fill(sent.back());
    }
    std::thread sender([&] {
      for (const std::string& message : sent) EXPECT_TRUE(client.send(message));
    });
    for (const std::string& message : sent) {
      const auto got = client.receive();
      ASSERT_TRUE(got.has_value()) << "instead of " << message.size() << " bytes";
      EXPECT_TRUE(*got == message) << got->size() << " bytes for " << message.size();
    }
    sender.join();
    ASSERT_TRUE(client.send("bye"));
    EXPECT_EQ(client.receive(), "") << "the end";
    pollfd entry{client.fd(), POLLRDHUP, 0};
    EXPECT_EQ(::poll(&entry, 1, 0), 1);
  }
}

TEST_P(MessagesOver, PortsCarryThemToo) {
  Messages there(GetParam());
  Messenger host(there.world.host_socket("web", "org.test.port"));
  Messenger guest(there.world.guest_socket("web", "org.test.port"));
  for (const std::string& message :
       {std::string("first"), std::string(), std::string(50000, 'x')}) {
    ASSERT_TRUE(host.send(message));
    EXPECT_EQ(guest.receive(), message);
    ASSERT_TRUE(guest.send(message));
    EXPECT_EQ(host.receive(), message);
  }
}

INSTANTIATE_TEST_SUITE_P(Lanes, MessagesOver,
                         testing::Values("[lanes]\npolicy = \"always\"\n",
                                         "[lanes]\npolicy = \"never\"\n"),
                         [](const auto& lane) { return lane.index == 0 ? "Vchan" : "Console"; });

TEST(Messages, OneThatIsTooLongEndsItsConnectionOnly) {
  Messages there("[lanes]\npolicy = \"always\"\n");
  const std::string path = there.world.host_socket("web", "org.test.in");
  Messenger other(there.world.guest_socket("web", "org.test.out"));
  Messenger client(path);
  ASSERT_TRUE(client.send("fine"));
  ASSERT_EQ(client.receive(), "fine");
  ASSERT_TRUE(client.send(std::string(message_bytes_max + 1, 'x')));
  EXPECT_EQ(client.receive(), "");
  const Outcome status = there.world.tool("0", {"status", "web", "--json"});
  EXPECT_THAT(status.out, HasSubstr("EMSGSIZE"));
  EXPECT_THAT(status.out, HasSubstr("a message of more than 65536 bytes"));
  ASSERT_TRUE(other.send("me too"));
  EXPECT_EQ(other.receive(), "me too");
}

TEST(Messages, BothSidesMustAgreeOnTheKind) {
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + channel("org.test.in", "listen") +
                 channel("org.test.out", "dial", world.service_path("host", "echo")));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") +
                 channel("org.test.in", "dial", world.service_path("web", "echo"), of_messages) +
                 channel("org.test.out", "listen", "", of_messages));
  world.start();
  const Outcome outcome = world.tool("0", {"connect", "web/org.test.in"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err,
              HasSubstr("the channel's sockets are of kind seqpacket here (EPROTOTYPE)"));
  Messenger client(world.guest_socket("web", "org.test.out"));
  EXPECT_EQ(client.receive(), "");
  EXPECT_THAT(world.tool("web", {"status", "--json"}).out, HasSubstr("EPROTOTYPE"));
  const Outcome tool = world.tool("web", {"connect", "org.test.out"});
  EXPECT_EQ(tool.code, 2);
  EXPECT_THAT(tool.err, HasSubstr("the channel carries messages"));
}

TEST(Messages, ProgramsHaveThemAsStandardInput) {
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + channel("org.test.in", "listen", "", of_messages));
  write_file(
      world.guest_config_path("web"),
      world.guest_config("web") + channel("org.test.in", "dial", "",
                                          "target = \"exec:/bin/cat\"\nsocket = \"seqpacket\"\n"));
  world.start();
  Messenger client(world.host_socket("web", "org.test.in"));
  for (const char* message : {"one", "two and more", "three"}) ASSERT_TRUE(client.send(message));
  for (const char* message : {"one", "two and more", "three"}) {
    EXPECT_EQ(client.receive(), message);
  }
  client.finish();
  EXPECT_EQ(client.receive(), "");
}

}  // namespace
}  // namespace xenlane::tests

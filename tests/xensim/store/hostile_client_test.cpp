// Clients that speak the wire protocol by hand and not nicely, and a server that hangs.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "tests/xensim/store/running_server.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/xensim/store/wire.hpp"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace xensim::test {
namespace {

constexpr int patience_ms = 10000;  // for what must come
constexpr int quiet_ms = 200;       // for what must not come

class RawClient {
 public:
  explicit RawClient(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

  void send(const std::string& bytes) {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void send(std::uint32_t type, const std::string& payload) { send(encode({type, 1, 0, payload})); }

  /// The next message; nothing if none comes in time or the server closed.
  std::optional<Message> receive(int timeout_ms = patience_ms) {
    for (;;) {
      if (auto message = decoder_.next()) return message;
      pollfd waiting{fd_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, timeout_ms) != 1) return std::nullopt;
      char chunk[4096];
      const auto bytes = ::recv(fd_.get(), chunk, sizeof(chunk), 0);
      if (bytes <= 0) {
        is_closed_ = true;
        return std::nullopt;
      }
      decoder_.feed({chunk, static_cast<std::size_t>(bytes)});
    }
  }
  bool is_closed() const { return is_closed_; }

 private:
  xenlane::transport::UniqueFd fd_;
  Decoder decoder_;
  bool is_closed_ = false;
};

std::string text(std::string_view value) {
  return std::string(value) + '\0';
}

class HostileClient : public RunningServer {};

TEST_F(HostileClient, IsDroppedForAnnouncingTooMuch) {
  RawClient client(socket_path(5));
  client.send(encode({XS_READ, 1, 0, std::string(payload_bytes_max + 1, 'x')}));
  EXPECT_EQ(client.receive(), std::nullopt);
  EXPECT_TRUE(client.is_closed());
}

TEST_F(HostileClient, IsAnsweredUpToTheMessageThatDropsIt) {
  RawClient client(socket_path(5));
  auto bad = encode({XS_READ, 1, 0, std::string(payload_bytes_max + 1, 'x')});
  client.send(XS_READ, text("domid"));
  EXPECT_EQ(client.receive()->payload, "5");
  client.send(bad.substr(0, header_bytes));
  EXPECT_EQ(client.receive(), std::nullopt);
  EXPECT_TRUE(client.is_closed());
}

TEST_F(HostileClient, MaySendByteByByteAndTheLargestPayload) {
  RawClient client(socket_path(0));
  for (const char byte : encode({XS_READ, 1, 0, text("domid")})) client.send({&byte, 1});
  EXPECT_EQ(client.receive()->payload, "0");
  client.send(XS_WRITE, text("/k") + std::string(payload_bytes_max - 3, 'v'));
  EXPECT_EQ(client.receive()->payload, text("OK"));
  client.send(XS_READ, text("/k"));
  EXPECT_EQ(client.receive()->payload.size(), payload_bytes_max - 3);
}

TEST_F(HostileClient, WaitsForAReaderOfTheEventsThatItCauses) {
  RawClient watcher(socket_path(0));
  watcher.send(XS_WATCH, text("/local/domain/5/data") + text(std::string(4000, 't')));
  ASSERT_TRUE(watcher.receive());  // the reply
  ASSERT_TRUE(watcher.receive());  // the first event

  constexpr int request_count = 1000;
  RawClient writer(socket_path(5));
  std::string requests;  // sent at once, to fit into the socket whether the server reads or not
  for (int i = 0; i < request_count; ++i) {
    requests += encode({XS_WRITE, 1, 0, text("data/" + std::to_string(i % 100))});
  }
  writer.send(requests);
  int replies = 0;
  while (writer.receive(quiet_ms)) ++replies;
  EXPECT_LT(replies, request_count);
  EXPECT_FALSE(writer.is_closed());

  std::atomic<bool> is_done = false;
  std::thread reader([&] {
    while (!is_done) watcher.receive(quiet_ms);
  });
  while (replies < request_count && writer.receive()) ++replies;
  is_done = true;
  reader.join();
  EXPECT_EQ(replies, request_count);
}

TEST_F(HostileClient, ThatIsTheHostAndNeverReadsItsEventsIsDropped) {
  RawClient watcher(socket_path(0));
  watcher.send(XS_WATCH, text("/flood") + text(std::string(4000, 't')));
  ASSERT_TRUE(watcher.receive());
  on_server([&] {
    for (int i = 0; i < 2000; ++i) server->write("/flood/" + std::to_string(i), "v");
  });
  int events = 0;
  while (watcher.receive()) ++events;
  EXPECT_TRUE(watcher.is_closed());
  EXPECT_LT(events, 2000);
}

TEST_F(HostileClient, ThatIsAGuestAndNeverReadsItsEventsLosesSome) {
  RawClient watcher(socket_path(5));
  watcher.send(XS_WATCH, text("data") + text(std::string(4000, 't')));
  ASSERT_TRUE(watcher.receive());
  on_server([&] {
    for (int i = 0; i < 2000; ++i) {
      server->write("/local/domain/5/data/" + std::to_string(i), "v");
    }
  });
  watcher.send(XS_READ, text("domid"));
  int events = 0;
  auto message = watcher.receive();
  for (; message && message->type == XS_WATCH_EVENT; message = watcher.receive()) ++events;
  ASSERT_TRUE(message);
  EXPECT_EQ(message->payload, "5");
  EXPECT_LT(events, 2000);
  EXPECT_GT(events, 500);
}

TEST_F(HostileClient, GetsNothingFromAServerThatHangs) {
  RawClient early(socket_path(5));
  early.send(XS_READ, text("domid"));
  ASSERT_TRUE(early.receive());
  on_server([&] { server->set_mute(true); });
  RawClient late(socket_path(6));
  early.send(XS_READ, text("domid"));
  late.send(XS_READ, text("domid"));
  EXPECT_EQ(early.receive(quiet_ms), std::nullopt);
  EXPECT_EQ(late.receive(0), std::nullopt);
  EXPECT_FALSE(early.is_closed());
  on_server([&] { server->set_mute(false); });
  EXPECT_EQ(early.receive()->payload, "5");
  EXPECT_EQ(late.receive()->payload, "6");
}

TEST_F(HostileClient, GetsTheEventsOfTheHangAfterwards) {
  RawClient client(socket_path(0));
  client.send(XS_WATCH, text("/a") + text("t"));
  ASSERT_TRUE(client.receive());
  ASSERT_TRUE(client.receive());
  on_server([&] {
    server->set_mute(true);
    server->write("/a/b", "v");
  });
  EXPECT_EQ(client.receive(quiet_ms), std::nullopt);
  on_server([&] { server->set_mute(false); });
  EXPECT_EQ(client.receive()->payload, text("/a/b") + text("t"));
}

}  // namespace
}  // namespace xensim::test

// One connection whose socket carries messages, over a socketpair: the test is the application at
// the other end, and the stream beyond.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "bridge/channel/connection.hpp"
#include "bridge/wire/bytes.hpp"
#include "tests/support/patience.hpp"

namespace xenlane::bridge {
namespace {

using transport::UniqueFd;
using ReadStatus = Connection::ReadStatus;

struct Listener final : ConnectionOwner {
  std::size_t delivered = 0;
  int reader_gone = 0;
  int broken = 0;  ///< errno
  int closed = 0;
  void handle_readable(StreamId) override {}
  void handle_delivered(StreamId, std::size_t bytes) override { delivered += bytes; }
  void handle_reader_gone(StreamId) override { ++reader_gone; }
  void handle_broken(StreamId, int error) override { broken = error; }
  void handle_closed(StreamId) override { ++closed; }
};

/// As it lies in the stream.
std::string framed(const std::string& message) {
  std::string out(message_prefix_bytes, '\0');
  store_le<std::uint32_t>(std::as_writable_bytes(std::span(out)).first<message_prefix_bytes>(),
                          static_cast<std::uint32_t>(message.size()));
  return out + message;
}

class MessageConnection : public testing::Test {
 protected:
  MessageConnection() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    application.reset(ends[1]);
    connection = std::make_shared<Connection>(io.get_executor(), UniqueFd(ends[0]), 1, heard,
                                              SocketKind::seqpacket);
    const int room = 1024 * 1024;
    ::setsockopt(application.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  }
  ~MessageConnection() override { connection->close(); }

  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      io.restart();
      io.run_one_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(done());
  }
  void send(const std::string& message) {
    ASSERT_EQ(::send(application.get(), message.data(), message.size(), 0),
              static_cast<ssize_t>(message.size()));
  }
  std::optional<std::string> receive() {
    std::string message(2 * message_bytes_max, '\0');
    const ssize_t got = ::recv(application.get(), message.data(), message.size(), 0);
    if (got < 0) return std::nullopt;
    message.resize(static_cast<std::size_t>(got));
    return message;
  }
  Connection::ReadResult read(std::string& into, std::size_t room) {
    std::vector<std::byte> buffer(room);
    const auto all = std::span(buffer);
    const auto result = connection->read_into({all.first(room / 3), all.subspan(room / 3)});
    into.append(reinterpret_cast<const char*>(buffer.data()), result.bytes);
    return result;
  }
  /// Hands on bytes of the stream in pieces of that size.
  void deliver(const std::string& bytes, std::size_t piece) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      const auto part = std::as_bytes(std::span(bytes)).subspan(at);
      connection->deliver({part.first(std::min(piece, part.size())), {}});
    }
  }

  boost::asio::io_context io;
  Listener heard;
  UniqueFd application;
  std::shared_ptr<Connection> connection;
};

TEST_F(MessageConnection, ReadsEachMessageWithItsSizeHoweverLittleRoomThereIs) {
  for (const std::size_t room : {1UL, 3UL, 5UL, 100UL, 70000UL}) {
    send("first");
    send("");
    send(std::string(1000, 'x'));
    std::string got;
    while (read(got, room).status == ReadStatus::bytes) {
    }
    EXPECT_EQ(got, framed("first") + framed("") + framed(std::string(1000, 'x'))) << room;
  }
}

TEST_F(MessageConnection, AnEmptyMessageIsNoEndAndTheEndIsNoMessage) {
  send("");
  send("");
  ::shutdown(application.get(), SHUT_WR);
  std::string got;
  EXPECT_EQ(read(got, 100).status, ReadStatus::bytes);
  EXPECT_EQ(read(got, 100).status, ReadStatus::bytes);
  EXPECT_EQ(got, framed("") + framed(""));
  EXPECT_EQ(read(got, 100).status, ReadStatus::ended);
}

TEST_F(MessageConnection, MessageThatIsTooLongBreaksIt) {
  std::string got;
  send(std::string(message_bytes_max, 'x'));
  while (read(got, 50000).status == ReadStatus::bytes) {
  }
  EXPECT_EQ(got, framed(std::string(message_bytes_max, 'x')));
  send(std::string(message_bytes_max + 1, 'x'));
  const auto result = read(got, 50000);
  EXPECT_EQ(result.status, ReadStatus::broken);
  EXPECT_EQ(result.error, EMSGSIZE);
}

TEST_F(MessageConnection, PassedDescriptorsAreNotLeaked) {
  const int before = ::fcntl(application.get(), F_DUPFD_CLOEXEC, 0);
  ::close(before);
  char byte = 'x';
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  *reinterpret_cast<int*>(CMSG_DATA(header)) = application.get();
  ASSERT_EQ(::sendmsg(application.get(), &message, 0), 1);
  std::string got;
  EXPECT_EQ(read(got, 100).status, ReadStatus::bytes);
  EXPECT_EQ(got, framed("x"));
  const int after = ::fcntl(application.get(), F_DUPFD_CLOEXEC, 0);
  ::close(after);
  EXPECT_EQ(after, before) << "the lowest free descriptor";
}

TEST_F(MessageConnection, GivesTheApplicationEachMessageAsOneHoweverItCame) {
  const std::string big(message_bytes_max, 'b');
  const std::string bytes = framed("one") + framed("") + framed(big) + framed("end");
  for (const std::size_t piece : {1UL, 2UL, 7UL, 4096UL, 1000000UL}) {
    heard.delivered = 0;
    deliver(bytes, piece);
    EXPECT_EQ(receive(), "one");
    EXPECT_EQ(receive(), "");
    EXPECT_TRUE(receive() == big);
    EXPECT_EQ(receive(), "end");
    EXPECT_EQ(receive(), std::nullopt);
    EXPECT_EQ(heard.delivered, bytes.size()) << piece;
    EXPECT_EQ(connection->held_bytes(), 0U);
  }
}

// A window may be shorter than a message, so its bytes must not wait for each other.
TEST_F(MessageConnection, BytesOfAMessageThatIsNotWholeCountAsDelivered) {
  const std::string bytes = framed(std::string(40000, 'x'));
  deliver(bytes.substr(0, 32768), 32768);
  EXPECT_EQ(heard.delivered, 32768U);
  EXPECT_EQ(connection->held_bytes(), 0U);
  deliver(bytes.substr(32768), 32768);
  EXPECT_EQ(heard.delivered, bytes.size());
  EXPECT_TRUE(receive() == std::string(40000, 'x'));
}

TEST_F(MessageConnection, OfAReaderThatIsSlowOneMessageCountsAndTheRestIsHeld) {
  const std::string message(1000, 'x');
  std::size_t sent = 0;
  while (connection->held_bytes() == 0) {
    deliver(framed(message), 2000);
    sent += framed(message).size();
    ASSERT_LT(sent, 10'000'000U);
  }
  deliver(framed("last"), 100);
  sent += framed("last").size();
  EXPECT_EQ(heard.delivered + connection->held_bytes(), sent);
  connection->finish_writing();
  std::size_t received = 0;
  std::string last;
  run_until([&] {
    for (auto got = receive(); got; got = receive()) {
      if (got->empty()) return true;
      received += framed(*got).size();
      last = *got;
    }
    return false;
  });
  EXPECT_EQ(last, "last");
  EXPECT_EQ(received, sent);
  EXPECT_EQ(heard.delivered, sent);
}

TEST_F(MessageConnection, SizeThatCannotBeBreaksItAndLosesNoCount) {
  deliver(framed("fine"), 100);
  std::string wrong = framed("");
  wrong[2] = 1;
  wrong[0] = 1;  // 65537
  deliver(wrong + "more", 100);
  EXPECT_EQ(receive(), "fine");
  EXPECT_EQ(heard.broken, EBADMSG);
  EXPECT_EQ(heard.delivered + connection->held_bytes(), framed("fine").size() + wrong.size() + 4);
}

TEST_F(MessageConnection, EndWithinAMessageIsNoGoodEnd) {
  deliver(framed("whole"), 100);
  deliver(framed("half of it").substr(0, 8), 100);
  connection->finish_writing();
  EXPECT_EQ(heard.broken, EBADMSG);
}

TEST_F(MessageConnection, ApplicationThatIsGoneTakesWhatIsForIt) {
  application.reset();
  deliver(framed("into the void"), 5);
  EXPECT_EQ(heard.delivered, framed("into the void").size());
  EXPECT_EQ(heard.reader_gone, 1);
  connection->finish_writing();
  EXPECT_EQ(heard.broken, 0);
}

}  // namespace
}  // namespace xenlane::bridge

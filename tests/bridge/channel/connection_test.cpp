// One connection over a socketpair: the test is the application at the other end.
#include "bridge/channel/connection.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <string>

#include "tests/support/patience.hpp"

namespace xenlane::bridge {
namespace {

using transport::UniqueFd;
using namespace std::chrono_literals;

struct Heard final : ConnectionOwner {
  int readable = 0;
  std::size_t delivered = 0;
  int reader_gone = 0;
  int broken = 0;  ///< errno
  int closed = 0;
  void handle_readable(StreamId) override { ++readable; }
  void handle_delivered(StreamId, std::size_t bytes) override { delivered += bytes; }
  void handle_reader_gone(StreamId) override { ++reader_gone; }
  void handle_broken(StreamId, int error) override { broken = error; }
  void handle_closed(StreamId) override { ++closed; }
};

class ConnectionTest : public testing::Test {
 protected:
  void SetUp() override { connect(SOCK_STREAM); }
  void TearDown() override { connection->close(); }

  void connect(int type) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    if (connection) connection->close();
    inner = ends[0];
    application.reset(ends[1]);
    connection = std::make_shared<Connection>(io.get_executor(), UniqueFd(ends[0]), 1, heard);
  }
  /// What the kernel may refuse at any time, as when it is out of memory: this kind of socket
  /// takes a piece whole or, if the piece is larger than the buffer, not at all (EMSGSIZE).
  void connect_so_that_large_pieces_are_refused() {
    connect(SOCK_SEQPACKET);
    constexpr int buffer_bytes = 16 * 1024;
    ASSERT_EQ(::setsockopt(inner, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes), 0);
  }

  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      io.restart();
      io.run_one_for(100ms);
    }
    ASSERT_TRUE(done());
  }
  /// Everything that is already due.
  void run_due() {
    io.restart();
    io.poll();
  }

  Connection::ReadResult read(std::string& into, std::size_t room = 65536) {
    std::vector<std::byte> buffer(room);
    // In two parts, as at the ring's end.
    const auto all = std::span(buffer);
    const auto result = connection->read_into({all.first(room / 3), all.subspan(room / 3)});
    into.append(reinterpret_cast<const char*>(buffer.data()), result.bytes);
    return result;
  }
  void deliver(const std::string& text) {
    const auto all = std::as_bytes(std::span(text));
    connection->deliver({all.first(text.size() / 2), all.subspan(text.size() / 2)});
  }
  void write(std::string_view text) {
    ASSERT_EQ(::write(application.get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  }
  /// What the application can read now; `ended` tells whether the end followed.
  std::string application_reads(bool* ended = nullptr) const {
    std::string text;
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::read(application.get(), buffer, sizeof buffer);
      if (ended != nullptr) *ended = got == 0;
      if (got <= 0) return text;
      text.append(buffer, static_cast<std::size_t>(got));
    }
  }

  boost::asio::io_context io;
  Heard heard;
  int inner = -1;  ///< the connection's own
  UniqueFd application;
  std::shared_ptr<Connection> connection;
};

std::string numbered(std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += std::to_string(text.size()) + ' ';
  text.resize(bytes);
  return text;
}

using Status = Connection::ReadStatus;

TEST_F(ConnectionTest, ReadsWhatIsThereAndTellsWhenThatWasAll) {
  write("hello");
  std::string text;
  auto result = read(text, 3);
  EXPECT_EQ(result.status, Status::bytes);
  EXPECT_FALSE(result.drained) << "the room was full: there may be more";
  result = read(text);
  EXPECT_TRUE(result.drained);
  EXPECT_EQ(text, "hello");
  EXPECT_EQ(read(text).status, Status::nothing_now);
}

TEST_F(ConnectionTest, WidenedBufferTakesMoreBeforeAnythingIsKeptAside) {
  // Small to begin with, so that the wide one is within what every user may have.
  constexpr int narrow_bytes = 16 * 1024;
  ASSERT_EQ(::setsockopt(inner, SOL_SOCKET, SO_SNDBUF, &narrow_bytes, sizeof narrow_bytes), 0);
  const std::string block = numbered(1000);
  const auto taken_until_full = [&] {
    while (connection->held_bytes() == 0) deliver(block);
    return heard.delivered;
  };
  const std::size_t narrow = taken_until_full();
  application_reads();
  run_until([&] { return connection->held_bytes() == 0; });
  application_reads();
  heard.delivered = 0;
  connection->widen_send_buffer(4 * narrow_bytes);
  EXPECT_GT(taken_until_full(), 2 * narrow);
}

TEST_F(ConnectionTest, NewsArriveOnceForEachWait) {
  connection->wait_readable();
  connection->wait_readable();
  write("x");
  run_until([&] { return heard.readable > 0; });
  run_due();
  EXPECT_EQ(heard.readable, 1);
}

TEST_F(ConnectionTest, EndComesAfterAllBytesAndTheOtherDirectionGoesOn) {
  write(numbered(10'000));
  ::shutdown(application.get(), SHUT_WR);
  std::string text;
  while (read(text, 4096).status == Status::bytes) {
  }
  EXPECT_EQ(text, numbered(10'000));
  run_due();
  EXPECT_EQ(heard.reader_gone, 0) << "half-closed is not gone";
  deliver("still here");
  EXPECT_EQ(application_reads(), "still here");
  EXPECT_EQ(heard.delivered, 10U);
}

TEST_F(ConnectionTest, FinishedWritingIsTheApplicationsEnd) {
  deliver("last words");
  connection->finish_writing();
  bool ended = false;
  EXPECT_EQ(application_reads(&ended), "last words");
  EXPECT_TRUE(ended);
  write("back");
  std::string text;
  EXPECT_EQ(read(text).status, Status::bytes);
  EXPECT_EQ(heard.closed, 0);
}

TEST_F(ConnectionTest, ClosesOnceBothDirectionsAreOver) {
  ::shutdown(application.get(), SHUT_WR);
  std::string text;
  EXPECT_EQ(read(text).status, Status::ended);
  connection->close_if_done();
  EXPECT_EQ(heard.closed, 0);
  connection->finish_writing();
  EXPECT_EQ(heard.closed, 1);
  run_due();
  EXPECT_EQ(heard.closed, 1);
}

TEST_F(ConnectionTest, ReaderThatStopsGetsEverythingInOrderLater) {
  const std::string all = numbered(3'000'000);
  for (std::size_t at = 0; at < all.size(); at += 100'000) deliver(all.substr(at, 100'000));
  connection->finish_writing();
  const std::size_t held = connection->held_bytes();
  EXPECT_GT(held, 0U);
  EXPECT_EQ(heard.delivered + held, all.size()) << "only what the socket took counts";
  std::string got;
  bool ended = false;
  run_until([&] {
    got += application_reads(&ended);
    return ended;
  });
  EXPECT_TRUE(got == all);
  EXPECT_EQ(heard.delivered, all.size());
  EXPECT_EQ(connection->held_bytes(), 0U);
}

TEST_F(ConnectionTest, BytesBehindThoseKeptAsideDoNotOvertakeThem) {
  const std::string all = numbered(1'000'000);
  deliver(all);
  ASSERT_GT(connection->held_bytes(), 0U);
  std::string got = application_reads();  // room again, but nothing flushed yet
  deliver("END");
  run_until([&] {
    got += application_reads();
    return got.size() == all.size() + 3;
  });
  EXPECT_TRUE(got == all + "END");
}

TEST_F(ConnectionTest, ApplicationThatClosesIsReportedOnce) {
  application.reset();
  deliver("nobody reads this");
  deliver("nor this");
  EXPECT_EQ(heard.reader_gone, 1);
  EXPECT_EQ(heard.delivered, 17U + 8U) << "it went nowhere, and its credit is free";
}

TEST_F(ConnectionTest, WhatIsKeptAsideIsReportedWhenTheApplicationCloses) {
  deliver(numbered(2'000'000));
  ASSERT_GT(connection->held_bytes(), 0U);
  application.reset();
  run_until([&] { return heard.reader_gone == 1; });
  EXPECT_EQ(heard.delivered, 2'000'000U);
  EXPECT_EQ(connection->held_bytes(), 0U);
}

TEST_F(ConnectionTest, RefusalByTheKernelIsNotTakenForAReaderThatIsGone) {
  connect_so_that_large_pieces_are_refused();
  deliver("taken");
  deliver(numbered(1'000'000));
  EXPECT_EQ(heard.broken, EMSGSIZE) << "or the application has a part and thinks that it is all";
  EXPECT_EQ(heard.reader_gone, 0);
  EXPECT_EQ(heard.delivered, 5U + 1'000'000U) << "nobody will read it, so its credit is free";
  EXPECT_EQ(application_reads(), "taken");
}

TEST_F(ConnectionTest, RefusalOfWhatWasKeptAsideIsNotTakenForAReaderThatIsGone) {
  connect_so_that_large_pieces_are_refused();
  const std::string block = numbered(1000);
  while (connection->held_bytes() < 1'000'000) deliver(block);  // too much for one piece
  ASSERT_EQ(heard.broken, 0) << "so far the socket was only full";
  application_reads();
  run_until([&] { return heard.broken != 0 || heard.reader_gone != 0; });
  EXPECT_EQ(heard.broken, EMSGSIZE);
  EXPECT_EQ(heard.reader_gone, 0);
}

TEST_F(ConnectionTest, HangUpAfterTheEndIsNoticedWithoutWriting) {
  write("bye");
  ::shutdown(application.get(), SHUT_WR);
  std::string text;
  while (read(text).status == Status::bytes) {
  }
  run_due();
  EXPECT_EQ(heard.reader_gone, 0);
  application.reset();
  run_until([&] { return heard.reader_gone == 1; });
  run_until([&] { return heard.closed == 1; });
}

TEST_F(ConnectionTest, ResetBySocketIsBroken) {
  deliver("unread");  // closing with unread bytes resets the connection
  application.reset();
  std::string text;
  EXPECT_EQ(read(text).status, Status::broken);
  EXPECT_EQ(read(text).status, Status::nothing_now) << "said once";
}

TEST_F(ConnectionTest, StoppedReadingMakesTheApplicationsWritesFail) {
  connection->stop_reading();
  EXPECT_EQ(::send(application.get(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  deliver("but this arrives");
  EXPECT_EQ(application_reads(), "but this arrives");
}

TEST_F(ConnectionTest, ClosedConnectionIsSilent) {
  deliver(numbered(2'000'000));
  connection->wait_readable();
  const std::size_t before = heard.delivered;
  connection->close();
  run_due();
  application.reset();
  run_due();
  EXPECT_EQ(heard.delivered, before);
  EXPECT_EQ(heard.readable + heard.reader_gone + heard.closed, 0);
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

TEST_F(ConnectionTest, PassedDescriptorsAreNotLeaked) {
  const UniqueFd passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    char byte = 'x';
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = passed.get();
    std::copy_n(reinterpret_cast<const unsigned char*>(&fd), sizeof fd, CMSG_DATA(header));
    ASSERT_EQ(::sendmsg(application.get(), &message, 0), 1);
    std::string text;
    ASSERT_EQ(read(text).status, Status::bytes);
    EXPECT_EQ(text, "x");
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ByteQueue, KeepsOrderWhateverIsAppendedAndDropped) {
  ByteQueue queue;
  const std::string all = numbered(100'000);
  std::size_t in = 0;
  std::size_t out = 0;
  for (std::size_t i = 0; out < all.size(); ++i) {
    const std::size_t add = std::min<std::size_t>(all.size() - in, i * 7 % 300);
    queue.append(std::as_bytes(std::span(all).subspan(in, add)));
    in += add;
    const std::size_t drop = std::min<std::size_t>(queue.size(), i * 5 % 290);
    ASSERT_EQ(queue.size(), in - out);
    const auto front = queue.front().first(drop);
    ASSERT_TRUE(std::ranges::equal(front, std::as_bytes(std::span(all).subspan(out, drop))));
    queue.drop(drop);
    out += drop;
    if (in == all.size() && drop == 0 && i * 5 % 290 != 0) break;
  }
  EXPECT_EQ(out, all.size());
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace xenlane::bridge

// A local program and a plain program on a PV channel, joined byte for byte.
#include "bridge/channel/raw_link.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <string>

#include "tests/support/patience.hpp"

namespace xenlane::bridge {
namespace {

using std::chrono::milliseconds;
using transport::UniqueFd;

std::pair<UniqueFd, UniqueFd> make_pair() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

class RawLinkTest : public testing::Test {
 protected:
  RawLinkTest() {
    auto [program_end, link_end] = make_pair();
    program = std::move(program_end);
    link = std::make_shared<RawLink>(context.get_executor(), std::move(link_end));
  }

  /// With a device that can be opened at once.
  void start() {
    auto [agent_end, device_end] = make_pair();
    agent = std::move(agent_end);
    start([fd = device_end.release()]() mutable -> boost::system::result<UniqueFd> {
      return UniqueFd(fd);
    });
  }
  void start(RawLink::Open open, milliseconds deadline = milliseconds(50)) {
    boost::asio::co_spawn(context, link->run(std::move(open), deadline),
                          [this](const std::exception_ptr& thrown, RawLink::Ending ended) {
                            ASSERT_FALSE(thrown);
                            ending = std::move(ended);
                          });
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      context.run_one_for(milliseconds(10));
      context.restart();
    }
    ASSERT_TRUE(done());
  }
  void say(const UniqueFd& who, std::string_view words) {
    ASSERT_EQ(::send(who.get(), words.data(), words.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(words.size()));
  }
  void expect_heard(const UniqueFd& who, std::string_view words) {
    std::string heard;
    run_until([&] {
      char bytes[65536];
      const ssize_t got = ::recv(who.get(), bytes, sizeof bytes, 0);
      if (got > 0) heard.append(bytes, static_cast<std::size_t>(got));
      return heard.size() >= words.size();
    });
    EXPECT_EQ(heard, words);
  }

  boost::asio::io_context context{1};
  UniqueFd program;
  UniqueFd agent;
  std::shared_ptr<RawLink> link;
  std::optional<RawLink::Ending> ending;
};

TEST_F(RawLinkTest, BytesPassBothWaysAsTheyAre) {
  start();
  say(program, std::string("{\"execute\":\"guest-sync\"}\n\0\xff", 26));
  expect_heard(agent, std::string("{\"execute\":\"guest-sync\"}\n\0\xff", 26));
  say(agent, "{\"return\":1}\r\n");
  expect_heard(program, "{\"return\":1}\r\n");
  EXPECT_EQ(link->bytes_out(), 26U);
  EXPECT_EQ(link->bytes_in(), 14U);
}

TEST_F(RawLinkTest, ProgramThatSaysNoMoreStillHears) {
  start();
  say(program, "question");
  ::shutdown(program.get(), SHUT_WR);
  expect_heard(agent, "question");
  say(agent, "answer");
  expect_heard(program, "answer");
  EXPECT_FALSE(ending);
  program.reset();
  run_until([&] { return ending.has_value(); });
  EXPECT_TRUE(ending->text.empty()) << "the program's own wish";
}

TEST_F(RawLinkTest, DeviceThatHangsUpEndsItWithTheReason) {
  start();
  say(program, "x");
  expect_heard(agent, "x");
  agent.reset();
  run_until([&] { return ending.has_value(); });
  EXPECT_EQ(ending->text, "the PV channel hung up");
  EXPECT_TRUE(ending->opened);
}

TEST_F(RawLinkTest, DeviceThatComesLateIsWaitedForAndOneThatDoesNotIsARefusal) {
  auto [agent_end, device_end] = make_pair();
  agent = std::move(agent_end);
  int attempts = 0;
  start(
      [&, fd = device_end.release()]() -> boost::system::result<UniqueFd> {
        if (++attempts < 3)
          return boost::system::error_code(ENOENT, boost::system::system_category());
        return UniqueFd(fd);
      },
      test::patience());
  say(program, "early");
  expect_heard(agent, "early");
  EXPECT_EQ(attempts, 3);
}

TEST_F(RawLinkTest, DeviceThatNeverComesIsARefusal) {
  start([]() -> boost::system::result<UniqueFd> {
    return boost::system::error_code(ENOENT, boost::system::system_category());
  });
  run_until([&] { return ending.has_value(); });
  EXPECT_FALSE(ending->opened);
  EXPECT_EQ(ending->error, ENOENT);
}

TEST_F(RawLinkTest, SlowReaderHoldsUpTheOtherSideAndLosesNothing) {
  start();
  const std::string words(std::size_t{2} * 1024 * 1024, 'w');
  std::size_t sent = 0;
  std::size_t quiet = 0;
  run_until([&] {
    const ssize_t put = ::send(agent.get(), words.data() + sent, words.size() - sent, MSG_NOSIGNAL);
    if (put > 0) sent += static_cast<std::size_t>(put);
    quiet = put > 0 ? 0 : quiet + 1;
    return quiet > 20;
  });
  EXPECT_LT(sent, words.size()) << "nobody reads, and yet all of it went somewhere";
  std::size_t heard = 0;
  run_until([&] {
    const ssize_t put = ::send(agent.get(), words.data() + sent, words.size() - sent, MSG_NOSIGNAL);
    if (put > 0) sent += static_cast<std::size_t>(put);
    char bytes[65536];
    const ssize_t got = ::recv(program.get(), bytes, sizeof bytes, 0);
    if (got > 0) heard += static_cast<std::size_t>(got);
    return heard == words.size();
  });
}

TEST_F(RawLinkTest, ProgramThatLeavesAChannelThatTakesNothingGivesItUp) {
  start();
  const std::string words(65536, 'w');
  for (int quiet = 0; quiet < 20;) {
    quiet = ::send(program.get(), words.data(), words.size(), MSG_NOSIGNAL) > 0 ? 0 : quiet + 1;
    context.run_one_for(milliseconds(5));
  }
  program.reset();
  run_until([&] { return ending.has_value(); });
  EXPECT_TRUE(ending->text.empty());
}

TEST_F(RawLinkTest, ClosedFromOutsideItEndsBothConnections) {
  start();
  say(program, "x");
  expect_heard(agent, "x");
  link->close();
  run_until([&] { return ending.has_value(); });
  char byte = 0;
  EXPECT_EQ(::recv(program.get(), &byte, 1, 0), 0);
  EXPECT_EQ(::recv(agent.get(), &byte, 1, 0), 0);
}

}  // namespace
}  // namespace xenlane::bridge

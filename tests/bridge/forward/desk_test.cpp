// The far side's books: who waits for a place, who was reset, whose connection is taken by whom.
#include "bridge/forward/desk.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>

#include "bridge/forward/acceptor.hpp"
#include "bridge/forward/listen.hpp"
#include "bridge/forward/rule.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/patience.hpp"
#include "tests/support/unix_sockets.hpp"

namespace xenlane::bridge {
namespace {

using ::testing::HasSubstr;
using transport::UniqueFd;

/// Empty when nobody listens.
UniqueFd connect_path(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = tests::address_of(path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fd.reset();
  }
  return fd;
}

class ForwardDeskTest : public testing::Test {
 protected:
  /// Says it to the desk and returns the next line that it says.
  std::string ask(const UniqueFd& control, const std::string& line) {
    ::send(control.get(), line.data(), line.size(), MSG_NOSIGNAL);
    return next_line(control);
  }
  std::string next_line(const UniqueFd& control) {
    std::string got;
    const auto end = std::chrono::steady_clock::now() + test::patience();
    while (std::chrono::steady_clock::now() < end) {
      turn();
      char byte = 0;
      while (::recv(control.get(), &byte, 1, MSG_DONTWAIT) == 1) {
        if (byte == '\n') return got;
        got += byte;
      }
    }
    return "(nothing)";
  }
  /// What is due, and what becomes so within a moment.
  void turn() {
    context.restart();
    context.run_for(std::chrono::milliseconds(1));
  }
  UniqueFd start_control() {
    auto control = desk.start_control(
        {[this](const ForwardAddress& address) { return is_allowed(rules, address); },
         [this](int error, const std::string& why) {
           refused = {error, why};
         }});
    EXPECT_TRUE(control);
    return std::move(*control);
  }

  boost::asio::io_context context;
  std::vector<StreamId> resets;
  ForwardDesk desk{context.get_executor(), [this](StreamId id) { resets.push_back(id); }};
  TempDir dir;
  ForwardRules rules{*ForwardRule::parse("unix:" + dir.path() + "/*")};
  ForwardError refused;
};

TEST_F(ForwardDeskTest, TellsHowConnectionsEnded) {
  const UniqueFd control = start_control();
  const std::string reset = desk.enlist(1);
  const std::string clean = desk.enlist(2);
  EXPECT_NE(reset, clean);
  EXPECT_EQ(ask(control, "ended " + reset + "\n"), "ended " + reset + " clean") << "it is open";
  desk.handle_end(1, true);
  desk.handle_end(2, false);
  desk.handle_end(3, true);
  EXPECT_EQ(ask(control, "ended " + reset + "\n"), "ended " + reset + " reset");
  EXPECT_EQ(ask(control, "ended " + clean + "\n"), "ended " + clean + " clean");
}

TEST_F(ForwardDeskTest, ResetReachesTheStreamOfTheTokenOnly) {
  const UniqueFd control = start_control();
  desk.enlist(1);
  const std::string token = desk.enlist(2);
  ask(control, "reset " + std::string(32, '0') + "\nreset " + token + "\nended " + token + "\n");
  EXPECT_EQ(resets, std::vector<StreamId>{2});
}

TEST_F(ForwardDeskTest, AcceptedConnectionIsTakenOnceByItsToken) {
  const UniqueFd control = start_control();
  const std::string path = dir.path() + "/sock";
  EXPECT_EQ(ask(control, "listen 5 unix:" + path + "\n"), "listening 5 ok");
  const auto client = connect_path(path);
  ASSERT_TRUE(client);
  const std::string line = next_line(control);
  ASSERT_THAT(line, HasSubstr("accepted 5 "));
  const std::string token = line.substr(line.rfind(' ') + 1);
  EXPECT_TRUE(desk.take(token));
  EXPECT_EQ(desk.take(token).error().error, ENOENT);
}

TEST_F(ForwardDeskTest, ListenerNeedsARuleAndIsAskedAgainForEachConnection) {
  const UniqueFd control = start_control();
  EXPECT_THAT(ask(control, "listen 1 tcp:*:80\n"), HasSubstr("listening 1 error 13 "));
  EXPECT_EQ(refused.error, EACCES);
  const std::string path = dir.path() + "/sock";
  ASSERT_EQ(ask(control, "listen 2 unix:" + path + "\n"), "listening 2 ok");
  rules.clear();
  const auto client = connect_path(path);
  EXPECT_THAT(next_line(control), HasSubstr("listening 2 error 13 "));
  EXPECT_FALSE(connect_path(path));
}

TEST_F(ForwardDeskTest, ListenersGoWithTheirControlStream) {
  const std::string path = dir.path() + "/sock";
  UniqueFd control = start_control();
  ASSERT_EQ(ask(control, "listen 2 unix:" + path + "\n"), "listening 2 ok");
  // Another one cannot have it, and does not take it away.
  const UniqueFd other = start_control();
  EXPECT_THAT(ask(other, "listen 1 unix:" + path + "\n"), HasSubstr("error 98 "));
  control.reset();
  const auto end = std::chrono::steady_clock::now() + test::patience();
  while (connect_path(path) && std::chrono::steady_clock::now() < end) turn();
  EXPECT_FALSE(connect_path(path));
  EXPECT_EQ(ask(other, "listen 1 unix:" + path + "\n"), "listening 1 ok");
  EXPECT_EQ(ask(other, "unlisten 1\nlisten 1 unix:" + path + "\n"), "listening 1 ok");
}

TEST_F(ForwardDeskTest, NoMoreThanTheLimitWaitToBeTaken) {
  const UniqueFd control = start_control();
  const std::string path = dir.path() + "/sock";
  ASSERT_EQ(ask(control, "listen 1 unix:" + path + "\n"), "listening 1 ok");
  std::vector<UniqueFd> clients;
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i <= forward_pending_max; ++i) {
    clients.push_back(connect_path(path));
    ASSERT_TRUE(clients.back());
  }
  for (std::size_t i = 0; i < forward_pending_max; ++i) {
    const std::string line = next_line(control);
    ASSERT_THAT(line, HasSubstr("accepted 1 "));
    tokens.push_back(line.substr(line.rfind(' ') + 1));
  }
  // The last one waits in the kernel until one is taken.
  EXPECT_THAT(ask(control, "ended " + tokens[0] + "\n"), HasSubstr("ended "));
  EXPECT_TRUE(desk.take(tokens[0]));
  EXPECT_THAT(next_line(control), HasSubstr("accepted 1 "));
}

TEST_F(ForwardDeskTest, WhoeverSaysWhatIsNoOrderIsClosed) {
  const UniqueFd control = start_control();
  ::send(control.get(), "hello\n", 6, MSG_NOSIGNAL);
  char byte = 0;
  const auto end = std::chrono::steady_clock::now() + test::patience();
  ssize_t got = -1;
  while (got != 0 && std::chrono::steady_clock::now() < end) {
    turn();
    got = ::recv(control.get(), &byte, 1, MSG_DONTWAIT);
  }
  EXPECT_EQ(got, 0);
}

TEST_F(ForwardDeskTest, ControlStreamsAreLimited) {
  std::vector<UniqueFd> all;
  for (std::size_t i = 0; i < forward_controls_max; ++i) all.push_back(start_control());
  const auto one_more = desk.start_control({});
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().error, EAGAIN);
}

TEST(ForwardGate, LetsInAsManyAsThereArePlacesInTheirOrder) {
  boost::asio::io_context context;
  ForwardGate gate(context.get_executor(), 2);
  std::vector<std::pair<int, bool>> entered;
  const auto enter = [&](int who,
                         std::chrono::milliseconds longest) -> boost::asio::awaitable<void> {
    const bool in = co_await gate.enter(longest);
    entered.emplace_back(who, in);
  };
  using std::chrono::milliseconds;
  for (const int who : {1, 2, 3}) {
    boost::asio::co_spawn(context, enter(who, std::chrono::minutes(1)), boost::asio::detached);
  }
  boost::asio::co_spawn(context, enter(4, milliseconds(1)), boost::asio::detached);
  context.run_for(milliseconds(30));
  using Entered = std::vector<std::pair<int, bool>>;
  EXPECT_EQ(entered, (Entered{{1, true}, {2, true}, {4, false}}));
  gate.leave();
  context.restart();
  context.run_for(milliseconds(10));
  EXPECT_EQ(entered.back(), (std::pair<int, bool>{3, true}));
}

}  // namespace
}  // namespace xenlane::bridge

// The events socket: what a listener hears, in which form, and that one who does not listen costs
// the others nothing.
#include "bridge/events/event_server.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <vector>

#include "bridge/channel/listener.hpp"
#include "bridge/control/client.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/patience.hpp"

namespace xenlane::bridge {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using transport::UniqueFd;

TEST(EventLine, HasNoBlankInAValueAndNoByteThatIsNotPrintable) {
  EXPECT_EQ(format_event({"refused", {{"channel", "a.b"}, {"reason", "no such\nchannel \\ here"}}}),
            "refused channel=a.b reason=no\\x20such\\x0achannel\\x20\\x5c\\x20here\n");
  EXPECT_EQ(format_event({"ready", {}}), "ready\n");
  const std::string cut = format_event({"x", {{"y", std::string(5000, 'z')}}});
  EXPECT_LT(cut.size(), 600U);
  EXPECT_THAT(cut, EndsWith("...\n"));
}

class EventServerTest : public testing::Test {
 protected:
  EventServerTest() {
    auto listener = listen_unix(path, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 64);
    EXPECT_TRUE(listener);
    server.emplace(context.get_executor(), std::move(listener->fd), "guest", [this] {
      return std::vector<Event>{{"session", {{"state", state}}}};
    });
  }

  UniqueFd listen() {
    auto connected = connect_unix(path);
    EXPECT_TRUE(connected);
    context.poll();
    return std::move(*connected);
  }
  std::string hear(const UniqueFd& listener) {
    std::string heard;
    for (int quiet = 0; quiet < 3; ++quiet) {
      context.poll();
      char bytes[4096];
      for (;;) {
        const ssize_t got = ::recv(listener.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        if (got <= 0) break;
        heard.append(bytes, static_cast<std::size_t>(got));
        quiet = 0;
      }
    }
    return heard;
  }

  const TempDir dir;
  const std::string path = dir / "events";
  std::string state = "down";
  boost::asio::io_context context{1};
  std::optional<EventServer> server;
};

TEST_F(EventServerTest, TellsWhatThereIsThenWhatHappens) {
  EXPECT_FALSE(server->wants_events()) << "nobody listens";
  const UniqueFd first = listen();
  EXPECT_TRUE(server->wants_events());
  EXPECT_EQ(hear(first), "xenlane events=1 role=guest\nsession state=down\nready\n");
  state = "up";
  server->publish({"session", {{"state", "up"}}});
  EXPECT_EQ(hear(first), "session state=up\n");
  const UniqueFd second = listen();
  EXPECT_EQ(hear(second), "xenlane events=1 role=guest\nsession state=up\nready\n");
}

TEST_F(EventServerTest, ListenerThatDoesNotReadIsToldHowManyItMissed) {
  const UniqueFd deaf = listen();
  const UniqueFd keen = listen();
  hear(keen);
  constexpr int many = 20000;
  std::string keen_heard;
  for (int i = 0; i < many; ++i) {
    server->publish({"connected", {{"channel", "org.example.echo"}, {"n", std::to_string(i)}}});
    if (i % 100 == 0) keen_heard += hear(keen);
  }
  keen_heard += hear(keen);
  EXPECT_EQ(std::count(keen_heard.begin(), keen_heard.end(), '\n'), many);
  EXPECT_EQ(keen_heard.find("lost"), std::string::npos);

  const std::string deaf_heard = hear(deaf);
  const std::size_t lost_at = deaf_heard.find("lost count=");
  ASSERT_NE(lost_at, std::string::npos);
  const int lost = std::stoi(deaf_heard.substr(lost_at + 11));
  const auto lines = std::count(deaf_heard.begin(), deaf_heard.end(), '\n');
  EXPECT_EQ(lines - 4 + lost, many) << "three lines at first, and the one of the loss";
  server->publish({"connected", {{"channel", "again"}}});
  EXPECT_EQ(hear(deaf), "connected channel=again\n");
}

TEST_F(EventServerTest, ListenerWhoLeavesIsForgotten) {
  { const UniqueFd brief = listen(); }
  context.poll();
  EXPECT_FALSE(server->wants_events());
}

TEST_F(EventServerTest, WordsOfAListenerMeanNothing) {
  const UniqueFd chatty = listen();
  hear(chatty);
  const std::string words(100000, 'w');
  ASSERT_GT(::send(chatty.get(), words.data(), words.size(), MSG_DONTWAIT), 0);
  context.poll();
  server->publish({"ping", {}});
  EXPECT_EQ(hear(chatty), "ping\n");
}

TEST_F(EventServerTest, OneListenerTooManyIsClosedAtOnce) {
  std::vector<UniqueFd> listeners;
  for (std::size_t i = 0; i < event_listeners_max; ++i) listeners.push_back(listen());
  const UniqueFd extra = listen();
  char byte = 0;
  EXPECT_EQ(::recv(extra.get(), &byte, 1, MSG_DONTWAIT), 0);
  listeners.pop_back();
  context.poll();
  EXPECT_THAT(hear(listen()), StartsWith("xenlane events=1"));
}

}  // namespace
}  // namespace xenlane::bridge

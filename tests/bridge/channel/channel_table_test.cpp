// A host's channels against a guest that keeps the session but not always its manners.
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/bridge/channel/channel_table_world.hpp"

namespace xenlane::bridge {
namespace {

TEST_F(ChannelTableTest, ConnectionThatThePeerNeverAnswersIsRefusedInTime) {
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return ended(*client) && guest.resets > 0; });
  EXPECT_EQ(guest.opens, 1);
  EXPECT_EQ(guest.resets, 1) << "the guest is told that nobody waits any more";
  EXPECT_EQ(stats().open, 0U);
  EXPECT_EQ(stats().refused, 1U);
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ETIMEDOUT);
  EXPECT_EQ(stats().bad_endings.front().message, "web did not answer within 50 ms");
}

TEST_F(ChannelTableTest, SessionThatEndsTakesItsConnectionsAlong) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return stats().open == 1 && guest.opens == 1; });
  EXPECT_FALSE(ended(*client));
  end_session(ECONNRESET, "the guest was destroyed");
  EXPECT_TRUE(ended(*client)) << "or its program waits for ever";
  EXPECT_EQ(stats().open, 0U);
  EXPECT_EQ(stats().broken, 1U);
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ECONNRESET);
  EXPECT_EQ(stats().bad_endings.front().message, "the guest was destroyed");
}

// The two sides do not agree on what was sent any more: whoever asks for the reason is told so.
TEST_F(ChannelTableTest, ConnectionsSayWhyTheirSessionEnded) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return guest.opens == 1; });
  end_session(ENETRESET, "the other side's bridge began anew");
  EXPECT_TRUE(ended(*client));
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ENETRESET);
  EXPECT_FALSE(stats().bad_endings.front().refused);
}

TEST_F(ChannelTableTest, ConnectionsOutliveTheirLane) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return guest.opens == 1; });
  host_driver->stop("the lane broke");
  guest_driver->stop("the lane broke");
  EXPECT_EQ(host_session.state(), SessionState::cut);
  context.poll();
  EXPECT_FALSE(ended(*client));
  // One that comes while there is no lane is opened over the next.
  const auto meanwhile = connect_unix(dir / "a.b");
  ASSERT_TRUE(meanwhile);
  run_until([&] { return stats().open == 2; });
  EXPECT_EQ(guest.opens, 1);
  connect();
  start();
  run_until([&] { return guest.opens == 2; });
  EXPECT_FALSE(ended(*client) || ended(*meanwhile));
  EXPECT_EQ(stats().broken, 0U);
  EXPECT_EQ(stats().refused, 0U);
}

// What a channel's `lane` asks for lasts as long as its connections do.
TEST_F(ChannelTableTest, ConnectionsOfAnEagerChannelWantTheVchan) {
  guest.answers = true;
  ChannelConfig eager = listening("a.b");
  eager.lane = LanePreference::vchan;
  add(std::move(eager));
  add(listening("a.c"));
  start();
  const auto other = connect_unix(dir / "a.c");
  run_until([&] { return guest.opens == 1; });
  EXPECT_FALSE(table.wants_vchan());
  auto first = connect_unix(dir / "a.b");
  auto second = connect_unix(dir / "a.b");
  ASSERT_TRUE(first && second);
  run_until([&] { return guest.opens == 3; });
  EXPECT_TRUE(table.wants_vchan());
  first->reset();
  guest.close_all();
  run_until([&] { return stats().open == 1; });
  EXPECT_TRUE(table.wants_vchan()) << "one is left";
  second->reset();
  run_until([&] { return stats().open == 0; });
  EXPECT_FALSE(table.wants_vchan());
}

TEST_F(ChannelTableTest, EagernessEndsWithTheSession) {
  guest.answers = true;
  ChannelConfig eager = listening("a.b");
  eager.lane = LanePreference::vchan;
  add(std::move(eager));
  start();
  const auto client = connect_unix(dir / "a.b");
  run_until([&] { return guest.opens == 1; });
  EXPECT_TRUE(table.wants_vchan());
  end_session(ECONNRESET, "the guest was destroyed");
  EXPECT_FALSE(table.wants_vchan());
}

// A backup may take all night on the console: its bytes are no reason for a vchan.
TEST_F(ChannelTableTest, BytesOfAWeightlessChannelDoNotCount) {
  guest.answers = true;
  ChannelConfig weightless = listening("a.b");
  weightless.lane = LanePreference::console;
  add(std::move(weightless));
  add(listening("a.c"));
  start();
  const auto slow = connect_unix(dir / "a.b");
  ASSERT_TRUE(slow);
  ASSERT_EQ(::send(slow->get(), "twelve bytes", 12, 0), 12);
  run_until([&] { return guest.received == 12; });
  EXPECT_EQ(host_session.mux()->period_volume(), 0U);
  const auto fast = connect_unix(dir / "a.c");
  ASSERT_TRUE(fast);
  ASSERT_EQ(::send(fast->get(), "five.", 5, 0), 5);
  run_until([&] { return guest.received == 17; });
  EXPECT_EQ(host_session.mux()->period_volume(), 5U);
  EXPECT_FALSE(table.wants_vchan());
}

class ChannelTableWithOneOpenAtATime : public ChannelTableTest {
 protected:
  ChannelTableWithOneOpenAtATime() : ChannelTableTest({.open_backlog_max = 1}) {}
};

// What makes room for another stream is a frame that has come; no connection changes with it.
TEST_F(ChannelTableWithOneOpenAtATime, WaitingConnectionGoesOnWhenAnotherIsAnswered) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto first = connect_unix(dir / "a.b");
  const auto second = connect_unix(dir / "a.b");
  ASSERT_TRUE(first && second);
  run_until([&] { return guest.opens == 2; });
  EXPECT_EQ(stats().open, 2U);
  EXPECT_EQ(stats().refused, 0U);
}

class ChannelTableWithAnOldGuest : public ChannelTableTest {
 protected:
  ChannelTableWithAnOldGuest() : ChannelTableTest({}, 2) {}
};

TEST_F(ChannelTableWithAnOldGuest, RefusesMessagesHereAndCarriesStreams) {
  ChannelConfig messages = listening("a.messages");
  messages.socket = SocketKind::seqpacket;
  add(messages);
  add(listening("a.stream"));
  guest.answers = true;
  start();
  const transport::UniqueFd client(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (dir / "a.messages").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  run_until([&] { return ended(client); });
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, EPROTONOSUPPORT);
  EXPECT_EQ(stats().bad_endings.front().message,
            "web speaks version 2 of the protocol, in which there are no messages; upgrade it");
  EXPECT_EQ(guest.opens, 0);
  const auto stream = connect_unix(dir / "a.stream");
  ASSERT_TRUE(stream);
  run_until([&] { return guest.opens == 1; });
}

TEST_F(ChannelTableTest, ConnectionThatCannotBeAcceptedForWantOfDescriptorsIsAcceptedLater) {
  const Log log;
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  {
    const tests::NoDescriptors none_left;
    run_until([&] { return log.says("a.b: cannot accept: "); });
    EXPECT_EQ(stats().opened, 0U);
  }
  run_until([&] { return guest.opens == 1; });
  EXPECT_EQ(stats().open, 1U);
  EXPECT_FALSE(ended(*client));
}

TEST_F(ChannelTableTest, PeerThatGoesAwayMaySayWhyInOneLine) {
  const Log log;
  start();
  guest_driver->mux()->go_away("updating\nerror: not my line");
  guest_driver->wake();
  run_until([&] { return log.says("web: goes away: updating\\x0aerror: not my line"); });
}

// The table is looked up by text, so that a name which is none would find nothing; but it says so
// before anything is done with it.
TEST_F(ChannelTableTest, NamesOfThePeerAreCheckedBeforeTheyAreUsed) {
  add(listening("a.b"));
  start();
  Mux& mux = *guest_driver->mux();
  const std::map<std::string, int> expected{{"../a.b", EINVAL},
                                            {"a/b", EINVAL},
                                            {std::string("a.b\0", 4), EINVAL},
                                            {"-a", EINVAL},
                                            {std::string(1, '\n'), EINVAL},
                                            {"a.c", ENOENT},
                                            {"A.B", ENOENT},
                                            {"a.b", EPROTOTYPE}};
  std::map<StreamId, std::string> asked;
  for (const auto& [name, error] : expected) asked[mux.open(EndShape::service, name)] = name;
  guest_driver->wake();
  run_until([&] { return guest.refusals.size() == expected.size(); });
  for (const auto& [id, name] : asked) EXPECT_EQ(guest.refusals[id], expected.at(name)) << name;
}

}  // namespace
}  // namespace xenlane::bridge

// A daemon's own side: what it answers about itself, and how it tells why a session ended.
#include "bridge/daemon/peer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "bridge/cli/exit_codes.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/listeners.hpp"
#include "bridge/daemon/program.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

using testing::HasSubstr;

class PeerTest : public testing::Test {
 protected:
  static ChannelConfig channel(const std::string& name, EndKind end) {
    return {.name = *ChannelName::parse(name), .end = end};
  }
  ControlReply reply_to(const boost::json::object& request) {
    return answer_bridge_request(request, "guest", "web", 7, std::chrono::steady_clock::now(),
                                 peer);
  }
  boost::json::object answer(const boost::json::object& request) { return reply_to(request).body; }
  boost::json::object status() { return answer({{"op", "status"}}); }

  const TempDir dir;
  boost::asio::io_context context{1};
  const BridgeConfig config;
  Peer peer{context.get_executor(), Role::guest, "host", config};
};

TEST_F(PeerTest, SaysWhoItIsAndThatThereIsNoSession) {
  peer.set_reason("waiting for the host");
  const auto reply = status();
  EXPECT_EQ(json_text(reply, "role"), "guest");
  EXPECT_EQ(json_text(reply, "guest"), "web");
  EXPECT_EQ(json_number(reply, "domid"), 7U);
  EXPECT_EQ(json_number(reply, "pid"), static_cast<std::uint64_t>(::getpid()));
  EXPECT_EQ(json_text(*json_object(reply, "session"), "state"), "down");
  EXPECT_EQ(json_text(*json_object(reply, "session"), "reason"), "waiting for the host");
  EXPECT_EQ(json_text(*json_object(reply, "lane"), "kind"), "none");
  EXPECT_FALSE(peer.session_up());
}

TEST_F(PeerTest, AnswersNothingButStatus) {
  const auto reply = answer({{"op", "dance"}});
  EXPECT_EQ(json_text(*json_object(reply, "error"), "code"), "unknown-op");
}

TEST_F(PeerTest, LetsEightHoldItsLaneAndRefusesANinth) {
  std::vector<std::shared_ptr<const void>> held;
  for (std::size_t i = 0; i < lane_holds_max; ++i) {
    held.push_back(reply_to({{"op", "hold-lane"}, {"lane", "console"}}).held);
    ASSERT_TRUE(held.back());
  }
  EXPECT_EQ(json_number(*json_object(status(), "lane"), "holds"), lane_holds_max);
  const ControlReply ninth = reply_to({{"op", "hold-lane"}, {"lane", "vchan"}});
  EXPECT_FALSE(ninth.held);
  EXPECT_EQ(json_text(*json_object(ninth.body, "error"), "code"), "busy");
  EXPECT_EQ(json_text(*json_object(status(), "lane"), "set"), "console");
  held.clear();
  EXPECT_EQ(json_text(*json_object(status(), "lane"), "set"), "auto");
  EXPECT_TRUE(reply_to({{"op", "hold-lane"}, {"lane", "vchan"}}).held);
}

TEST_F(PeerTest, AHoldMayOutliveIt) {
  auto other = std::make_unique<Peer>(context.get_executor(), Role::guest, "host", config);
  const auto held = other->hold_lane(LaneForce::console);
  other.reset();
  EXPECT_TRUE(held);
}

// To stop or to leave what is not there is what happens when a domain goes while none is up.
TEST_F(PeerTest, WithoutASessionThereIsNothingToEnd) {
  peer.stop_lane(LaneKind::vchan, "stopped");
  peer.leave_lane(LaneKind::vchan, "left");
  peer.abandon_vchan("abandoned");
  EXPECT_EQ(json_text(*json_object(status(), "session"), "reason"), "starting");
  peer.end_session(ECONNRESET, "the domain has gone");
  EXPECT_EQ(json_text(*json_object(status(), "session"), "reason"), "the domain has gone");
  EXPECT_EQ(json_text(*json_object(status(), "session"), "state"), "down");
}

TEST_F(PeerTest, ChannelWhoseSocketCannotBeMadeIsDisabledAndAlone) {
  dir.write("org.test.taken", "a file of somebody else's");
  {
    ListenerFiles files(dir.path());
    add_channel(peer.channels(), files, channel("org.test.taken", EndKind::listen));
    add_channel(peer.channels(), files, channel("org.test.good", EndKind::listen));
    add_channel(peer.channels(), files, channel("org.test.out", EndKind::dial));
    const auto reply = status();
    const auto& channels = *json_array(reply, "channels");
    ASSERT_EQ(channels.size(), 3U);
    EXPECT_EQ(json_text(channels[0].as_object(), "state"), "disabled");
    EXPECT_THAT(json_text(channels[0].as_object(), "error"), HasSubstr(dir / "org.test.taken"));
    EXPECT_EQ(json_text(channels[1].as_object(), "state"), "ready");
    EXPECT_EQ(json_text(channels[1].as_object(), "socket"), dir / "org.test.good");
    EXPECT_TRUE(channels[2].as_object().at("socket").is_null()) << "it dials and listens nowhere";
    EXPECT_TRUE(std::filesystem::is_socket(dir / "org.test.good"));
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "org.test.good"));
  EXPECT_TRUE(std::filesystem::exists(dir / "org.test.taken")) << "it was never ours";
}

TEST_F(PeerTest, TellsThePvChannelOfAnEndThatHasOne) {
  Peer host{context.get_executor(), Role::host, "web", config};
  ListenerFiles files(dir.path());
  ChannelConfig with = channel("org.test.with", EndKind::port);
  with.console = "/run/{guest}.sock";
  add_channel(host.channels(), files, with);
  add_channel(host.channels(), files, channel("org.test.without", EndKind::port));
  const auto reply = answer_bridge_request({{"op", "status"}}, "worker", "web", 7,
                                           std::chrono::steady_clock::now(), host)
                         .body;
  const auto& channels = *json_array(reply, "channels");
  ASSERT_EQ(channels.size(), 2U);
  EXPECT_EQ(json_text(channels[0].as_object(), "console"), "/run/web.sock");
  EXPECT_TRUE(channels[1].as_object().at("console").is_null());
}

TEST(ListenerFilesTest, FailureNamesThePath) {
  const TempDir dir;
  ListenerFiles files(dir / "absent");
  try {
    files.listen("control", 0600);
    FAIL() << "there is no such folder";
  } catch (const StartFailure& failure) {
    EXPECT_EQ(failure.exit_code, exit_broken);
    EXPECT_THAT(failure.what, HasSubstr(dir / "absent/control"));
  }
}

TEST(BackoffTest, DoublesUpToItsLimitAndStartsAnewAfterSuccess) {
  using std::chrono::milliseconds;
  Backoff backoff(milliseconds(50), milliseconds(300));
  for (const int expected : {50, 100, 200, 300, 300}) {
    EXPECT_EQ(backoff.next(), milliseconds(expected));
  }
  backoff.reset();
  EXPECT_EQ(backoff.next(), milliseconds(50));
}

// Log lines and `xenlane status` show why a session ended, and a refusing host chooses the words.
TEST(PeerSession, ReasonOfARefusalIsOneLineOfPlainText) {
  boost::asio::io_context io{1};
  const BridgeConfig config;
  Peer peer(io.get_executor(), Role::guest, "host", config);
  auto [ours, theirs] = transport::MemoryLane::make_pair(4096);
  std::string reason;
  boost::asio::co_spawn(
      io, peer.run_lane(LaneKind::vchan, std::move(ours), 1),
      [&](const std::exception_ptr&, std::string ended) { reason = std::move(ended); });
  const auto refusal = encode_handshake(Reject{RejectCode::busy, 2, 2, "no\x1b[2J\r\nlevel: \xff"});
  copy_in(theirs->writable(), 0, refusal.view());
  theirs->commit(refusal.size);
  theirs->publish();
  while (reason.empty()) io.run_one();
  EXPECT_EQ(reason, "refused by the host: no\\x1b[2J\\x0d\\x0alevel: \\xff");
  EXPECT_EQ(peer.status().at("session").at("reason").as_string(), reason);
}

}  // namespace
}  // namespace xenlane::bridge

// The life of streams between two honest muxes, as stories.
#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "tests/support/two_peers.hpp"

namespace xenlane::bridge {
namespace {

using test::End;
using test::never_reads;
using test::no_limit;
using test::quiet;
using test::sends;
using test::TwoPeers;

/// How the bytes of a pipe reach their reader.
class MuxDelivery : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (GetParam() == 1) peers.chunking = test::one_byte;
    if (GetParam() > 1) {
      peers.chunking = test::random_chunks(static_cast<std::uint32_t>(GetParam()));
    }
  }
  TwoPeers peers;
};
INSTANTIATE_TEST_SUITE_P(WholeByteByByteAndRandom, MuxDelivery, testing::Values(0, 1, 2, 3));

TEST_P(MuxDelivery, StreamCarriesBytesBothWaysAndEndsClean) {
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, sends(5000)); };
  const StreamId id = peers.guest.open(sends(7000), "org.example.files.0");
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.names, std::vector<std::string>{"org.example.files.0"});
  EXPECT_EQ(peers.host.ends.at(id).received, 7000U);
  EXPECT_EQ(peers.guest.ends.at(id).received, 5000U);
  EXPECT_TRUE(peers.host.ends.at(id).peer_finished && peers.guest.ends.at(id).peer_finished);
  peers.expect_all_gone();
}

TEST_P(MuxDelivery, HostOpensToo) {
  peers.guest.on_open = [&](const OpenRequested& open) { peers.guest.accept(open.id, sends(1)); };
  const StreamId id = peers.host.open(sends(3000));
  EXPECT_EQ(id % 2, 0U) << "the host's ids are even";
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(id).received, 3000U);
  EXPECT_EQ(peers.host.ends.at(id).received, 1U);
  peers.expect_all_gone();
}

TEST(Mux, DataRightBehindOpenNeedsNoAnswer) {
  TwoPeers peers;
  std::uint64_t received = 0;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.ends[open.id] = never_reads(); };
  const StreamId id = peers.guest.open(sends(100'000));
  peers.drive_until_quiet();
  received = peers.host.ends.at(id).received;
  EXPECT_EQ(received, MuxLimits{}.stream_window_bytes_min) << "the stream's first credit, no more";

  peers.host.mux.accept(id);
  peers.host.ends.at(id).accepted = true;
  peers.host.ends.at(id).read_per_step = no_limit;
  peers.host.ends.at(id).finishes = true;
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.ends.at(id).received, 100'000U);
  peers.expect_all_gone();
}

TEST(Mux, RefusalReachesTheOpenerWithItsErrno) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.refuse(open.id, ENOENT); };
  const StreamId id = peers.guest.open(sends(200'000));
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(id).refused, ENOENT);
  EXPECT_GT(peers.host.mux.counters().discarded_bytes, 0U) << "what came right behind OPEN";
  peers.expect_all_gone();
}

TEST(Mux, OpenerMayFinishFirst) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  const StreamId id = peers.guest.open(sends(10));
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.host.ends.at(id).peer_finished);
  peers.host.ends.at(id).to_send = 20'000;
  peers.host.ends.at(id).finishes = true;
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(id).received, 20'000U) << "half-closed is not closed";
  peers.expect_all_gone();
}

TEST(Mux, AcceptorMayFinishFirst) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, sends(9)); };
  const StreamId id = peers.guest.open(quiet());
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.guest.ends.at(id).peer_finished);
  peers.guest.ends.at(id).to_send = 300'000;
  peers.guest.ends.at(id).finishes = true;
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.ends.at(id).received, 300'000U);
  peers.expect_all_gone();
}

TEST(Mux, StopSendingEndsTheWriterWithFinishAndDiscardsTheRest) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  const StreamId id = peers.guest.open(sends(50'000'000));
  peers.drive_bounded(
      [&] { return peers.host.ends.contains(id) && peers.host.ends.at(id).received > 0; });
  peers.host.stop(id);
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.guest.ends.at(id).stop_requested);
  EXPECT_LT(peers.guest.ends.at(id).sent, 50'000'000U);
  peers.host.mux.finish(id);
  peers.drive_until_quiet();
  peers.expect_all_gone();
}

// An application that connects, writes and closes at once, while the other side still dials.
TEST(Mux, StopSendingBeforeTheAnswerLetsTheAnswerGoFirst) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.ends[open.id] = quiet(); };
  const StreamId id = peers.guest.open(sends(10));
  peers.guest.stop(id);
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.host.ends.at(id).stop_requested);
  EXPECT_FALSE(peers.guest.ends.at(id).peer_finished) << "FINISH before the answer";
  peers.host.mux.accept(id);
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.guest.ends.at(id).accepted);
  peers.expect_all_gone();
}

TEST(Mux, ReadySourceOfAnUnansweredOpenWaitsForTheAnswer) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.ends[open.id] = sends(10);
    peers.host.mux.source_ready(open.id);
  };
  const StreamId id = peers.guest.open(quiet());
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.ends.at(id).sent, 0U);
  peers.host.mux.accept(id);
  peers.host.ends.at(id).accepted = true;
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(id).received, 10U);
}

TEST(Mux, SourceThatBecomesReadyAfterItsEndGetsNoTurn) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  const StreamId id = peers.guest.open(sends(10));
  peers.drive_until_quiet();
  peers.guest.mux.source_ready(id);
  EXPECT_TRUE(std::holds_alternative<NoOutput>(peers.guest.mux.poll_output(65536)));
}

TEST(Mux, OpenersResetBeforeTheAnswerStillGetsItsAnswer) {
  TwoPeers peers;
  peers.host.on_open = [](const OpenRequested&) {};
  const StreamId id = peers.guest.open(sends(1000));
  peers.drive_until_quiet();
  peers.guest.reset(id);
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.mux.stream_count(), 0U);
  peers.expect_all_gone();
}

TEST(Mux, OpenersResetCrossesTheAcceptance) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, sends(500)); };
  const StreamId id = peers.guest.open(sends(1000));
  peers.guest.step(no_limit);  // OPEN leaves
  peers.host.step(no_limit);   // ACCEPT and data leave
  peers.guest.reset(id);
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.host.ends.at(id).peer_reset);
  EXPECT_FALSE(peers.guest.ends.at(id).accepted) << "nobody is told of an answer any more";
  peers.expect_all_gone();
}

TEST(Mux, OpenersResetCrossesTheRefusal) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.refuse(open.id, ECONNREFUSED); };
  const StreamId id = peers.guest.open(quiet());
  peers.guest.step(no_limit);
  peers.host.step(no_limit);
  peers.guest.reset(id);
  peers.drive_until_quiet();
  EXPECT_FALSE(peers.guest.ends.at(id).refused.has_value());
  peers.expect_all_gone();
}

TEST(Mux, ResetBeforeOpenWasSentLeavesNoTrace) {
  TwoPeers peers;
  peers.guest.reset(peers.guest.open(quiet()));
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.host.names.empty());
  peers.expect_all_gone();
}

TEST(Mux, AcceptorsResetBeforeItsAnswerIsARefusal) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.mux.reset(open.id, StreamError::internal);
  };
  const StreamId id = peers.guest.open(sends(10));
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(id).refused, ECANCELED);
  peers.expect_all_gone();
}

TEST(Mux, AcceptorsResetBehindAnUnsentAcceptanceKeepsTheAnswer) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.accept(open.id, quiet());
    peers.host.reset(open.id);
  };
  const StreamId id = peers.guest.open(sends(10));
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.guest.ends.at(id).accepted && peers.guest.ends.at(id).peer_reset);
  peers.expect_all_gone();
}

TEST(Mux, ResetDiscardsWhatIsUnderWay) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.accept(open.id, never_reads());
  };
  const StreamId id = peers.guest.open(sends(1'000'000));
  peers.drive_until_quiet();
  EXPECT_GT(peers.host.ends.at(id).held, 0U);
  peers.guest.reset(id);
  peers.drive_until_quiet();
  EXPECT_TRUE(peers.host.ends.at(id).peer_reset);
  peers.expect_all_gone();
}

TEST(Mux, BothSidesResetAtOnce) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, sends(99)); };
  const StreamId id = peers.guest.open(sends(99'000));
  peers.guest.step(no_limit);
  peers.host.step(no_limit);
  peers.guest.step(no_limit);
  peers.host.reset(id);
  peers.guest.reset(id);
  peers.drive_until_quiet();
  peers.expect_all_gone();
}

// The slot of a stream that both sides have finished is free on both sides at once, whatever a side
// still wanted to say about it.
TEST(Mux, OpenerAtItsLimitMayReuseTheSlotOfAFinishedStream) {
  for (const bool with_reset : {false, true}) {
    MuxLimits limits;
    limits.streams_max = 1;
    TwoPeers peers(limits, limits);
    peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, End{}); };
    const StreamId id = peers.guest.open(quiet());
    peers.drive_until_quiet();
    ASSERT_TRUE(peers.guest.ends.at(id).peer_finished);
    peers.guest.ends.at(id).finishes = true;
    peers.guest.step(no_limit);  // FINISH leaves: the guest is done with the stream
    ASSERT_TRUE(peers.guest.mux.can_open());
    if (with_reset) {
      peers.host.reset(id);
    } else {
      peers.host.stop(id);
    }
    peers.guest.open(quiet());
    peers.guest.step(no_limit);
    peers.to_host.let_arrive(no_limit);
    // The host reads FINISH and OPEN before its own frame could leave.
    peers.drive_until_quiet();
    EXPECT_EQ(peers.host.names.size(), 2U);
  }
}

TEST(Mux, ControlGoesBeforeData) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  const StreamId id = peers.guest.open(quiet());
  peers.drive_until_quiet();
  peers.guest.mux.source_ready(id);
  peers.guest.mux.ping(1);
  EXPECT_TRUE(std::holds_alternative<ControlOutput>(peers.guest.mux.poll_output(65536)));
  EXPECT_TRUE(std::holds_alternative<DataTurn>(peers.guest.mux.poll_output(65536)));
  EXPECT_TRUE(std::holds_alternative<NoOutput>(peers.guest.mux.poll_output(1000)))
      << "no slivers into a nearly full ring";
}

TEST(Mux, PingsAreAnsweredAndThoseThatPileUpAreOne) {
  TwoPeers peers;
  peers.guest.mux.ping(7);
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.pongs, std::vector<std::uint64_t>{7});
  peers.guest.mux.ping(8);
  peers.guest.mux.ping(9);
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.pongs, (std::vector<std::uint64_t>{7, 9}));
}

TEST(Mux, GoAwayStopsNewStreamsAndLetsOpenOnesEnd) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  const StreamId old = peers.guest.open(sends(100'000));
  peers.drive_until_quiet();
  peers.host.mux.go_away("restart");
  const StreamId crossing = peers.guest.open(sends(10));
  peers.guest.step(no_limit);
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.goodbyes, std::vector<std::string>{"restart"});
  EXPECT_EQ(peers.guest.ends.at(crossing).refused, ESHUTDOWN);
  EXPECT_FALSE(peers.guest.mux.can_open());
  EXPECT_FALSE(peers.host.mux.can_open());
  peers.host.ends.at(old).to_send = 5;
  peers.host.ends.at(old).finishes = true;
  peers.drive_until_quiet();
  EXPECT_EQ(peers.guest.ends.at(old).received, 5U);
  peers.expect_all_gone();
}

}  // namespace
}  // namespace xenlane::bridge

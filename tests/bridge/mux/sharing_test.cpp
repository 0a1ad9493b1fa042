// How streams share a session: windows, limits and turns.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/two_peers.hpp"

namespace xenlane::bridge {
namespace {

using test::End;
using test::never_reads;
using test::no_limit;
using test::Peer;
using test::quiet;
using test::sends;
using test::TwoPeers;

TEST(Mux, OneStreamThatIsNeverReadHoldsUpNobody) {
  MuxLimits limits;
  limits.streams_max = 100;
  limits.session_window_bytes = 2 * 100 * limits.stream_window_bytes_min;
  TwoPeers peers(limits, limits);
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.accept(open.id, open.id == 1 ? never_reads() : End{});
  };
  std::vector<StreamId> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(peers.guest.open(sends(200'000)));
  peers.drive_until_quiet();
  for (const StreamId id : ids) {
    EXPECT_EQ(peers.host.ends.at(id).received,
              id == 1 ? limits.stream_window_bytes_min : std::uint64_t{200'000});
  }
  EXPECT_EQ(peers.host.mux.stream_count(), 1U);
}

TEST(Mux, StreamsThatNobodyReadsCannotUseUpTheSession) {
  MuxLimits limits;
  limits.streams_max = 8;
  limits.session_window_bytes = 2 * 8 * limits.stream_window_bytes_min;
  TwoPeers peers(limits, limits);
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.accept(open.id, open.id == 15 ? End{} : never_reads());
  };
  StreamId last = 0;
  for (int i = 0; i < 8; ++i) last = peers.guest.open(sends(1'000'000));
  peers.drive_until_quiet();
  EXPECT_EQ(peers.host.ends.at(last).received, 1'000'000U);
}

// The source is announced once: whoever waits for credit must be put back in line by the credit.
TEST(Mux, SenderThatWaitsForCreditGoesOnWhenItComes) {
  MuxLimits limits;
  limits.stream_window_bytes_min = 10'000;
  Mux mux(Role::guest, limits, limits);
  const StreamId id = mux.open(EndShape::service, "org.example.test");
  mux.source_ready(id);
  const auto send_all = [&] {
    std::uint64_t sent = 0;
    for (;;) {
      const Output output = mux.poll_output(no_limit);
      if (std::holds_alternative<NoOutput>(output)) return sent;
      const auto* const turn = std::get_if<DataTurn>(&output);
      if (turn == nullptr) continue;
      mux.data_sent(turn->id, turn->bytes_max);
      sent += turn->bytes_max;
    }
  };
  EXPECT_EQ(send_all(), 10'000U);
  EXPECT_EQ(send_all(), 0U);
  const EncodedFrame credit = encode_frame(CreditFrame{id, 15'000});
  const InputStep step = mux.handle_input({credit.view(), {}});
  ASSERT_TRUE(std::holds_alternative<NoEvent>(step.event));
  EXPECT_EQ(send_all(), 5'000U);
}

// A generous peer does not make this side promise more than its own session window holds.
TEST(Mux, OpensNoMoreThanItsOwnLimitsEither) {
  MuxLimits small;
  small.streams_max = 4;
  small.open_backlog_max = 2;
  MuxLimits generous;
  generous.streams_max = 1'000'000;
  generous.open_backlog_max = 1'000'000;
  TwoPeers peers(small, generous);
  peers.guest.on_open = [](const OpenRequested&) {};
  int opened = 0;
  for (; opened < 100 && peers.host.mux.can_open(); ++opened) {
    peers.host.reset(peers.host.open(quiet()));
    peers.host.open(quiet());
    peers.drive_until_quiet();
  }
  EXPECT_EQ(peers.host.mux.unanswered(), 2U);
}

TEST(Mux, CreditComesBackWhenEverythingHasClosed) {
  MuxLimits limits;
  limits.streams_max = 16;
  limits.session_window_bytes = 1024 * 1024;
  TwoPeers peers(limits, limits);
  peers.host.on_open = [&](const OpenRequested& open) {
    peers.host.accept(open.id, sends(400'000));
  };
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 16; ++i) peers.guest.open(sends(300'000));
    peers.drive_until_quiet();
    peers.expect_all_gone();
    for (const Peer* peer : {&peers.host, &peers.guest}) {
      EXPECT_GE(peer->mux.session_credit(), limits.session_window_bytes / 2);
      EXPECT_LE(peer->mux.session_credit(), limits.session_window_bytes);
    }
  }
}

TEST(Mux, BusyStreamsGetEqualShares) {
  TwoPeers peers;
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  std::vector<StreamId> ids;
  for (int i = 0; i < 100; ++i) {
    End busy = sends(no_limit / 2);
    // Every third application writes in small pieces, which must earn it no less.
    if (i % 3 == 0) busy.read_chunk_max = 3000;
    ids.push_back(peers.guest.open(busy));
  }
  constexpr std::uint64_t total = 200'000'000;
  peers.drive_bounded([&] { return peers.guest.mux.counters().data_bytes_out > total; });
  double sum = 0;
  double squares = 0;
  for (const StreamId id : ids) {
    const auto sent = static_cast<double>(peers.guest.ends.at(id).sent);
    sum += sent;
    squares += sent * sent;
  }
  EXPECT_GE(sum * sum / (100 * squares), 0.99) << "Jain's index";
}

TEST(Mux, ReaderThatKeepsUpEarnsAWiderWindow) {
  TwoPeers peers({}, {}, 4 * 1024 * 1024);
  peers.host.on_open = [&](const OpenRequested& open) { peers.host.accept(open.id, quiet()); };
  End busy = sends(8'000'000);
  busy.finishes = false;
  const StreamId id = peers.guest.open(busy);
  peers.guest.step(no_limit);
  EXPECT_EQ(peers.guest.ends.at(id).sent, MuxLimits{}.stream_window_bytes_min);
  peers.drive_until_quiet();
  ASSERT_EQ(peers.host.ends.at(id).received, 8'000'000U);

  peers.host.ends.at(id).read_per_step = 0;
  peers.guest.ends.at(id).to_send = no_limit;
  peers.drive_until_quiet();
  const std::uint64_t unread = peers.host.ends.at(id).held;
  EXPECT_GE(unread, MuxLimits{}.stream_window_bytes_max / 2) << "credit is renewed by halves";
  EXPECT_LE(unread, MuxLimits{}.stream_window_bytes_max);
}

/// Streams of one mux that always have more to send, and which of them get the turns.
class Turns : public testing::Test {
 protected:
  Turns() : mux_(Role::guest, MuxLimits{}, generous()) {}

  static MuxLimits generous() {
    MuxLimits limits;
    limits.stream_window_bytes_min = limits.session_window_bytes;
    return limits;
  }
  StreamId open() {
    const StreamId id = mux_.open(EndShape::service, "org.example.test");
    while (std::holds_alternative<ControlOutput>(mux_.poll_output(65544))) {
    }
    return id;
  }
  /// Whose turn it is; that stream then sends `bytes` and says whether it has more.
  StreamId turn(std::uint32_t bytes, bool more) {
    const Output output = mux_.poll_output(65544);
    if (!std::holds_alternative<DataTurn>(output)) return 0;
    const StreamId id = std::get<DataTurn>(output).id;
    mux_.data_sent(id, bytes);
    if (!more) mux_.source_drained(id);
    return id;
  }

  Mux mux_;
};

constexpr std::uint32_t full_frame = data_payload_bytes_max;

TEST_F(Turns, WhoWasSilentComesBeforeWhoIsBusy) {
  const StreamId bulk = open();
  const StreamId other = open();
  const StreamId small = open();
  mux_.source_ready(bulk);
  mux_.source_ready(other);
  for (int i = 0; i < 6; ++i) ASSERT_NE(turn(full_frame, true), small);
  mux_.source_ready(small);
  EXPECT_EQ(turn(64, false), small);
}

TEST_F(Turns, NobodyGainsByFallingSilentInBetween) {
  const StreamId bulk = open();
  const StreamId sly = open();
  mux_.source_ready(bulk);
  ASSERT_EQ(turn(full_frame, true), bulk);
  // It says that it has no more and comes back at once, every time.
  int slys = 0;
  int bulks = 0;
  for (int i = 0; i < 100; ++i) {
    mux_.source_ready(sly);
    const StreamId id = turn(full_frame, false);
    if (id == bulk) mux_.source_ready(bulk);
    ++(id == sly ? slys : bulks);
  }
  EXPECT_NEAR(slys, bulks, 2);
}

}  // namespace
}  // namespace xenlane::bridge

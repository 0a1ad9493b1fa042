// Streams that have ended while their bytes still wait for a reader: they are gone for the peer,
// but what they hold counts until it is read.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/bridge/mux/victim.hpp"

namespace xenlane::bridge {
namespace {

constexpr std::uint32_t stream_bytes = 1000;

/// The frames of a DATA frame's header; its payload is then reported as a Chunk and kept.
void receive_unread(Mux& mux, StreamId id) {
  const auto header = encode_frame(DataFrame{id, stream_bytes});
  ASSERT_EQ(mux.handle_input({header.view(), {}}).consumed, frame_header_bytes);
  const std::vector<std::byte> payload(stream_bytes);
  const auto step = mux.handle_input({payload, {}});
  ASSERT_EQ(std::get<Chunk>(step.event).size, stream_bytes);
}

/// The peer opens a stream, fills its window and ends it; this side ends it too and reads nothing.
void end_unread(Victim& victim, StreamId id) {
  ASSERT_EQ(victim.take(open_of(id)), "");
  victim.mux.accept(id);
  victim.flush_output();
  receive_unread(victim.mux, id);
  ASSERT_EQ(victim.take(FinishFrame{id, stream_bytes}), "");
  victim.mux.finish(id);
  victim.flush_output();
  ASSERT_FALSE(victim.mux.has_stream(id));
}

TEST(MuxLingering, UnreadBytesOfEndedStreamsStillCountAsStreams) {
  Victim victim;  // four streams of 1000 bytes each
  for (const StreamId id : {1U, 3U, 5U, 7U}) end_unread(victim, id);
  EXPECT_EQ(victim.mux.held_bytes(), 4U * stream_bytes);

  // The peer may open a fifth by its own count; it is refused and not punished.
  const std::uint64_t refused = victim.mux.counters().streams_refused;
  EXPECT_EQ(victim.take(open_of(9)), "");
  EXPECT_FALSE(victim.mux.has_stream(9));
  EXPECT_EQ(victim.mux.counters().streams_refused, refused + 1);
  victim.flush_output();

  // Half of a stream's bytes are not enough; all of them are.
  victim.mux.delivered(3, stream_bytes / 2);
  EXPECT_EQ(victim.take(open_of(11)), "");
  EXPECT_FALSE(victim.mux.has_stream(11));
  victim.flush_output();
  victim.mux.delivered(3, stream_bytes / 2);
  EXPECT_EQ(victim.take(open_of(13)), "");
  EXPECT_TRUE(victim.mux.has_stream(13));
}

TEST(MuxLingering, OwnStreamsThatEndedUnreadHoldBackTheNextOpen) {
  Victim victim;
  for (int count = 0; count < 4; ++count) {
    ASSERT_TRUE(victim.mux.can_open());
    const StreamId id = victim.mux.open(EndShape::service, "a.b");
    victim.flush_output();
    ASSERT_EQ(victim.take(AcceptFrame{id}), "");
    receive_unread(victim.mux, id);
    ASSERT_EQ(victim.take(FinishFrame{id, stream_bytes}), "");
    victim.mux.finish(id);
    victim.flush_output();
    ASSERT_FALSE(victim.mux.has_stream(id));
  }
  EXPECT_FALSE(victim.mux.can_open());
  victim.mux.delivered(2, stream_bytes);
  EXPECT_TRUE(victim.mux.can_open());
}

/// The peer's ids go once around all 2^32 of them, in three steps, and come to 1 again.
void come_around(Victim& victim) {
  for (const StreamId id : {0x7fffffffU, 0xfffffffdU}) {
    ASSERT_EQ(victim.take(open_of(id)), "");
    victim.mux.refuse(id, ENOENT, "");
    victim.flush_output();
  }
}

TEST(MuxLingering, PeerWhoseIdsComeAroundGetsNoStreamUnderAnIdThatIsStillRead) {
  Victim victim;
  end_unread(victim, 1);
  victim.mux.delivered(1, stream_bytes / 2);
  come_around(victim);

  // Nobody could tell whose bytes are read: the old stream's reader is not done.
  const std::uint64_t refused = victim.mux.counters().streams_refused;
  ASSERT_EQ(victim.take(open_of(1)), "");
  EXPECT_FALSE(victim.mux.has_stream(1));
  EXPECT_EQ(victim.mux.counters().streams_refused, refused + 1);
  EXPECT_EQ(victim.take(DataFrame{1, stream_bytes}), "") << "it cannot know yet";
  EXPECT_EQ(victim.mux.held_bytes(), stream_bytes / 2);
  victim.flush_output();

  victim.mux.delivered(1, stream_bytes / 2);
  EXPECT_EQ(victim.mux.held_bytes(), 0U);
  come_around(victim);
  EXPECT_EQ(victim.take(open_of(1)), "");
  EXPECT_TRUE(victim.mux.has_stream(1));
}

TEST(MuxLingering, PeerMayNotOpenAnIdAgainBeforeItsRefusalWasSent) {
  MuxLimits limits = small_limits();
  limits.open_backlog_max = 4;
  Victim victim(limits);
  for (const StreamId id : {1U, 0x7fffffffU, 0xfffffffdU}) {
    ASSERT_EQ(victim.take(open_of(id)), "");
    victim.mux.refuse(id, ENOENT, "");
  }
  EXPECT_EQ(victim.take(open_of(1)), "OPEN with an id that was used before (protocol section 5.1)");
}

}  // namespace
}  // namespace xenlane::bridge

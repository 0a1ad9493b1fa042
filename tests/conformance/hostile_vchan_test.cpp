// The vchan lane over real libxenvchan against a process that has the same pages and writes to them
// at full speed (tests/support/hostile_peer.hpp): every one of its 4096 control bytes with the
// indexes, ring orders, notify bits, liveness bytes and grants, and both buffers. The same is done
// more often to plain memory in tests/transport; here it is libxenvchan's own set-up that must not
// leave the lane a way to believe the page, and its tear-down that must survive it.
#include <cstdio>

#include "tests/conformance/vchan_ends.hpp"
#include "tests/support/hostile_peer.hpp"

namespace xenlane::transport::test {
namespace {

constexpr std::uint32_t vchan_page_bytes = 4096;

class HostileVchan : public testing::TestWithParam<std::tuple<bool, std::uint32_t>> {
 protected:
  /// The pages as the other end has them mapped, which is where the flipper writes.
  FlipperTarget target_of(libxenvchan& raw, bool lane_is_server) {
    const auto ring = [](const libxenvchan_ring& of) {
      return SharedRing{static_cast<std::byte*>(of.buffer), 1U << static_cast<unsigned>(of.order),
                        &of.shr->prod, &of.shr->cons};
    };
    std::uint8_t* const to_server = &raw.ring->srv_notify;
    std::uint8_t* const to_client = &raw.ring->cli_notify;
    return {{reinterpret_cast<std::byte*>(raw.ring), vchan_page_bytes},
            ring(raw.write),
            ring(raw.read),
            lane_is_server ? to_client : to_server,
            lane_is_server ? to_server : to_client,
            {},
            [&raw] { xenevtchn_notify(raw.event, raw.event_port); }};
  }

  /// A vchan from its set-up to its tear-down, flipped until it is unmapped.
  void run_lane(Temper temper, const Effort& effort) {
    const auto [server, ring_bytes] = GetParam();
    auto [lane, raw] = with_libxenvchan(server, ring_bytes);
    ASSERT_TRUE(lane && raw);
    // Both ends live here, so the lane's own mappings are found by their content.
    const ReadableSpans receive = whole_receive_ring(*lane, *raw);
    const WritableSpans send = lane->writable();
    ASSERT_EQ(receive.first.size(), ring_bytes);
    ASSERT_EQ(send.first.size(), ring_bytes);
    Flipper flipper(target_of(*raw, server));
    Victim victim(*lane, receive.first, send.first, ++lanes, counts);
    lane->nudge();  // the first asks xensim's broker for the way, which takes long
    flipper.resume(temper);
    ASSERT_EQ(victim.run(flipper, effort), "") << "lane " << lanes;
    lane.reset();  // with the flipper still at it
    flipper.pause();
    flips += flipper.flips();
  }

  /// All of the ring that the lane reads, without moving its place: the other end shows a whole
  /// ring of bytes, which stay there to be read.
  static ReadableSpans whole_receive_ring(Lane& lane, libxenvchan& raw) {
    __atomic_store_n(&raw.write.shr->prod, static_cast<std::uint32_t>(lane.receive_ring_bytes()),
                     __ATOMIC_SEQ_CST);
    return lane.readable();
  }

  void report() const {
    std::printf("%u lanes, %lu violations, %lu operations, %lu flips, %lu bytes in, %lu out\n",
                lanes, static_cast<unsigned long>(counts.violations),
                static_cast<unsigned long>(counts.operations), static_cast<unsigned long>(flips),
                static_cast<unsigned long>(counts.bytes_in),
                static_cast<unsigned long>(counts.bytes_out));
  }

  VictimCounts counts;
  std::uint64_t flips = 0;
  std::uint32_t lanes = 0;
};

TEST_P(HostileVchan, IndexesOfAnHonestPeerAreNeverTakenForAViolation) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::polite, {10'000, 1'000'000, 500'000}));
  }
  report();
  EXPECT_EQ(counts.violations, 0U);
}

TEST_P(HostileVchan, FlipsAmongHonestMovesEndTheLaneAndTheNextOneWorks) {
  for (int i = 0; i < 25; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::sly, {1'000, 200'000, 0}));
  }
  report();
  EXPECT_GT(counts.violations, 10U);
}

TEST_P(HostileVchan, AnythingAnywhereOnTheControlPageEndsTheLaneAndTheNextOneWorks) {
  for (int i = 0; i < 25; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::wild, {1'000, 100'000, 0}));
  }
  report();
  EXPECT_EQ(counts.violations, 25U);
}

INSTANTIATE_TEST_SUITE_P(RolesAndRings, HostileVchan,
                         testing::Combine(testing::Bool(), testing::Values(4096U, 65536U)));

}  // namespace
}  // namespace xenlane::transport::test

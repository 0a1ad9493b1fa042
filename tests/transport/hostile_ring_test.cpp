// The lane's data half against a process that writes to its pages at full speed
// (tests/support/hostile_peer.hpp).
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>

#include "tests/support/hostile_peer.hpp"
#include "tests/support/mapped_lane.hpp"

namespace xenlane::transport::test {
namespace {

constexpr std::uint32_t ring_bytes = 4096;

class HostileRing : public testing::Test {
 protected:
  HostileRing() : event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    FlipperTarget target{{rings.control_page(), page_bytes},
                         rings.receive(),
                         rings.send(),
                         &rings.control()->our_requests,
                         &rings.control()->peer_requests,
                         {},
                         {}};
    flipper = std::make_unique<Flipper>(std::move(target));
  }

  /// One lane from its start until it is violated or the effort made.
  void run_lane(Temper temper, const Effort& effort) {
    flipper->pause();
    rings.reset();
    MappedLane lane(rings, event.get());
    Victim victim(lane, {rings.receive_buffer(), ring_bytes}, {rings.send_buffer(), ring_bytes},
                  ++seed, counts);
    flipper->resume(temper);
    ASSERT_EQ(victim.run(*flipper, effort), "") << "lane " << seed;
  }

  void report() const {
    std::printf(
        "%lu lanes, %lu violations, %lu operations, %lu flips, %lu bytes in, %lu out\n",
        static_cast<unsigned long>(seed), static_cast<unsigned long>(counts.violations),
        static_cast<unsigned long>(counts.operations), static_cast<unsigned long>(flipper->flips()),
        static_cast<unsigned long>(counts.bytes_in), static_cast<unsigned long>(counts.bytes_out));
  }

  MappedRings rings{ring_bytes};
  UniqueFd event;
  std::unique_ptr<Flipper> flipper;
  VictimCounts counts;
  std::uint32_t seed = 0;
};

// Bytes and requests that change under the reader are not the ring's affair.
TEST_F(HostileRing, IndexesOfAnHonestPeerAreNeverTakenForAViolation) {
  for (int lane = 0; lane < 10; ++lane) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::polite, {20'000, 2'000'000, 300'000}));
  }
  report();
  EXPECT_EQ(counts.violations, 0U);
}

// An impossible index comes in mid-stream and is often gone at the next look.
TEST_F(HostileRing, FlipsAmongHonestMovesEndTheLaneAndNothingElse) {
  for (int lane = 0; lane < 500; ++lane) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::sly, {1'000, 200'000, 0}));
  }
  report();
  EXPECT_GT(counts.violations, 250U);
}

TEST_F(HostileRing, AnythingAnywhereOnTheControlPageEndsTheLaneAndNothingElse) {
  for (int lane = 0; lane < 1'000; ++lane) {
    ASSERT_NO_FATAL_FAILURE(run_lane(Temper::wild, {1'000, 100'000, 0}));
  }
  report();
  EXPECT_EQ(counts.violations, 1'000U);
}

}  // namespace
}  // namespace xenlane::transport::test

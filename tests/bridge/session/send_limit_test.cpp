// How bulk's share of the ring follows the small messages that pass it.
#include "bridge/session/send_limit.hpp"

#include <gtest/gtest.h>

#include "bridge/wire/limits.hpp"

namespace xenlane::bridge {
namespace {

constexpr std::size_t ring = 1024 * 1024;

TEST(SendLimit, BulkAloneHasTheWholeRing) {
  const SendLimit limit(ring);
  EXPECT_EQ(limit.allowed(ring), ring);
  EXPECT_EQ(limit.allowed(100), 100U);
}

TEST(SendLimit, SmallMessageLeavesRoomForOneShortFrame) {
  SendLimit limit(ring);
  limit.silence_ended(64);
  EXPECT_EQ(limit.allowed(ring), frame_header_bytes + 32 * 1024);
  EXPECT_EQ(limit.allowed(ring / 2), 0U) << "the ring holds more than that unread";
}

TEST(SendLimit, AllowsNoSlivers) {
  SendLimit limit(ring);
  limit.silence_ended(64);
  EXPECT_EQ(limit.allowed(ring - 20'000), 0U);
  EXPECT_GT(limit.allowed(ring - 10'000), 20'000U);
}

TEST(SendLimit, LongMessageOfASilentStreamIsBulkItself) {
  SendLimit limit(ring);
  limit.silence_ended(65536);
  EXPECT_EQ(limit.current(), ring);
}

TEST(SendLimit, RisesWhenNoSmallMessageComesAnyMore) {
  SendLimit limit(ring);
  limit.silence_ended(64);
  std::size_t sent = 0;
  while (limit.current() < ring) {
    limit.sent(32 * 1024);
    sent += 32 * 1024;
    ASSERT_LT(sent, 64 * ring);
  }
  EXPECT_GT(sent, 2 * ring);
}

TEST(SendLimit, StaysWhileTheyComeByOften) {
  SendLimit limit(ring);
  for (int i = 0; i < 1000; ++i) {
    limit.silence_ended(64);
    limit.sent(ring);
    ASSERT_LE(limit.current(), frame_header_bytes + 32 * 1024);
  }
}

TEST(SendLimit, SmallestRingIsNotLimitedFurther) {
  SendLimit limit(ring_bytes_min);
  limit.silence_ended(64);
  EXPECT_EQ(limit.allowed(ring_bytes_min), ring_bytes_min);
}

}  // namespace
}  // namespace xenlane::bridge

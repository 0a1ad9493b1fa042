// The ring's index arithmetic, walked through every state of an 8-bit counter.
#include "transport/ring_cursor.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace xenlane::transport {
namespace {

constexpr std::array<std::uint8_t, 8> sizes{1, 2, 4, 8, 16, 32, 64, 128};

/// How far `to` is ahead of `from` on a counter of 8 bits.
int ahead(int to, int from) {
  return (to - from) & 0xFF;
}

template <typename Cursor>
void expect_inside(const Cursor& cursor, int count) {
  ASSERT_LT(cursor.offset(), cursor.size());
  ASSERT_GE(count, 0);
  ASSERT_LE(static_cast<std::size_t>(count), cursor.size());
}

TEST(ReceiveCursor, TakesExactlyWhatAnHonestProducerCouldHaveWritten) {
  for (const std::uint8_t size : sizes) {
    for (int own = 0; own < 256; ++own) {
      for (int peer = 0; peer < 256; ++peer) {
        ReceiveCursor<std::uint8_t> cursor(size, static_cast<std::uint8_t>(own));
        const bool honest = ahead(peer, own) <= size;
        ASSERT_EQ(cursor.observe(static_cast<std::uint8_t>(peer)), honest)
            << int{size} << " " << own << " " << peer;
        ASSERT_EQ(cursor.ready(), honest ? ahead(peer, own) : 0) << "a refusal changes nothing";
        ASSERT_NO_FATAL_FAILURE(expect_inside(cursor, cursor.ready()));
        ASSERT_EQ(cursor.offset(), static_cast<std::size_t>(own % size));
      }
    }
  }
}

TEST(SendCursor, TakesExactlyWhatAnHonestConsumerCouldHaveWritten) {
  for (const std::uint8_t size : sizes) {
    for (int start = 0; start < 256; ++start) {
      for (int committed = 0; committed <= size; ++committed) {
        for (int peer = 0; peer < 256; ++peer) {
          SendCursor<std::uint8_t> cursor(size, static_cast<std::uint8_t>(start));
          cursor.commit(static_cast<std::size_t>(committed));
          const bool honest = ahead(peer, start) <= committed;
          ASSERT_EQ(cursor.observe(static_cast<std::uint8_t>(peer)), honest);
          ASSERT_EQ(cursor.unconsumed(), committed - (honest ? ahead(peer, start) : 0));
          ASSERT_EQ(cursor.room(), size - cursor.unconsumed());
          ASSERT_NO_FATAL_FAILURE(expect_inside(cursor, cursor.room()));
        }
      }
    }
  }
}

// Every second step of the peer, from every state its first could have led to.
TEST(ReceiveCursor, MayMoveForwardButNeverBackNorPastTheReader) {
  for (const std::uint8_t size : {std::uint8_t{4}, std::uint8_t{128}}) {
    for (int own = 0; own < 256; own += 5) {
      for (int first = 0; first <= size; ++first) {
        for (int consumed = 0; consumed <= first; consumed += 1 + size / 8) {
          for (int second = 0; second < 256; ++second) {
            ReceiveCursor<std::uint8_t> cursor(size, static_cast<std::uint8_t>(own));
            ASSERT_TRUE(cursor.observe(static_cast<std::uint8_t>(own + first)));
            cursor.consume(static_cast<std::size_t>(consumed));
            const int advance = ahead(second, own + first);
            const bool honest = advance <= size - (first - consumed);
            ASSERT_EQ(cursor.observe(static_cast<std::uint8_t>(second)), honest);
            ASSERT_EQ(cursor.ready(), first - consumed + (honest ? advance : 0));
            ASSERT_NO_FATAL_FAILURE(expect_inside(cursor, cursor.ready()));
          }
        }
      }
    }
  }
}

TEST(SendCursor, ConsumerMayNotMoveBack) {
  SendCursor<std::uint8_t> cursor(128, 250);
  cursor.commit(100);
  ASSERT_TRUE(cursor.observe(static_cast<std::uint8_t>(250 + 60)));
  EXPECT_FALSE(cursor.observe(static_cast<std::uint8_t>(250 + 59)));
  EXPECT_TRUE(cursor.observe(static_cast<std::uint8_t>(250 + 60)));
  EXPECT_FALSE(cursor.observe(static_cast<std::uint8_t>(250 + 101)));
  EXPECT_EQ(cursor.unconsumed(), 40);
}

}  // namespace
}  // namespace xenlane::transport

// The ring's index arithmetic, walked through every state of an 8-bit counter, and the spans that a
// lane makes of it.
#include "transport/ring_cursor.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>

#include "transport/memory/memory_lane.hpp"

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

// The whole of both cursors, state by state: what a cursor does depends on its size, its own
// counter and what lies between that and the peer's, so these three loops reach every state there
// is. From each, every counter the peer could show and every request the caller could make is
// tried, and what comes of it must be again one of these states, as told by plain integers that
// never wrap.
struct State {
  int size;  ///< of the ring
  int own;   ///< our counter, 0 to 255
  int held;  ///< bytes between the two counters, 0 to size
};

template <typename Visit>
void every_state(Visit visit) {
  for (const std::uint8_t size : sizes) {
    for (int own = 0; own < 256; ++own) {
      for (int held = 0; held <= size; ++held) visit(State{size, own, held});
    }
  }
}

std::string name_of(const State& state, int input) {
  return "size " + std::to_string(state.size) + ", own " + std::to_string(state.own) + ", held " +
         std::to_string(state.held) + ", input " + std::to_string(input);
}

bool is(const ReceiveCursor<std::uint8_t>& cursor, const State& state) {
  return cursor.consumer() == state.own % 256 && cursor.ready() == state.held &&
         cursor.offset() == static_cast<std::size_t>(state.own % state.size);
}

ReceiveCursor<std::uint8_t> receive_cursor(const State& state) {
  ReceiveCursor<std::uint8_t> cursor(static_cast<std::uint8_t>(state.size),
                                     static_cast<std::uint8_t>(state.own));
  EXPECT_TRUE(cursor.observe(static_cast<std::uint8_t>((state.own + state.held) % 256)));
  return cursor;
}

TEST(ReceiveCursor, IsWhatAModelOfWideIntegersSaysInEveryState) {
  std::uint64_t steps = 0;
  std::string first_fault;
  every_state([&](const State& state) {
    const auto before = receive_cursor(state);
    for (int peer = 0; peer < 256; ++peer, ++steps) {
      // The only position not behind the last one that shows as this counter.
      const int seen = state.own + state.held;
      const int position = seen + ahead(peer, seen);
      const bool honest = position <= state.own + state.size;
      const State after{state.size, state.own, honest ? position - state.own : state.held};
      auto cursor = before;
      const bool taken = cursor.observe(static_cast<std::uint8_t>(peer));
      if ((taken != honest || !is(cursor, after)) && first_fault.empty()) {
        first_fault = "observe: " + name_of(state, peer);
      }
    }
    for (int request = 0; request <= state.held; ++request, ++steps) {
      auto cursor = before;
      cursor.consume(static_cast<std::size_t>(request));
      const State after{state.size, state.own + request, state.held - request};
      if (!is(cursor, after) && first_fault.empty()) {
        first_fault = "consume: " + name_of(state, request);
      }
    }
  });
  EXPECT_EQ(first_fault, "");
  EXPECT_GT(steps, 17'000'000U);
}

bool is(const SendCursor<std::uint8_t>& cursor, const State& state) {
  return cursor.producer() == state.own % 256 && cursor.unconsumed() == state.held &&
         cursor.room() == state.size - state.held &&
         cursor.offset() == static_cast<std::size_t>(state.own % state.size);
}

// The peer's counter is `held` behind ours.
SendCursor<std::uint8_t> send_cursor(const State& state) {
  SendCursor<std::uint8_t> cursor(static_cast<std::uint8_t>(state.size),
                                  static_cast<std::uint8_t>((state.own - state.held) & 0xFF));
  cursor.commit(static_cast<std::size_t>(state.held));
  return cursor;
}

TEST(SendCursor, IsWhatAModelOfWideIntegersSaysInEveryState) {
  std::uint64_t steps = 0;
  std::string first_fault;
  every_state([&](const State& state) {
    const auto before = send_cursor(state);
    for (int peer = 0; peer < 256; ++peer, ++steps) {
      const int seen = state.own + 256 - state.held;
      const int position = seen + ahead(peer, seen);
      const bool honest = position <= state.own + 256;
      const State after{state.size, state.own, honest ? state.own + 256 - position : state.held};
      auto cursor = before;
      const bool taken = cursor.observe(static_cast<std::uint8_t>(peer));
      if ((taken != honest || !is(cursor, after)) && first_fault.empty()) {
        first_fault = "observe: " + name_of(state, peer);
      }
    }
    for (int request = 0; request <= state.size - state.held; ++request, ++steps) {
      auto cursor = before;
      cursor.commit(static_cast<std::size_t>(request));
      const State after{state.size, state.own + request, state.held + request};
      if (!is(cursor, after) && first_fault.empty()) {
        first_fault = "commit: " + name_of(state, request);
      }
    }
  });
  EXPECT_EQ(first_fault, "");
  EXPECT_GT(steps, 17'000'000U);
}

// A request that is too large is the caller's fault, not the peer's, and must not pass in silence.
TEST(RingCursorDeathTest, ARequestForMoreThanThereIsStopsTheProgram) {
  for (const State& state : {State{1, 255, 0}, State{16, 250, 9}, State{128, 3, 127}}) {
    EXPECT_DEATH(receive_cursor(state).consume(static_cast<std::size_t>(state.held) + 1),
                 "assertion failed: count <= ready");
    EXPECT_DEATH(send_cursor(state).commit(static_cast<std::size_t>(state.size - state.held) + 1),
                 "");
  }
}

// Every offset and every length in rings of every small size. The buffers are as long as the ring,
// so that AddressSanitizer sees the first byte outside.
TEST(SharedRingLane, SpansAreTheRingsBytesInOrderAtEveryOffsetAndLength) {
  for (const std::uint8_t size : sizes) {
    for (std::size_t offset = 0; offset < size; ++offset) {
      for (std::size_t count = 0; count <= size; ++count) {
        auto [writer, reader] = MemoryLane::make_pair(size);
        writer->commit(offset);
        writer->publish();
        (void)reader->readable();
        reader->consume(offset);
        reader->publish();
        const auto room = writer->writable().slice(0, count);
        ASSERT_EQ(room.size(), count);
        int value = 0;
        for (const auto part : {room.first, room.second}) {
          for (std::byte& byte : part) byte = static_cast<std::byte>(++value);
        }
        writer->commit(count);
        writer->publish();
        const auto ready = reader->readable();
        ASSERT_EQ(ready.size(), count);
        value = 0;
        for (const auto part : {ready.first, ready.second}) {
          for (const std::byte byte : part) ASSERT_EQ(byte, static_cast<std::byte>(++value));
        }
      }
    }
  }
}

// The counters count bytes for ever and so pass 2^32; an odd piece makes the wrap fall anywhere.
TEST(SharedRingLane, GoesOnWhenItsCountersWrap) {
  constexpr std::uint32_t ring_bytes = 1U << 20;
  constexpr std::uint64_t total = (std::uint64_t{1} << 32) + 10 * std::uint64_t{ring_bytes};
  auto [writer, reader] = MemoryLane::make_pair(ring_bytes);
  constexpr std::size_t piece = ring_bytes - 13;
  for (std::uint64_t sent = 0; sent < total; sent += piece) {
    const auto room = writer->writable();
    ASSERT_EQ(room.size(), ring_bytes) << sent;
    room.first.front() = static_cast<std::byte>(sent);
    writer->commit(piece);
    writer->publish();
    const auto ready = reader->readable();
    ASSERT_EQ(ready.size(), piece) << sent;
    ASSERT_EQ(ready.first.front(), static_cast<std::byte>(sent));
    ASSERT_EQ(writer->unconsumed_bytes(), piece);
    reader->consume(piece);
    reader->publish();
  }
  EXPECT_EQ(reader->state(), LaneState::open);
  EXPECT_EQ(writer->state(), LaneState::open);
}

}  // namespace
}  // namespace xenlane::transport

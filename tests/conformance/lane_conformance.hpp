// What every kind of lane must do, told once and run over each kind in both roles.
//
// A kind is instantiated by a LaneKind, which makes pairs of ends: two lanes, or one lane and the
// bare shared memory at its other end, to play a peer without manners.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bridge/session/session.hpp"
#include "transport/lane.hpp"

namespace xenlane::transport::test {

inline constexpr std::uint32_t small_ring = 4096;

struct LanePair {
  std::unique_ptr<Lane> ours;
  std::unique_ptr<Lane> theirs;
};

/// A lane, and what its peer can write.
struct ExposedLane {
  std::unique_ptr<Lane> ours;
  std::uint32_t* producer = nullptr;  ///< the peer's: of the ring that `ours` reads
  std::uint32_t* consumer = nullptr;  ///< the peer's: of the ring that `ours` writes
  std::uint8_t* live = nullptr;       ///< the peer's liveness byte
  std::shared_ptr<void> keep;         ///< what must live as long
};

struct LaneKind {
  std::string name;
  std::function<LanePair(std::uint32_t ring_bytes)> make_pair;
  std::function<ExposedLane(std::uint32_t ring_bytes)> expose;
  /// For a kind whose rings have one size only.
  std::uint32_t ring_bytes = small_ring;
  /// For a kind whose ends have to say to each other what shared memory shows at once, and can be
  /// heard only while both take part.
  bool carries_messages = false;
};

inline void PrintTo(const LaneKind& kind, std::ostream* out) {
  *out << kind.name;
}

inline bool woken(const Lane& lane, int wait_ms = 0) {
  pollfd waiting{lane.wait_fd(), POLLIN, 0};
  return ::poll(&waiting, 1, wait_ms) == 1;
}

/// Takes back what woke the lane so far.
inline void settle(Lane& lane) {
  while (woken(lane)) lane.acknowledge();
}

inline std::vector<std::byte> pattern(std::size_t bytes, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(bytes);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

inline void write(Lane& lane, std::span<const std::byte> bytes) {
  ASSERT_GE(lane.writable().size(), bytes.size());
  bridge::copy_in(lane.writable(), 0, bytes);
  lane.commit(bytes.size());
  lane.publish();
}

inline std::vector<std::byte> copy_of(const ReadableSpans& spans) {
  std::vector<std::byte> out(spans.size());
  bridge::copy_out(spans, 0, out);
  return out;
}

inline std::vector<std::byte> read_all(Lane& lane) {
  std::vector<std::byte> out = copy_of(lane.readable());
  lane.consume(out.size());
  lane.publish();
  return out;
}

/// Lets both ends of a kind that carries messages say and hear what there is.
inline void exchange(Lane& one, Lane& other) {
  const auto quiet = [](Lane& lane) {
    const bool was_woken = woken(lane);
    if (was_woken) lane.acknowledge();
    return !lane.arm(false, false) && !was_woken;
  };
  for (int quiet_turns = 0; quiet_turns < 2;) {
    const bool one_quiet = quiet(one);
    const bool both_quiet = quiet(other) && one_quiet;
    quiet_turns = both_quiet ? quiet_turns + 1 : 0;
  }
}

class LaneConformance : public testing::TestWithParam<LaneKind> {
 protected:
  void make() {
    ring = GetParam().ring_bytes;
    pair = GetParam().make_pair(ring);
    ASSERT_TRUE(pair.ours && pair.theirs);
    ASSERT_EQ(pair.theirs->state(), LaneState::open);
    ASSERT_EQ(pair.ours->state(), LaneState::open);
  }
  /// What one end has published is there for the other.
  void carry() {
    if (GetParam().carries_messages) exchange(*pair.ours, *pair.theirs);
  }
  /// As read_all; a kind that carries messages may show less than a ringful at once.
  std::vector<std::byte> read_whole(Lane& lane) {
    std::vector<std::byte> out = read_all(lane);
    while (GetParam().carries_messages) {
      carry();
      const auto more = read_all(lane);
      if (more.empty()) break;
      out.insert(out.end(), more.begin(), more.end());
    }
    return out;
  }
  LanePair pair;
  std::uint32_t ring = 0;
};

TEST_P(LaneConformance, StartsEmptyWithTheWholeRingAsRoom) {
  make();
  for (const auto& lane : {pair.ours.get(), pair.theirs.get()}) {
    EXPECT_EQ(lane->receive_ring_bytes(), ring);
    EXPECT_EQ(lane->send_ring_bytes(), ring);
    EXPECT_TRUE(lane->readable().empty());
    EXPECT_EQ(lane->writable().size(), ring);
    EXPECT_EQ(lane->unconsumed_bytes(), 0U);
  }
}

TEST_P(LaneConformance, CarriesAnySizeUpToTheRing) {
  make();
  std::uint32_t seed = 0;
  for (const std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{2048},
                                 std::size_t{ring - 1}, std::size_t{ring}}) {
    for (const bool back : {false, true}) {
      Lane& from = back ? *pair.theirs : *pair.ours;
      Lane& to = back ? *pair.ours : *pair.theirs;
      const auto bytes = pattern(size, ++seed);
      write(from, bytes);
      carry();
      EXPECT_EQ(from.writable().size(), ring - size);
      EXPECT_EQ(from.unconsumed_bytes(), size);
      EXPECT_TRUE(copy_of(from.unconsumed()) == bytes) << size;
      EXPECT_TRUE(read_whole(to) == bytes) << size;
      EXPECT_EQ(from.unconsumed_bytes(), 0U);
      EXPECT_EQ(from.writable().size(), ring);
    }
  }
}

TEST_P(LaneConformance, WrapsAroundAtEveryOffset) {
  make();
  for (std::uint32_t offset = 0; offset < ring; ++offset) {
    const auto bytes = pattern(97, offset);
    write(*pair.ours, bytes);
    carry();
    const auto spans = pair.theirs->readable();
    ASSERT_EQ(spans.size(), bytes.size());
    ASSERT_EQ(spans.second.empty(), (offset * 97) % ring + 97 <= ring);
    ASSERT_TRUE(read_all(*pair.theirs) == bytes) << offset;
    carry();
  }
}

TEST_P(LaneConformance, PeerSeesNothingBeforePublish) {
  make();
  pair.ours->commit(pair.ours->writable().size());
  carry();
  EXPECT_TRUE(pair.theirs->readable().empty());
  pair.ours->publish();
  carry();
  EXPECT_EQ(pair.theirs->readable().size(), ring);
  pair.theirs->consume(100);
  carry();
  EXPECT_TRUE(pair.ours->writable().empty());
  EXPECT_EQ(pair.theirs->readable().size(), ring - 100);
  pair.theirs->publish();
  carry();
  EXPECT_EQ(pair.ours->writable().size(), 100U);
}

TEST_P(LaneConformance, BatchWithOnePublishWakesOnce) {
  make();
  settle(*pair.theirs);
  EXPECT_FALSE(pair.theirs->arm(true, false));
  for (int i = 0; i < 50; ++i) {
    (void)pair.ours->writable();
    pair.ours->commit(3);
  }
  EXPECT_FALSE(woken(*pair.theirs));
  pair.ours->publish();
  ASSERT_TRUE(woken(*pair.theirs, 10'000));
  pair.theirs->acknowledge();
  EXPECT_FALSE(woken(*pair.theirs));
}

TEST_P(LaneConformance, WhoDidNotAskIsNotWoken) {
  if (GetParam().carries_messages) GTEST_SKIP() << "a message wakes whoever waits for one";
  make();
  EXPECT_FALSE(pair.theirs->arm(true, false));
  write(*pair.ours, pattern(1, 1));  // takes the request back
  settle(*pair.theirs);
  write(*pair.ours, pattern(1, 2));
  EXPECT_FALSE(woken(*pair.theirs));
  pair.ours->publish();
  EXPECT_FALSE(woken(*pair.theirs)) << "nothing new to publish";
}

TEST_P(LaneConformance, RoomWakesTheWriterThatAskedForIt) {
  make();
  write(*pair.ours, pattern(ring, 1));
  carry();
  EXPECT_TRUE(pair.ours->writable().empty());
  EXPECT_FALSE(pair.ours->arm(false, true));
  settle(*pair.ours);
  (void)pair.theirs->readable();
  pair.theirs->consume(1);
  pair.theirs->publish();
  EXPECT_TRUE(woken(*pair.ours, 10'000));
}

TEST_P(LaneConformance, ArmTellsOfBytesAndRoomThatAppearedMeanwhile) {
  make();
  EXPECT_TRUE(pair.theirs->readable().empty());
  write(*pair.ours, pattern(ring, 1));
  EXPECT_TRUE(pair.theirs->arm(true, false) || woken(*pair.theirs));
  EXPECT_TRUE(pair.ours->writable().empty());
  read_all(*pair.theirs);
  EXPECT_TRUE(pair.ours->arm(false, true) || woken(*pair.ours));
}

// Looking how much is unconsumed must not make arm() believe that the writer has seen the room.
TEST_P(LaneConformance, ArmTellsOfRoomAlsoWhenSomebodyCountedInBetween) {
  make();
  write(*pair.ours, pattern(ring, 1));
  carry();
  EXPECT_TRUE(pair.ours->writable().empty());
  read_whole(*pair.theirs);
  EXPECT_EQ(pair.ours->unconsumed_bytes(), 0U);
  EXPECT_TRUE(pair.ours->arm(true, true));
}

TEST_P(LaneConformance, NudgeWakesWhoDidNotAsk) {
  make();
  settle(*pair.theirs);
  pair.ours->nudge();
  EXPECT_TRUE(woken(*pair.theirs, 10'000));
}

TEST_P(LaneConformance, WhatWasCommittedBeforeTheCloseIsReadAfterIt) {
  make();
  const auto bytes = pattern(3000, 1);
  write(*pair.theirs, bytes);
  pair.theirs.reset();
  EXPECT_TRUE(woken(*pair.ours, 10'000)) << "a close wakes";
  pair.ours->acknowledge();
  EXPECT_EQ(pair.ours->state(), LaneState::closed);
  EXPECT_TRUE(pair.ours->arm(true, true)) << "nobody sleeps on a closed lane";
  EXPECT_TRUE(read_all(*pair.ours) == bytes);
}

/// Sends and receives `total` bytes each way as a driver would, sleeping whenever arm() allows it.
/// `others_at_work` is about ends that still need this one's answers when it is done.
inline std::string run_end(Lane& lane, std::size_t total, std::uint32_t send_seed,
                           std::uint32_t receive_seed, std::atomic<int>& others_at_work) {
  const auto to_send = pattern(total, send_seed);
  const auto expected = pattern(total, receive_seed);
  std::mt19937 random(send_seed * 77);
  std::size_t sent = 0;
  std::size_t received = 0;
  while (sent < total || received < total) {
    const auto in = lane.readable();
    const std::size_t take = std::min<std::size_t>(in.size(), 1 + random() % 3000);
    if (take > 0) {
      std::vector<std::byte> got(take);
      bridge::copy_out(in, 0, got);
      if (!std::equal(got.begin(), got.end(), expected.begin() + static_cast<long>(received))) {
        --others_at_work;
        return "altered bytes";
      }
      lane.consume(take);
      received += take;
    }
    const auto room = lane.writable();
    const std::size_t give =
        std::min({room.size(), total - sent, 1 + random() % std::size_t{3000}});
    if (give > 0) {
      bridge::copy_in(room, 0, std::span(to_send).subspan(sent, give));
      lane.commit(give);
      sent += give;
    }
    lane.publish();
    (void)lane.unconsumed_bytes();
    if (take > 0 || give > 0 || lane.arm(true, sent < total)) continue;
    if (!woken(lane, 10'000)) {
      --others_at_work;
      return "a wake-up was lost with " + std::to_string(total - sent) + " bytes to send and " +
             std::to_string(total - received) + " to receive";
    }
    lane.acknowledge();
  }
  for (--others_at_work; others_at_work > 0;) {
    if (!lane.arm(false, false) && woken(lane, 1)) lane.acknowledge();
  }
  return "";
}

TEST_P(LaneConformance, NoWakeUpIsLostBetweenTwoThreads) {
  make();
  constexpr std::size_t total = 4'000'000;
  std::string theirs = "did not run";
  // Shared memory needs nobody at its other end.
  std::atomic<int> at_work = GetParam().carries_messages ? 2 : 1;
  std::thread other([&] { theirs = run_end(*pair.theirs, total, 2, 1, at_work); });
  const std::string ours = run_end(*pair.ours, total, 1, 2, at_work);
  other.join();
  EXPECT_EQ(ours, "");
  EXPECT_EQ(theirs, "");
}

class LaneAgainstHostility : public testing::TestWithParam<LaneKind> {
 protected:
  void SetUp() override {
    exposed = GetParam().expose(small_ring);
    ASSERT_TRUE(exposed.ours);
    ASSERT_EQ(exposed.ours->state(), LaneState::open);
  }
  void move(std::uint32_t* counter, std::uint32_t by) const {
    __atomic_fetch_add(counter, by, __ATOMIC_SEQ_CST);
  }
  void expect_violated() const {
    Lane& lane = *exposed.ours;
    (void)lane.readable();
    (void)lane.writable();
    EXPECT_EQ(lane.state(), LaneState::violated);
    EXPECT_TRUE(lane.readable().empty());
    EXPECT_TRUE(lane.writable().empty());
    EXPECT_TRUE(lane.arm(true, true)) << "nobody sleeps on it";
  }
  ExposedLane exposed;
};

TEST_P(LaneAgainstHostility, ProducerPastTheRing) {
  move(exposed.producer, small_ring + 1);
  expect_violated();
}

TEST_P(LaneAgainstHostility, ProducerMovesBack) {
  move(exposed.producer, 10);
  EXPECT_EQ(exposed.ours->readable().size(), 10U);
  move(exposed.producer, ~0U);
  expect_violated();
}

TEST_P(LaneAgainstHostility, ProducerBehindItsStart) {
  move(exposed.producer, ~0U);
  expect_violated();
}

TEST_P(LaneAgainstHostility, ConsumerPastWhatWasWritten) {
  write(*exposed.ours, pattern(10, 1));
  move(exposed.consumer, 11);
  expect_violated();
}

TEST_P(LaneAgainstHostility, ConsumerMovesBack) {
  write(*exposed.ours, pattern(10, 1));
  move(exposed.consumer, 10);
  EXPECT_EQ(exposed.ours->unconsumed_bytes(), 0U);
  EXPECT_EQ(exposed.ours->writable().size(), small_ring);
  move(exposed.consumer, ~0U);
  expect_violated();
}

TEST_P(LaneAgainstHostility, CountingAloneNoticesAnImpossibleConsumer) {
  move(exposed.consumer, 1);
  (void)exposed.ours->unconsumed_bytes();
  EXPECT_EQ(exposed.ours->state(), LaneState::violated);
}

TEST_P(LaneAgainstHostility, HonestCorrectionAfterAViolationDoesNotHeal) {
  move(exposed.producer, small_ring + 1);
  (void)exposed.ours->readable();
  move(exposed.producer, ~small_ring);
  expect_violated();
}

TEST_P(LaneAgainstHostility, JunkInTheLivenessByteIsNoEnd) {
  for (int value = 255; value > 0; --value) {
    __atomic_store_n(exposed.live, static_cast<std::uint8_t>(value), __ATOMIC_SEQ_CST);
    ASSERT_EQ(exposed.ours->state(), LaneState::open) << value;
  }
  __atomic_store_n(exposed.live, std::uint8_t{0}, __ATOMIC_SEQ_CST);
  EXPECT_EQ(exposed.ours->state(), LaneState::closed);
}

}  // namespace xenlane::transport::test

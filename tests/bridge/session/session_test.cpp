// The session as a pipe over successive lanes: what is sent again after a cut is exactly what the
// peer has not consumed, wherever the cut comes, and nobody claims what cannot be.
#include "bridge/session/session.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "tests/bridge/session/fake_carrier.hpp"

namespace xenlane::bridge {
namespace {

using test::Bytes;
using test::FakeCarrier;
using test::id_of;

/// One direction of a session: a sender with lanes that come and go, and what its peer has got.
class Pipe {
 public:
  Pipe() { session.begin(id_of(9), Greeting{}, next_lane()); }
  /// Puts `count` bytes that are like no others onto the lane.
  void say(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) said.push_back(static_cast<std::byte>(said.size()));
    put(std::span(said).last(count));
    session.count_sent(count);
  }
  /// Puts up to `count` of the bytes to be sent again onto the lane; returns how many.
  std::size_t say_again(std::size_t count) {
    const auto again = session.resend();
    count = std::min(count, again.size());
    put(again.first(count));
    session.count_resent(count);
    return count;
  }
  /// The peer has read up to this position of what the lane carries. `seen` of what it has read is
  /// what the sender knows of when it gives the lane up.
  void cut(std::uint64_t read_to, std::uint64_t seen_to, bool superseded = false) {
    FakeCarrier& lane = lanes.back();
    const auto count = static_cast<std::size_t>(read_to - heard.size());
    ASSERT_LE(count, lane.put.size());
    lane.consumed = static_cast<std::size_t>(seen_to - heard.size());
    heard.insert(heard.end(), lane.put.begin(), lane.put.begin() + static_cast<long>(count));
    session.cut(superseded);
  }
  void resume() { session.resume(heard.size(), next_lane()); }
  std::uint64_t on_lane_to() const { return heard.size() + lanes.back().put.size(); }

  Session session{{Role::host, id_of(1), {}}};
  std::deque<FakeCarrier> lanes;
  Bytes said;   ///< all there ever was
  Bytes heard;  ///< what the peer has consumed, over all lanes

 private:
  FakeCarrier& next_lane() { return lanes.emplace_back(); }
  void put(std::span<const std::byte> bytes) {
    lanes.back().put.insert(lanes.back().put.end(), bytes.begin(), bytes.end());
  }
};

Bytes copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

Bytes rest_of(const Bytes& bytes, std::uint64_t from) {
  return copy_of(std::span(bytes).subspan(static_cast<std::size_t>(from)));
}

TEST(Session, BeginsWithNothingToSendAgain) {
  Session session({Role::guest, id_of(2), {}});
  EXPECT_EQ(session.state(), SessionState::none);
  EXPECT_EQ(session.mux(), nullptr);
  FakeCarrier lane;
  Greeting peer;
  peer.instance = id_of(1);
  session.begin(id_of(9), peer, lane);
  EXPECT_EQ(session.state(), SessionState::up);
  EXPECT_EQ(session.id(), id_of(9));
  EXPECT_EQ(session.peer().instance, id_of(1));
  EXPECT_EQ(session.lanes(), 1U);
  EXPECT_NE(session.mux(), nullptr);
  EXPECT_TRUE(session.resend().empty());
  session.wake();
  EXPECT_EQ(lane.wake_ups, 1);
}

TEST(Session, WhatThePeerHasNotConsumedIsSentAgain) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(4, 4));
  EXPECT_EQ(pipe.session.state(), SessionState::cut);
  EXPECT_NE(pipe.session.mux(), nullptr) << "streams live on";
  pipe.resume();
  EXPECT_EQ(pipe.session.state(), SessionState::up);
  EXPECT_EQ(pipe.session.lanes(), 2U);
  EXPECT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, 4));
  EXPECT_EQ(pipe.say_again(100), 6U);
  EXPECT_TRUE(pipe.session.resend().empty());
  pipe.say(3);
  EXPECT_EQ(pipe.session.bytes_sent(), 13U);
  EXPECT_EQ(pipe.lanes.back().put, rest_of(pipe.said, 4));
}

// The peer reads on until it hears of the cut: it knows better than the index that was seen here.
TEST(Session, WhatThePeerConsumedAfterTheLastLookIsNotSentAgain) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(7, 4));
  pipe.resume();
  EXPECT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, 7));
}

TEST(Session, NothingIsKeptWhenAllWasConsumed) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(10, 10));
  pipe.resume();
  EXPECT_TRUE(pipe.session.resend().empty());
  pipe.say(2);
  EXPECT_EQ(pipe.lanes.back().put, rest_of(pipe.said, 10));
}

// Every cut of a small exchange: what the first lane carried, what of it the sender saw consumed,
// what of it was; how far the sending again came on the second lane before that was cut too.
TEST(Session, ResendEqualsWhatWasNotConsumedWhereverTheCutsCome) {
  constexpr std::size_t said_first = 5;
  int cases = 0;
  for (std::size_t read = 0; read <= said_first; ++read) {
    for (std::size_t seen = 0; seen <= read; ++seen) {
      for (std::size_t again = 0; again <= said_first - read; ++again) {
        const std::size_t more_max = again == said_first - read ? 3 : 0;
        for (std::size_t more = 0; more <= more_max; ++more) {
          for (std::size_t read_again = 0; read_again <= again + more; ++read_again) {
            for (std::size_t seen_again = 0; seen_again <= read_again; ++seen_again, ++cases) {
              Pipe pipe;
              pipe.say(said_first);
              ASSERT_NO_FATAL_FAILURE(pipe.cut(read, seen));
              pipe.resume();
              ASSERT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, read));
              ASSERT_EQ(pipe.say_again(again), again);
              if (more > 0) pipe.say(more);
              ASSERT_NO_FATAL_FAILURE(pipe.cut(read + read_again, read + seen_again));
              pipe.resume();
              ASSERT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, read + read_again))
                  << read << ' ' << seen << ' ' << again << ' ' << more << ' ' << read_again;
              pipe.say_again(100);
              pipe.say(1);
              ASSERT_NO_FATAL_FAILURE(pipe.cut(pipe.said.size(), read + read_again));
              ASSERT_EQ(pipe.heard, pipe.said);
            }
          }
        }
      }
    }
  }
  EXPECT_GT(cases, 500);
}

// A lane that never carried a byte changes nothing, however many of them there are.
TEST(Session, LanesThatCarryNothingLoseNothing) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(3, 3));
  for (int i = 0; i < 5; ++i) {
    pipe.resume();
    ASSERT_NO_FATAL_FAILURE(pipe.cut(3, 3));
  }
  pipe.resume();
  EXPECT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, 3));
  EXPECT_EQ(pipe.session.lanes(), 7U);
}

// As many cuts as there are bytes, each after the peer got one more.
TEST(Session, CutAfterEveryByteTheWholeArrivesOnce) {
  Pipe pipe;
  pipe.say(100);
  for (std::uint64_t read = 1; read <= 100; ++read) {
    ASSERT_NO_FATAL_FAILURE(pipe.cut(read, read - 1));
    pipe.resume();
    ASSERT_EQ(pipe.session.resend().size(), 100 - read);
    pipe.say_again(1 + read % 7);
  }
  EXPECT_EQ(pipe.heard, pipe.said);
  EXPECT_TRUE(pipe.session.resend().empty());
}

TEST(Session, CutTwiceIsCutOnce) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(4, 4));
  pipe.session.cut(true);
  EXPECT_FALSE(pipe.lanes.back().superseded) << "it carried nothing any more";
  pipe.resume();
  EXPECT_EQ(copy_of(pipe.session.resend()), rest_of(pipe.said, 4));
}

TEST(Session, SupersededCarrierIsToldSo) {
  Pipe pipe;
  ASSERT_NO_FATAL_FAILURE(pipe.cut(0, 0, true));
  EXPECT_TRUE(pipe.lanes.back().superseded);
  pipe.resume();
  ASSERT_NO_FATAL_FAILURE(pipe.cut(0, 0, false));
  EXPECT_FALSE(pipe.lanes.back().superseded) << "it says so itself when it ends";
}

constexpr std::string_view never_sent =
    "the peer claims to have consumed bytes that were never sent to it";
constexpr std::string_view wanted_again = "the peer wants bytes again that it had consumed";

TEST(Session, PositionsThatCannotBeAreNamed) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(4, 4));
  const Session& session = pipe.session;
  EXPECT_EQ(session.problem_with(3), wanted_again);
  for (std::uint64_t position = 4; position <= 10; ++position) {
    EXPECT_EQ(session.problem_with(position), "") << position;
  }
  EXPECT_EQ(session.problem_with(11), never_sent);
  EXPECT_EQ(session.problem_with(0), wanted_again);
  EXPECT_EQ(session.problem_with(~std::uint64_t{0}), never_sent);
}

// Bytes that wait to be sent again and were put on no lane since are none the peer can have.
TEST(Session, PositionBehindWhatWasSentAgainCannotBe) {
  Pipe pipe;
  pipe.say(10);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(4, 4));
  pipe.resume();
  pipe.say_again(2);
  ASSERT_NO_FATAL_FAILURE(pipe.cut(5, 5));
  EXPECT_EQ(pipe.session.problem_with(4), wanted_again);
  EXPECT_EQ(pipe.session.problem_with(5), "");
  EXPECT_EQ(pipe.session.problem_with(6), "");
  EXPECT_EQ(pipe.session.problem_with(7), never_sent);
}

TEST(Session, EndedSessionHasForgottenEverythingButItsTurns) {
  Pipe pipe;
  pipe.say(10);
  pipe.session.count_consumed(7);
  EXPECT_TRUE(pipe.session.take_turn(id_of(2), 5));
  ASSERT_NO_FATAL_FAILURE(pipe.cut(4, 4));
  pipe.session.end();
  EXPECT_EQ(pipe.session.state(), SessionState::none);
  EXPECT_EQ(pipe.session.id(), RandomId{});
  EXPECT_EQ(pipe.session.bytes_sent(), 0U);
  EXPECT_EQ(pipe.session.bytes_consumed(), 0U);
  EXPECT_TRUE(pipe.session.resend().empty());
  EXPECT_EQ(pipe.session.problem_with(0), "");
  EXPECT_EQ(pipe.session.problem_with(1), never_sent);
  EXPECT_FALSE(pipe.session.take_turn(id_of(2), 5)) << "a late HELLO is late all the same";
}

TEST(Session, EndsUnderItsCarrierWithoutAskingIt) {
  Pipe pipe;
  pipe.say(10);
  pipe.session.end();
  EXPECT_EQ(pipe.session.carrier(), nullptr);
  pipe.session.cut(true);
  EXPECT_FALSE(pipe.lanes.back().superseded);
  pipe.session.wake();
  EXPECT_EQ(pipe.lanes.back().wake_ups, 0);
}

TEST(Session, GuestsTurnsRise) {
  Session guest({Role::guest, id_of(2), {}});
  EXPECT_EQ(guest.next_turn(), 1U);
  EXPECT_EQ(guest.next_turn(), 2U);
  EXPECT_EQ(guest.last_turn(), 2U);
}

TEST(Session, HostTakesOnlyTurnsThatRise) {
  Session host({Role::host, id_of(1), {}});
  EXPECT_TRUE(host.take_turn(id_of(2), 1));
  EXPECT_FALSE(host.take_turn(id_of(2), 1)) << "repeated";
  EXPECT_TRUE(host.take_turn(id_of(2), 7));
  EXPECT_FALSE(host.take_turn(id_of(2), 6)) << "going back";
  EXPECT_EQ(host.last_turn(), 7U);
  EXPECT_TRUE(host.take_turn(id_of(3), 1)) << "another process of the guest's counts anew";
  EXPECT_TRUE(host.take_turn(id_of(3), ~0U));
  EXPECT_FALSE(host.take_turn(id_of(3), ~0U)) << "that one has spent them all";
  EXPECT_TRUE(host.take_turn(id_of(4), 1));
}

TEST(Session, TurnZeroIsNone) {
  Session host({Role::host, id_of(1), {}});
  EXPECT_FALSE(host.take_turn(id_of(2), 0));
  EXPECT_FALSE(host.take_turn(RandomId{}, 0));
  EXPECT_TRUE(host.take_turn(id_of(2), 1));
}

TEST(Session, StatesHaveNames) {
  EXPECT_EQ(to_string(SessionState::none), "none");
  EXPECT_EQ(to_string(SessionState::up), "up");
  EXPECT_EQ(to_string(SessionState::cut), "cut");
}

}  // namespace
}  // namespace xenlane::bridge

// Two session drivers over a memory lane in one io_context: what only shows when lane, session and
// mux meet. What more than one lane does to a session is in resume_test.cpp.
#include "bridge/session/driver.hpp"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>

#include "tests/bridge/session/sides.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::hello;
using test::long_text;
using test::plain_greeting;
using test::put;
using test::reason;
using transport::MemoryLane;

using Driver = test::TwoSides;

TEST_F(Driver, CarriesBytesBothWaysThroughARingThatIsTooSmallForThem) {
  connect();
  run_until_up();
  const std::string there = long_text(3'000'000, 'A');
  const std::string back = long_text(2'000'000, 'a');
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  guest.script.send(id, there);
  run_until([&] { return host.mux().has_stream(id); });
  host.script.send(id, back);
  run_until([&] { return host.script.finished[id] && guest.script.finished[id]; });
  EXPECT_TRUE(host.script.received[id] == there);
  EXPECT_TRUE(guest.script.received[id] == back);
  run_until([&] { return host.mux().stream_count() == 0 && guest.mux().stream_count() == 0; });
  EXPECT_FALSE(host.ended() || guest.ended());
}

TEST_F(Driver, WhatTheClosingPeerCommittedIsDeliveredFirst) {
  connect();
  run_until_up();
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  guest.script.to_send[id] = long_text(5000, 'A');
  guest.mux().source_ready(id);
  // The guest goes the moment its bytes are in the ring.
  guest.driver().wake();
  run_until([&] { return guest.script.to_send[id].empty(); });
  guest.driver().stop("enough");
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(host.script.received[id], long_text(5000, 'A'));
  EXPECT_EQ(reason(host), "the peer closed the lane");
  EXPECT_EQ(reason(guest), "enough");
}

TEST_F(Driver, BytesLeftByAPeerThatIsGoneAreReadToTheLast) {
  auto other = connect_host();
  put(*other, hello().view());
  put(*other, OpenFrame{1, EndShape::service, SocketKind::stream, "a"});
  const std::string text = long_text(6000, 'A');
  put(*other, DataFrame{1, 6000});
  put(*other, std::as_bytes(std::span(text)));
  put(*other, FinishFrame{1, 6000});
  other.reset();
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(host.script.received[1], text);
  EXPECT_TRUE(host.script.finished[1]);
}

TEST_F(Driver, RefusedVersionIsExplainedOnBothSides) {
  auto other = connect_host();
  Greeting newer = plain_greeting();
  newer.version_min = newer.version_max = 4;
  put(*other, hello(newer).view());
  run_until([&] { return host.ended().has_value(); });
  EXPECT_TRUE(reason(host).starts_with("no common protocol version")) << reason(host);
  const auto message = decode_handshake(test::take(*other));
  ASSERT_TRUE(message.has_value());
  ASSERT_TRUE(std::holds_alternative<Reject>(*message)) << "the peer's only explanation";
  EXPECT_EQ(std::get<Reject>(*message).reason, reason(host));
}

TEST_F(Driver, HostileIndexEndsTheLane) {
  connect();
  run_until_up();
  // Rings of end 0 are the host's to read.
  __atomic_fetch_add(&guest.lanes.back().lane->shared().rings[0].producer, ring_bytes + 1,
                     __ATOMIC_SEQ_CST);
  guest.lanes.back().lane->nudge();
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "the peer wrote an impossible ring index");
  EXPECT_EQ(host.session.state(), SessionState::cut);
}

TEST_F(Driver, BrokenProtocolEndsTheSessionWithTheRule) {
  auto other = connect_host();
  put(*other, hello().view());
  put(*other, AcceptFrame{2});
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host),
            "the peer broke the protocol: ACCEPT of nothing that was asked for (protocol section "
            "5.2)");
  EXPECT_EQ(host.session.state(), SessionState::none);
  EXPECT_EQ(host.script.endings, std::vector{reason(host)});
  EXPECT_EQ(host.script.last_error, ECONNRESET);
}

TEST_F(Driver, HandshakeHasADeadline) {
  const auto other = connect_host({.handshake = 30ms});
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "no handshake within 30 ms");
}

TEST_F(Driver, HalfAHandshakeHasTheSameDeadline) {
  const auto other = connect_host({.handshake = 30ms});
  put(*other, hello().view().first(40));
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "no handshake within 30 ms");
}

TEST_F(Driver, PeerThatReadsNothingIsWokenAgainAndThenGivenUp) {
  const auto other = connect_host({.peer_stall = 600ms});
  put(*other, hello().view());
  run_until([&] { return host.ended().has_value(); });
  EXPECT_TRUE(reason(host).starts_with("the peer has not read for ")) << reason(host);
  EXPECT_GE(host.driver().counters().nudges, 1U);
}

// A guest that was destroyed: its liveness byte is cleared and no event may come.
TEST_F(Driver, PeerThatGoesWithoutAnEventIsNoticedWhileItOwesReading) {
  const auto other = connect_host();
  put(*other, hello().view());
  run_until_up();
  __atomic_store_n(&other->shared().live[1], std::uint8_t{0}, __ATOMIC_SEQ_CST);
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "the peer closed the lane");
}

TEST_F(Driver, ImpossibleIndexWithoutAnEventIsNoticedWhileThePeerOwesReading) {
  const auto other = connect_host();
  put(*other, hello().view());
  run_until_up();
  // The consumer counter of the ring that the host writes.
  __atomic_fetch_add(&other->shared().rings[1].consumer, ring_bytes, __ATOMIC_SEQ_CST);
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "the peer wrote an impossible ring index");
}

TEST_F(Driver, SlowReaderIsNotTakenForAStalledOne) {
  const auto other = connect_host({.peer_stall = 500ms});
  put(*other, hello().view());
  run_until_up();
  const StreamId id = host.mux().open(EndShape::service, "org.example.test");
  host.script.send(id, long_text(20'000, 'A'));
  // One byte each time the host has waited in vain.
  std::uint64_t nudges = 0;
  int reads = 0;
  run_until([&] {
    if (host.driver().counters().nudges > nudges) {
      nudges = host.driver().counters().nudges;
      ++reads;
      (void)other->readable();
      other->consume(1);
      other->publish();
    }
    return reads == 4 || host.ended().has_value();
  });
  EXPECT_FALSE(host.ended().has_value());
}

// The peer takes everything, and its event is lost: nobody will say again that there is room.
TEST_F(Driver, LostEventThatToldOfRoomIsMadeGood) {
  const auto other = connect_host();
  put(*other, hello().view());
  run_until_up();
  const StreamId id = host.mux().open(EndShape::service, "org.example.test");
  host.script.send(id, long_text(3 * ring_bytes, 'A'));
  for (int rounds = 0; rounds < 2; ++rounds) {
    std::size_t waiting = 0;
    run_until([&] { return std::exchange(waiting, other->readable().size()) == ring_bytes; });
    other->shared().requests[0] = 0;
    other->consume(ring_bytes);
    other->publish();
  }
  run_until([&] { return !other->readable().empty(); });
}

TEST_F(Driver, PeerWhoseEventsNeverArriveIsGivenUp) {
  const auto other = connect_host();
  put(*other, hello().view());
  run_until_up();
  const StreamId id = host.mux().open(EndShape::service, "org.example.test");
  host.script.send(id, long_text(100 * ring_bytes, 'A'));
  run_until([&] {
    const std::size_t waiting = other->readable().size();
    if (waiting == ring_bytes) {
      other->shared().requests[0] = 0;
      other->consume(ring_bytes);
      other->publish();
    }
    return host.ended().has_value();
  });
  EXPECT_EQ(reason(host), "the peer is at work and none of its events arrives");
}

// Nobody asks to be told that there is room when there is plenty.
TEST_F(Driver, PeerThatOnlyReadsNeedNotSaySo) {
  connect();
  run_until_up();
  guest.script.keep_open = true;
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  std::size_t sent = 0;
  for (const auto end = std::chrono::steady_clock::now() + 2500ms;
       std::chrono::steady_clock::now() < end;) {
    guest.script.send(id, "x");
    ++sent;
    io.run_for(100ms);
  }
  run_until([&] { return host.script.received[id].size() == sent; });
  EXPECT_FALSE(host.ended() || guest.ended()) << reason(guest);
}

TEST_F(Driver, RingsTooSmallForTheProtocolAreRefused) {
  const auto other = connect_host({}, 2048);
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "the lane's rings of 2048 bytes are smaller than 4096");
}

TEST_F(Driver, RingOfJunkEndsTheSessionAndNothingElse) {
  auto other = connect_host();
  put(*other, hello().view());
  std::vector<std::byte> junk(ring_bytes / 2);
  for (std::size_t i = 0; i < junk.size(); ++i) junk[i] = static_cast<std::byte>(i * 7);
  put(*other, junk);
  run_until([&] { return host.ended().has_value(); });
  EXPECT_TRUE(reason(host).starts_with("the peer broke the protocol: ")) << reason(host);
}

// A frame costs a system call however small it is: a peer that sends them by the hundred must not
// keep everything else waiting.
TEST_F(Driver, ManySmallFramesLeaveTurnsForOthers) {
  const auto other = connect_host({}, 64 * 1024);
  put(*other, hello().view());
  put(*other, OpenFrame{1, EndShape::service, SocketKind::stream, "a"});
  constexpr std::size_t frames = 2000;
  const std::byte payload{7};
  for (std::size_t i = 0; i < frames; ++i) {
    put(*other, DataFrame{1, 1});
    put(*other, {&payload, 1});
  }
  std::optional<std::size_t> received_at_turn;
  host.script.on_first_bytes = [&] {
    boost::asio::post(io, [&] { received_at_turn = host.script.received[1].size(); });
  };
  run_until([&] { return host.script.received[1].size() == frames; });
  ASSERT_TRUE(received_at_turn.has_value());
  EXPECT_LT(*received_at_turn, frames / 2);
}

// A ring is first come first served: bulk that fills it is what a small message waits for.
TEST_F(Driver, SmallMessagesKeepBulkFromFillingTheRing) {
  constexpr std::uint32_t big_ring = 256 * 1024;
  const auto other = connect_host({}, big_ring);
  Greeting greeting = plain_greeting();
  greeting.limits.stream_window_bytes_min = greeting.limits.session_window_bytes;
  put(*other, hello(greeting).view());
  run_until_up();
  host.script.keep_open = true;
  const auto unread = [&] { return other->readable().size(); };
  const auto read_all = [&] {
    other->consume(unread());
    other->publish();
  };
  const StreamId bulk = host.mux().open(EndShape::service, "org.example.bulk");
  const StreamId chat = host.mux().open(EndShape::service, "org.example.chat");
  host.script.send(bulk, long_text(8'000'000, 'A'));
  run_until([&] { return unread() > big_ring - 2048; });
  host.script.send(chat, "hello");
  // The message cannot overtake what lies in the ring already, but those after it find it short.
  for (int i = 0; i < 3; ++i) {
    read_all();
    run_until([&] { return unread() > 16 * 1024; });
    io.poll();
    EXPECT_LT(unread(), 40'000U);
    host.script.send(chat, "hello");
  }
  // When no more of them come, bulk has the whole ring again.
  const auto deadline = std::chrono::steady_clock::now() + test::patience();
  while (host.driver().send_limit().current() < big_ring) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    read_all();
    io.poll();
  }
}

TEST_F(Driver, WorkThatComesSoonIsFoundWithoutASleep) {
  connect({.poll_max = 1s});  // longer than any pause of this machine
  run_until_up();
  guest.script.keep_open = host.script.keep_open = true;
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  // The guest says a word, the host answers, a few hundred times.
  constexpr std::size_t rounds = 300;
  for (std::size_t i = 1; i <= rounds; ++i) {
    guest.script.send(id, "ping");
    run_until([&] { return host.script.received[id].size() == 4 * i; });
    host.script.send(id, "pong");
    run_until([&] { return guest.script.received[id].size() == 4 * i; });
  }
  for (test::Side* side : {&host, &guest}) {
    const PollBudget& budget = side->driver().poll_budget();
    EXPECT_GT(budget.counters().paid, rounds / 2);
    EXPECT_GT(budget.current(), 0s);
  }
}

TEST_F(Driver, NothingRunsWhileNothingMoves) {
  connect({.poll_max = 200us});
  run_until_up();
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  guest.script.keep_open = host.script.keep_open = true;
  guest.script.send(id, "hello");
  run_until([&] { return host.script.received[id] == "hello"; });
  // The budgets are used up, credit has gone round, the stall timers have looked once.
  run_until([&] { return io.run_one_for(600ms) == 0; });
  EXPECT_EQ(io.run_for(1s), 0U) << "an idle session must not wake up";
}

TEST_F(Driver, StopSaysWhy) {
  connect();
  run_until_up();
  host.driver().stop("the test ends");
  run_until([&] { return host.ended() && guest.ended(); });
  EXPECT_EQ(reason(host), "the test ends");
  EXPECT_EQ(reason(guest), "the peer closed the lane");
  EXPECT_EQ(host.session.state(), SessionState::cut) << "it may go on over another lane";
  EXPECT_EQ(guest.session.state(), SessionState::cut);
  EXPECT_TRUE(host.script.endings.empty() && guest.script.endings.empty());
}

TEST_F(Driver, MayBeDestroyedInMidSession) {
  connect();
  run_until_up();
  const StreamId id = guest.mux().open(EndShape::service, "org.example.test");
  guest.script.send(id, long_text(1'000'000, 'A'));
  host.script.on_first_bytes = [this] { io.stop(); };
  io.run();
  EXPECT_FALSE(host.script.received[id].empty());
}

}  // namespace
}  // namespace xenlane::bridge

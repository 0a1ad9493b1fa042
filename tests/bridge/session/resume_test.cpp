// A session over several lanes, one after another: streams go on where they stopped, whoever
// notices first, and whether a lane broke, was left in good order, or was passed over.
#include <gtest/gtest.h>

#include "tests/bridge/session/sides.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using test::Bytes;
using test::hello;
using test::LaneEnd;
using test::long_text;
using test::plain_greeting;
using test::put;
using test::reason;
using transport::MemoryLane;

constexpr const char* passed_over = "another lane carries the session";
constexpr const char* left = "both sides left it for another lane";
constexpr const char* closed = "the peer closed the lane";

/// A stream with so much to carry each way.
class World : public test::World {
 public:
  void start_stream(std::size_t bytes) {
    there = long_text(bytes, 'A');
    back = long_text(bytes * 2 / 3, 'a');
    id = guest.mux().open(EndShape::service, "org.example.test");
    guest.script.send(id, there);
    run_until([&] { return host.session.mux()->has_stream(id); });
    host.script.send(id, back);
  }
  bool stream_is_done() { return host.script.finished[id] && guest.script.finished[id]; }
  void expect_whole_stream() {
    run_until([&] { return stream_is_done(); });
    EXPECT_TRUE(host.script.received[id] == there);
    EXPECT_TRUE(guest.script.received[id] == back);
    EXPECT_TRUE(host.script.endings.empty() && guest.script.endings.empty());
    EXPECT_EQ(host.script.sessions, 1);
    EXPECT_EQ(guest.script.sessions, 1);
  }
  void run_until_got(std::size_t bytes) {
    run_until([&] { return host.script.received[id].size() >= bytes; });
  }
  void run_steps(int count) {
    for (int i = 0; i < count && !stream_is_done(); ++i) io.run_one_for(1ms);
  }
  bool up() const {
    return host.session.state() == SessionState::up && guest.session.state() == SessionState::up;
  }

  std::string there;
  std::string back;
  StreamId id = 0;
};

class Resume : public testing::Test, public World {};

TEST_F(Resume, StreamsGoOnOverManyLanes) {
  connect();
  run_until_up();
  start_stream(2'000'000);
  for (std::size_t lanes = 1; lanes <= 20; ++lanes) {
    ASSERT_NO_FATAL_FAILURE(run_until_got(lanes * 50'000));
    (lanes % 2 == 0 ? host : guest).driver().stop("the lane broke");
    EXPECT_LE(host.session.resend().size(), ring_bytes);
    EXPECT_LE(guest.session.resend().size(), ring_bytes);
    connect();
  }
  expect_whole_stream();
  EXPECT_EQ(host.session.lanes(), 21U);
  EXPECT_EQ(guest.session.lanes(), 21U);
}

// The next lane's rings may be smaller than what is to be sent again.
TEST_F(Resume, StreamsGoOnOverSmallerRings) {
  connect({}, false, 64 * 1024);
  run_until_up();
  start_stream(500'000);
  ASSERT_NO_FATAL_FAILURE(run_until_got(50'000));
  for (const std::uint32_t ring : {4096U, 64U * 1024, 4096U}) {
    guest.driver().stop("the lane broke");
    connect({}, false, ring);
    run_steps(3);
  }
  expect_whole_stream();
}

enum class Cut { by_host, by_guest, superseded };

// Two lanes are lost in each: so many steps of the event loop after the stream began, and as many
// after the next lane came, however far its handshake or its sending again has got.
TEST_F(Resume, StreamsGoOnOverACutAtEveryStep) {
  for (const Cut how : {Cut::by_host, Cut::by_guest, Cut::superseded}) {
    for (int step = 0; step < 50; ++step) {
      SCOPED_TRACE(testing::Message() << "cut " << static_cast<int>(how) << " at step " << step);
      World world;
      world.connect();
      world.run_until_up();
      world.start_stream(60'000);
      for (int lanes = 0; lanes < 2; ++lanes) {
        world.run_steps(step);
        if (how == Cut::by_host) world.host.driver().stop("the lane broke");
        if (how == Cut::by_guest) world.guest.driver().stop("the lane broke");
        world.connect();
      }
      world.expect_whole_stream();
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_F(Resume, HostMayHearOfTheNextLaneBeforeItSeesTheLastOnesEnd) {
  connect();
  run_until_up();
  start_stream(500'000);
  ASSERT_NO_FATAL_FAILURE(run_until_got(50'000));
  connect();
  expect_whole_stream();
  EXPECT_EQ(reason(host.lanes[0]), passed_over);
  EXPECT_EQ(reason(guest.lanes[0]), passed_over);
  EXPECT_EQ(host.session.lanes(), 2U);
}

TEST_F(Resume, HelloOfAnEarlierLaneThatComesLateChangesNothing) {
  const auto late = connect_host();
  const auto next = connect_host();
  Greeting second = plain_greeting(8);
  second.turn = 2;
  put(*next, hello(second).view());
  run_until([&] { return host.session.state() == SessionState::up; });
  test::take(*next);
  put(*late, hello(plain_greeting(7)).view());
  run_until([&] { return host.lanes[0].ended.has_value(); });
  EXPECT_EQ(reason(host.lanes[0]), "a later lane of the guest's is in use");
  EXPECT_TRUE(std::holds_alternative<Reject>(*decode_handshake(test::take(*late))));
  put(*next, PingFrame{1});
  run_until([&] { return !next->readable().empty(); });
  EXPECT_EQ(host.script.sessions, 1);
  EXPECT_TRUE(host.script.endings.empty());
}

// It is not the carrier that hears it, and must not be the carrier that pays for it.
TEST_F(Resume, RefusalOnALaneThatWasPassedOverLeavesTheCarrierAlone) {
  const auto earlier = connect_guest();
  run_until([&] { return !earlier->readable().empty(); });
  const auto next = connect_guest();
  run_until([&] { return !next->readable().empty(); });
  put(*next, test::welcome(8).view());
  run_until([&] { return guest.session.state() == SessionState::up; });
  const auto refusal = encode_handshake(Reject{RejectCode::resume, 2, 2, "no such bytes"});
  put(*earlier, refusal.view());
  run_until([&] { return guest.lanes[0].ended.has_value(); });
  test::take(*next);
  put(*next, PingFrame{1});
  run_until([&] { return !next->readable().empty(); });
  EXPECT_TRUE(guest.script.endings.empty());
}

// --- leaving in good order

TEST_F(Resume, LaneIsLeftWithoutSendingAnythingAgain) {
  connect();
  run_until_up();
  connect({}, true);
  start_stream(1'000'000);
  ASSERT_NO_FATAL_FAILURE(run_until_got(50'000));
  std::size_t again = 0;
  for (test::Side* side : {&host, &guest}) {
    side->chooser.on_carrying = [&again, side](SessionDriver& driver) {
      EXPECT_EQ(&driver, side->lanes[1].driver.get());
      again += side->session.resend().size();
    };
  }
  guest.chooser.standby = true;
  guest.lanes[1].driver->wake();
  run_until([&] { return host.lanes[0].ended && guest.lanes[0].ended && up(); });
  EXPECT_FALSE(stream_is_done()) << "there was bulk in flight";
  EXPECT_EQ(reason(host.lanes[0]), left);
  EXPECT_TRUE(reason(guest.lanes[0]) == left || reason(guest.lanes[0]) == closed);
  EXPECT_EQ(again, 0U);
  // And on to a faster one, which waits for nothing.
  guest.chooser.standby = false;
  host.chooser.on_carrying = guest.chooser.on_carrying = nullptr;
  connect();
  expect_whole_stream();
  EXPECT_EQ(reason(host.lanes[1]), passed_over);
  EXPECT_EQ(guest.session.lanes(), 3U);
}

TEST_F(Resume, StandbyLaneWaitsAsLongAsItIsNotNeeded) {
  connect();
  run_until_up();
  connect({.handshake = 30ms}, true);
  // As long as it takes for one that nobody wants to wait for.
  const auto silent = connect_host({.handshake = 30ms});
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "no handshake within 30 ms");
  EXPECT_FALSE(host.lanes[1].ended || guest.lanes[1].ended);
  guest.lanes[0].driver->stop("the lane broke");
  run_until([&] { return up() && guest.lanes[1].driver->carries(); });
  EXPECT_TRUE(guest.script.endings.empty());
}

// Or the two would take the session from each other for as long as the answer is slower than
// the standby lane is quick to open.
TEST_F(Resume, StandbyLaneDoesNotDisturbTheGreetingOnAnother) {
  const auto other = connect_guest({.handshake = 200ms});
  run_until([&] { return !other->readable().empty(); });
  const auto standby = connect_guest({}, true);
  while (io.poll() > 0) {
  }
  EXPECT_TRUE(standby->readable().empty());
  run_until([&] { return !standby->readable().empty(); });
  EXPECT_EQ(reason(guest.lanes[0]), "no handshake within 200 ms") << "then it was due";
}

TEST_F(Resume, PeerThatDoesNotLeaveIsNotWaitedForForEver) {
  const auto other = connect_guest({.handshake = 30ms});
  run_until([&] { return !other->readable().empty(); });
  put(*other, test::welcome().view());
  run_until([&] { return guest.session.state() == SessionState::up; });
  test::take(*other);
  const auto standby = connect_guest({}, true);
  guest.chooser.standby = true;
  guest.lanes[1].driver->wake();
  run_until([&] { return guest.lanes[0].ended.has_value(); });
  EXPECT_EQ(reason(guest.lanes[0]), "the peer did not leave the lane within 30 ms");
  run_until([&] { return !standby->readable().empty(); });
  const auto message = decode_handshake(test::take(*standby));
  const Greeting& greeting = std::get<Hello>(*message).greeting;
  EXPECT_EQ(greeting.session, test::id_of(0xAA));
  EXPECT_EQ(greeting.turn, 2U);
}

/// A guest by hand, whose session with the host is up.
class ResumeByHand : public Resume {
 protected:
  void SetUp() override {
    lane = connect_host();
    greet(plain_greeting());
  }
  void greet(const Greeting& greeting) {
    put(*lane, hello(greeting).view());
    run_until([&] { return host.driver().carries() || host.ended(); });
    io.poll();
    const Bytes answer = test::take(*lane);
    const std::size_t size = *decode_handshake_size(std::span(answer).first<12>());
    const auto message = decode_handshake(std::span(answer).first(size));
    if (const auto* welcome = std::get_if<Welcome>(&*message)) session = welcome->greeting.session;
    heard = size < answer.size() ? Bytes(answer.begin() + static_cast<long>(size), answer.end())
                                 : Bytes{};
  }
  /// What the guest says on its next lane, having consumed so much.
  Greeting next_greeting(std::uint64_t consumed) {
    Greeting greeting = plain_greeting(next_epoch);
    greeting.session = session;
    greeting.consumed = consumed;
    greeting.turn = ++turn;
    return greeting;
  }
  void resume(const Greeting& greeting) {
    lane.reset();
    lane = connect_host();
    greet(greeting);
  }
  /// The host still reads and answers.
  bool answers() {
    put(*lane, PingFrame{++nonce});
    run_until([&] { return !lane->readable().empty() || host.ended(); });
    return !host.ended();
  }
  /// What a host that wants nothing says behind what it sends again.
  static Bytes told_wish() {
    const EncodedFrame frame = encode_frame(LaneWishFrame{LaneWish::none});
    return {frame.view().begin(), frame.view().end()};
  }
  std::string end_of_lane() {
    run_until([&] { return host.ended().has_value(); });
    return reason(host);
  }

  std::unique_ptr<MemoryLane> lane;
  RandomId session{};
  Bytes heard;  ///< right behind the last WELCOME
  std::uint32_t turn = 1;
  std::uint64_t nonce = 0;
};

TEST_F(ResumeByHand, LeaveIsAnsweredAndTheLaneGivenUp) {
  put(*lane, LeaveFrame{1});
  EXPECT_EQ(end_of_lane(), left);
  const Bytes said = test::take(*lane);
  const EncodedFrame expected = encode_frame(LeaveFrame{1});
  EXPECT_TRUE(std::ranges::equal(said, expected.view()));
  EXPECT_EQ(host.session.state(), SessionState::cut);
  resume(next_greeting(said.size()));
  EXPECT_EQ(heard, told_wish()) << "nothing is sent again";
  EXPECT_TRUE(answers());
}

TEST_F(ResumeByHand, LeaveThatIsSentAgainIsIgnored) {
  lane.reset();
  run_until([&] { return host.ended().has_value(); });
  resume(next_greeting(0));
  put(*lane, LeaveFrame{1});
  EXPECT_TRUE(answers()) << "it spoke of the lane before";
  EXPECT_TRUE(host.driver().carries());
}

TEST_F(ResumeByHand, NothingMayFollowLeave) {
  for (const Frame& frame : {Frame{LeaveFrame{1}}, Frame{PingFrame{1}}}) {
    if (host.session.state() == SessionState::none) {
      lane = connect_host();
      Greeting greeting = plain_greeting(next_epoch - 1);
      greeting.instance = test::id_of(3);
      greet(greeting);
    }
    Bytes bytes;
    for (const Frame& one : {Frame{LeaveFrame{1}}, frame}) {
      const EncodedFrame encoded = encode_frame(one);
      bytes.insert(bytes.end(), encoded.view().begin(), encoded.view().end());
    }
    put(*lane, bytes);
    EXPECT_EQ(end_of_lane(),
              "the peer broke the protocol: a frame behind LEAVE (protocol section 7.4)");
    EXPECT_EQ(host.session.state(), SessionState::none);
  }
}

TEST_F(ResumeByHand, GoodbyeEndsTheSessionAtOnce) {
  put(*lane, LeaveFrame{0});
  EXPECT_EQ(end_of_lane(), "the other side's bridge has stopped");
  EXPECT_EQ(host.session.state(), SessionState::none);
  EXPECT_EQ(host.script.endings, std::vector{reason(host)});
  EXPECT_EQ(host.script.last_error, ECONNRESET);
}

TEST_F(Resume, GoodbyeReachesThePeerAndItsStreamsBreak) {
  connect();
  run_until_up();
  start_stream(100'000);
  guest.driver().say_goodbye();
  guest.session.end();
  guest.driver().stop("shutting down");
  run_until([&] { return host.ended().has_value(); });
  EXPECT_EQ(reason(host), "the other side's bridge has stopped");
  EXPECT_EQ(host.script.last_error, ECONNRESET);
}

TEST_F(ResumeByHand, WhatWasNotConsumedComesFirst) {
  EXPECT_TRUE(answers());
  const EncodedFrame pong = encode_frame(PongFrame{1});
  Bytes expected(pong.view().begin() + 5, pong.view().end());
  const Bytes wish = told_wish();
  expected.insert(expected.end(), wish.begin(), wish.end());
  resume(next_greeting(5));
  EXPECT_EQ(heard, expected);
  resume(next_greeting(5 + heard.size()));
  EXPECT_EQ(heard, wish);
  EXPECT_TRUE(answers());
}

TEST_F(ResumeByHand, ImpossiblePositionEndsTheSession) {
  resume(next_greeting(1'000'000));
  const std::string why = "the peer claims to have consumed bytes that were never sent to it";
  EXPECT_EQ(end_of_lane(), why);
  EXPECT_EQ(host.script.endings, std::vector{why});
  EXPECT_EQ(host.script.last_error, EPROTO);
  resume(next_greeting(0));
  EXPECT_EQ(host.script.sessions, 2) << "the id is unknown now: another session";
  EXPECT_TRUE(answers());
}

TEST_F(ResumeByHand, GuestThatBeganAnewHasLostItsSession) {
  Greeting anew = plain_greeting(next_epoch);
  anew.instance = test::id_of(3);
  resume(anew);
  EXPECT_EQ(host.script.sessions, 2);
  EXPECT_EQ(host.script.last_error, ENETRESET);
  ASSERT_EQ(host.script.endings.size(), 1U);
  EXPECT_TRUE(answers());
}

// --- wishes

TEST_F(Resume, WishesAreToldWhenTheyChangeAndAgainAfterAResume) {
  connect();
  run_until_up();
  EXPECT_TRUE(host.chooser.peer_wishes.empty()) << "no wish is where both begin";
  guest.driver().say_wish(LaneWish::vchan);
  run_until([&] { return host.chooser.peer_wishes == std::vector{LaneWish::vchan}; });
  guest.driver().say_wish(LaneWish::vchan);
  guest.driver().say_wish(LaneWish::console);
  run_until([&] { return host.chooser.peer_wishes.size() == 2; });
  EXPECT_EQ(host.chooser.peer_wishes.back(), LaneWish::console) << "said twice it is told once";
  host.chooser.peer_wishes.clear();
  guest.chooser.on_carrying = [](SessionDriver& driver) { driver.say_wish(LaneWish::console); };
  host.driver().stop("the lane broke");
  connect();
  run_until([&] { return host.chooser.peer_wishes == std::vector{LaneWish::console}; });
  EXPECT_TRUE(up());
}

TEST_F(ResumeByHand, WishesOfThePeerAreHandedOn) {
  put(*lane, LaneWishFrame{LaneWish::console});
  put(*lane, LaneWishFrame{LaneWish::none});
  EXPECT_TRUE(answers());
  EXPECT_EQ(host.chooser.peer_wishes, (std::vector{LaneWish::console, LaneWish::none}));
}

}  // namespace
}  // namespace xenlane::bridge

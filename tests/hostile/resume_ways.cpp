// Misbehaviour with sessions that outlive their lanes: claims about one that cannot be true, turns
// that do not rise, lanes that are left and are not. Protocol sections 3.3, 7.3, 7.4 and 9.
#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

/// A session whose lane is closed in good order, and what the guest would say to go on with it.
class Past {
 public:
  explicit Past(Store& store, std::uint32_t turn = 1) {
    Talk talk(store);
    next_ = modest_greeting(talk.lane().epoch());
    next_.turn = turn;
    talk.shake_hands(next_);
    talk.expect_pong();
    remember(talk);
  }
  /// HELLO that goes on with it on this lane.
  Greeting next(Talk& talk) {
    next_.epoch = talk.lane().epoch();
    ++next_.turn;
    return next_;
  }
  /// What was read on a lane counts.
  void remember(Talk& talk) {
    talk.read_on();
    // On a busy machine the host may have waited too long, and begun another.
    if (next_.session != talk.welcome().session) next_.consumed = 0;
    next_.session = talk.welcome().session;
    next_.consumed += talk.consumed();
  }

 private:
  Greeting next_;
};

/// Claims something of a session that was there before; the host refuses it.
template <typename Alter>
void claim(Store& store, Alter alter) {
  Past past(store);
  Talk talk(store);
  Greeting greeting = past.next(talk);
  alter(greeting);
  talk.send(hello(greeting));
  talk.lane().await_end();
}

void position_of_the_future(Store& store) {
  claim(store, [](Greeting& greeting) { ++greeting.consumed; });
}
void position_of_the_far_future(Store& store) {
  claim(store, [](Greeting& greeting) { greeting.consumed = ~std::uint64_t{0}; });
}
void position_of_the_past(Store& store) {
  claim(store, [](Greeting& greeting) { --greeting.consumed; });
}
void first_position(Store& store) {
  claim(store, [](Greeting& greeting) { greeting.consumed = 0; });
}
void other_instance(Store& store) {
  claim(store, [](Greeting& greeting) { greeting.instance.fill(std::byte{0x77}); });
}
void turn_repeated(Store& store) {
  claim(store, [](Greeting& greeting) { greeting.turn = 1; });
}
void turn_0(Store& store) {
  claim(store, [](Greeting& greeting) { greeting.turn = 0; });
}

void turn_goes_back(Store& store) {
  Past past(store, 1000);
  Talk talk(store);
  Greeting greeting = past.next(talk);
  greeting.turn = 999;
  talk.send(hello(greeting));
  talk.lane().await_end();
}

/// The last turn there is: no other can come after it.
void turn_highest(Store& store) {
  Past past(store, ~0U);
  Talk talk(store);
  Greeting greeting = past.next(talk);
  greeting.turn = ~0U;
  talk.send(hello(greeting));
  talk.lane().await_end();
}

void turn_0_of_a_stranger(Store& store) {
  Talk talk(store);
  Greeting greeting = modest_greeting(talk.lane().epoch());
  greeting.turn = 0;
  talk.send(hello(greeting));
  talk.lane().await_end();
}

void unknown_session(Store& store) {
  Past past(store);
  Talk talk(store);
  Greeting greeting = past.next(talk);
  greeting.session.fill(std::byte{0xee});
  talk.shake_hands(greeting);
  if (talk.welcome().session == greeting.session) throw Stuck("the host took any session's id");
  if (talk.welcome().consumed != 0) throw Stuck("the new session has a past");
  talk.expect_pong();
}

/// With a program's stream open, which it may not keep for a guest that has forgotten it.
void no_session_in_mid_session(Store& store) {
  Greeting greeting;
  {
    Talk talk(store);
    greeting = modest_greeting(talk.lane().epoch());
    talk.shake_hands(greeting);
    talk.read_until("the program's stream", [&] { return talk.opened_by_host().has_value(); });
    talk.send(AcceptFrame{*talk.opened_by_host()});
    talk.expect_pong();
  }
  Talk talk(store);
  greeting.epoch = talk.lane().epoch();
  greeting.turn = 2;
  talk.shake_hands(greeting);
  talk.expect_pong();
}

/// HELLO that is right on its lane, a second time behind it.
void resumes_twice_on_a_lane(Store& store) {
  Past past(store);
  Talk talk(store);
  talk.shake_hands(past.next(talk));
  talk.send(hello(past.next(talk)));
  talk.lane().await_end();
}

/// In a session that is otherwise fine.
void send_and_be_ended(Store& store, const Bytes& frames) {
  Talk talk(store);
  talk.shake_hands();
  talk.lane().put(frames);
  talk.lane().show();
  talk.lane().await_end();
}

void leave_and_stay(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  talk.send(LeaveFrame{1});
  await(
      "the host's LEAVE",
      [&] {
        talk.read_on();
        return talk.left();
      },
      [&] { talk.lane().rest(); });
  talk.lane().await_end();
}
void leave_twice(Store& store) {
  send_and_be_ended(store, encoded(LeaveFrame{1}) + encoded(LeaveFrame{1}));
}
void data_behind_leave(Store& store) {
  send_and_be_ended(store, open_frame(1, sink_channel) + encoded(LeaveFrame{1}) +
                               data_frame(1, "and another thing"));
}
void goodbye_behind_leave(Store& store) {
  send_and_be_ended(store, encoded(LeaveFrame{1}) + encoded(LeaveFrame{0}));
}
void goodbye_then_data(Store& store) {
  send_and_be_ended(store, open_frame(1, sink_channel) + encoded(LeaveFrame{0}) +
                               data_frame(1, "and another thing"));
}

void leave_of_other_lanes(Store& store) {
  Past past(store);
  Talk talk(store);
  talk.shake_hands(past.next(talk));
  for (const std::uint32_t turn : {1U, 3U, 77U, ~0U}) talk.send(LeaveFrame{turn});
  talk.expect_pong();
}

void leave_storm(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  Bytes storm;
  for (std::uint32_t turn = 2; turn < 5000; ++turn) storm += encoded(LeaveFrame{turn});
  talk.send(storm);
  talk.expect_pong();
}

void lane_wish_storm(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  Bytes storm;
  for (int i = 0; i < 3000; ++i) {
    for (const LaneWish wish : {LaneWish::vchan, LaneWish::console, LaneWish::none}) {
      storm += encoded(LaneWishFrame{wish});
    }
  }
  talk.send(storm);
  talk.expect_pong();
}

/// Honest each time, and never content.
constexpr std::uint32_t resumptions = 50;

void resume_storm(Store& store) {
  Past past(store);
  for (std::uint32_t i = 0; i < resumptions; ++i) {
    Talk talk(store);
    talk.shake_hands(past.next(talk));
    if (i % 2 == 0) talk.expect_pong();
    past.remember(talk);
  }
}

/// Sessions of a guest that forgets each at once: none may stay.
void unknown_session_storm(Store& store) {
  for (std::uint32_t i = 0; i < resumptions; ++i) {
    Talk talk(store);
    Greeting greeting = modest_greeting(talk.lane().epoch());
    greeting.session.fill(static_cast<std::byte>(i + 1));
    greeting.consumed = i;
    talk.shake_hands(greeting);
  }
}

/// What the host had under way is asked for again and again, and never read.
void asks_for_the_same_again(Store& store) {
  Past past(store);
  {
    Talk talk(store);
    talk.shake_hands(past.next(talk));
    for (std::uint64_t nonce = 1; nonce < 100; ++nonce) talk.send(PingFrame{nonce});
    talk.lane().await_consumed();
  }
  for (std::uint32_t i = 0; i < resumptions; ++i) {
    Talk talk(store);
    talk.send(hello(past.next(talk)));
    talk.lane().await_consumed();
  }
}

constexpr std::string_view closed = "the peer closed the lane";
constexpr std::string_view never_sent =
    "the peer claims to have consumed bytes that were never sent to it";
constexpr std::string_view wanted_again = "the peer wants bytes again that it had consumed";
constexpr std::string_view later_lane = "a later lane of the guest's is in use";
constexpr std::string_view no_turn = "the guest did not number its lane";
constexpr std::string_view behind_leave = "a frame behind LEAVE";

constexpr Way ways[] = {
    {"resume-future", "a byte more consumed than was sent", position_of_the_future, Verdict::ends,
     never_sent, 1, 1},
    {"resume-far-future", "2^64 - 1 bytes consumed", position_of_the_far_future, Verdict::ends,
     never_sent, 1, 1},
    {"resume-past", "a byte less consumed than it was", position_of_the_past, Verdict::ends,
     wanted_again, 1, 1},
    {"resume-first", "nothing consumed at all", first_position, Verdict::ends, wanted_again, 1, 1},
    {"resume-other-instance", "another process claims the session", other_instance, Verdict::ends,
     "another process of the guest's claims the session", 1, 1},
    {"resume-unknown", "a session that the host does not know", unknown_session, Verdict::lives,
     closed, 2},
    {"session-0-in-session", "asks for another session in the middle of one",
     no_session_in_mid_session, Verdict::lives, closed, 2, 0, true},
    {"turn-0", "a lane without a turn", turn_0, Verdict::ends, no_turn, 1, 1},
    {"turn-0-first", "a first lane without a turn", turn_0_of_a_stranger, Verdict::ends, no_turn},
    {"turn-repeated", "the turn of the lane before", turn_repeated, Verdict::ends, later_lane, 1,
     1},
    {"turn-back", "a turn that falls", turn_goes_back, Verdict::ends, later_lane, 1, 1},
    {"turn-highest", "the highest turn, and once more", turn_highest, Verdict::ends, later_lane, 1,
     1},
    {"resume-twice", "a second HELLO where frames are due", resumes_twice_on_a_lane, Verdict::ends,
     "a frame type that does not exist", 1, 1},
    {"leave-and-stay", "LEAVE, and waits for the host to go first", leave_and_stay, Verdict::ends,
     "both sides left it for another lane"},
    {"leave-twice", "LEAVE behind LEAVE", leave_twice, Verdict::ends, behind_leave},
    {"data-behind-leave", "DATA behind LEAVE", data_behind_leave, Verdict::ends, behind_leave},
    {"goodbye-behind-leave", "goodbye behind LEAVE", goodbye_behind_leave, Verdict::ends,
     behind_leave},
    {"goodbye-then-data", "DATA behind goodbye", goodbye_then_data, Verdict::ends,
     "the other side's bridge has stopped"},
    {"leave-of-others", "LEAVE of lanes that are gone or not there yet", leave_of_other_lanes,
     Verdict::lives, closed, 2},
    {"leave-storm", "LEAVE of 5000 other lanes", leave_storm, Verdict::lives, closed},
    {"lane-wish-storm", "changes its mind 9000 times", lane_wish_storm, Verdict::lives, closed},
    {"resume-storm", "50 lanes for one session in quick succession", resume_storm, Verdict::lives,
     closed, resumptions + 1},
    {"unknown-session-storm", "50 sessions that nobody knows", unknown_session_storm,
     Verdict::lives, closed, resumptions},
    {"resume-the-same-again",
     "wants the same bytes 50 times and reads none",
     asks_for_the_same_again,
     Verdict::any,
     {},
     resumptions + 2},
};

}  // namespace

std::span<const Way> resume_ways() {
  return ways;
}

}  // namespace xenlane::hostile

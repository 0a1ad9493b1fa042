// Misbehaviour before there is a session: wrong greetings, greedy ones, half ones and none.
#include <unistd.h>

#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

/// Sends a HELLO in which one number was overwritten, and waits for the host's end of it.
void send_altered_hello(Store& store, std::size_t offset, std::uint64_t value, std::size_t width) {
  Talk talk(store);
  Bytes message = hello(modest_greeting(talk.lane().epoch()));
  overwrite(message, offset, value, width);
  talk.send(message);
  talk.lane().await_end();
}

void garbage_magic(Store& store) {
  send_altered_hello(store, 0, 0x0a0d1b5b0a0d1b5b, 8);  // terminals' control bytes, too
}
void size_too_small(Store& store) {
  send_altered_hello(store, 8, 11, 2);
}
void size_huge(Store& store) {
  send_altered_hello(store, 8, 0xffff, 2);
}
void size_cuts_fields(Store& store) {
  send_altered_hello(store, 8, 40, 2);
}
void unknown_kind(Store& store) {
  send_altered_hello(store, 10, 77, 1);
}
void welcome_from_guest(Store& store) {
  send_altered_hello(store, 10, 2, 1);
}
void versions_reversed(Store& store) {
  send_altered_hello(store, 12, protocol_version_max + 1, 2);
}
void version_of_the_future(Store& store) {
  send_altered_hello(store, 12, 0xffff0007, 4);
}
void epoch_of_the_past(Store& store) {
  send_altered_hello(store, 16, 0, 8);
}
void epoch_of_the_future(Store& store) {
  send_altered_hello(store, 16, ~std::uint64_t{0}, 8);
}
void zero_stream_window(Store& store) {
  send_altered_hello(store, 68, 0, 4);
}
void zero_session_window(Store& store) {
  send_altered_hello(store, 72, 0, 8);
}

void reject_from_guest(Store& store) {
  Talk talk(store);
  const EncodedHandshake reject = encode_handshake(Reject{RejectCode::busy, 2, 2, "no \x1b[2J"});
  talk.send(Bytes(reject.view().begin(), reject.view().end()));
  talk.lane().await_end();
}

void consumed_of_the_future(Store& store) {
  Talk talk(store);
  Greeting greeting = modest_greeting(talk.lane().epoch());
  greeting.consumed = ~std::uint64_t{0};
  talk.shake_hands(greeting);
  talk.expect_pong();
}

void huge_windows(Store& store) {
  Talk talk(store);
  Greeting greeting = modest_greeting(talk.lane().epoch());
  greeting.limits = {.streams_max = ~0U,
                     .stream_window_bytes_min = ~0U,
                     .session_window_bytes = ~std::uint64_t{0},
                     .open_backlog_max = ~0U};
  talk.shake_hands(greeting);
  if (talk.open(1, echo_channel) != 0) throw Stuck("no echo");
  talk.send(data_frame(1, "ping"));
  talk.read_until("the echo", [&] { return talk.received(1) == 4; });
}

void nothing_granted(Store& store) {
  Talk talk(store);
  Greeting greeting = modest_greeting(talk.lane().epoch());
  greeting.limits.streams_max = 0;
  greeting.limits.open_backlog_max = 0;
  talk.shake_hands(greeting);
  talk.expect_pong();
}

void hello_longer_than_known(Store& store) {
  Talk talk(store);
  Bytes message = hello(modest_greeting(talk.lane().epoch()));
  message.resize(512, std::byte{0xee});
  overwrite(message, 8, 512, 2);
  talk.send(message);
  talk.lane().await_consumed();
  talk.send(raw_frame(15, 0, 1));
  talk.lane().await_end();
}

void hello_twice(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  talk.send(hello(modest_greeting(talk.lane().epoch())));
  talk.lane().await_end();
}

void frames_before_welcome(Store& store) {
  Talk talk(store);
  Bytes message = hello(modest_greeting(talk.lane().epoch()));
  for (int i = 0; i < 100; ++i) message += encoded(PingFrame{7});
  message += raw_frame(200, 3, 9);
  talk.send(message);
  talk.lane().await_end();
}

void silence(Store& store) {
  Talk talk(store);
  talk.lane().await_end();
}

void silence_as_if_alone(Store& store) {
  Talk talk(store);
  talk.lane().page().srv_live = 2;
  talk.lane().wake();
  talk.lane().await_end();
}

void half_a_hello(Store& store) {
  Talk talk(store);
  Bytes message = hello(modest_greeting(talk.lane().epoch()));
  message.resize(message.size() / 2);
  talk.send(message);
  talk.lane().await_end();
}

void dripped_hello(Store& store) {
  Talk talk(store);
  for (const std::byte byte : hello(modest_greeting(talk.lane().epoch()))) {
    talk.lane().put(std::span(&byte, 1));
    talk.lane().show();
  }
  talk.await_welcome();
  talk.expect_pong();
}

/// Without its address: what a kill -9 leaves.
void dies_in_the_handshake(Store& store) {
  Talk talk(store);
  Bytes message = hello(modest_greeting(talk.lane().epoch()));
  message.resize(20);
  talk.send(message);
  ::_exit(0);
}

void dies_before_a_byte(Store& store) {
  const Talk talk(store);
  ::_exit(0);
}

/// Neither live byte nor event tell of the first lane's end, as after a kexec in the guest.
void forgets_its_lane(Store& store) {
  Talk forgotten(store, {.told_of_death = false});
  forgotten.shake_hands();
  forgotten.expect_pong();
  forgotten.lane().close_event_channel();
  Talk talk(store);
  talk.shake_hands();
  talk.expect_pong();
}

constexpr std::string_view no_handshake = "no handshake within";
constexpr std::string_view other_lane = "the guest speaks of another lane than this one";
constexpr std::string_view closed = "the peer closed the lane";
constexpr std::string_view no_data = "the peer allows no data at all";
constexpr std::string_view impossible_size = "a handshake message of impossible size";
constexpr std::string_view own_message = "a handshake message that this side only sends";

constexpr Way ways[] = {
    {"garbage-magic", "eight bytes of terminal codes in place of the magic", garbage_magic,
     Verdict::ends, "the peer does not speak xenlane's protocol"},
    {"hello-size-11", "a HELLO that says it is shorter than its prefix", size_too_small,
     Verdict::ends, impossible_size},
    {"hello-size-65535", "a HELLO that says it is longer than any", size_huge, Verdict::ends,
     impossible_size},
    {"hello-cut", "a HELLO whose size ends amid its fields", size_cuts_fields, Verdict::ends,
     "a handshake message shorter than its fields"},
    {"unknown-kind", "a handshake message of kind 77", unknown_kind, Verdict::ends,
     "a handshake message of unknown kind"},
    {"welcome-from-guest", "what only a host may say", welcome_from_guest, Verdict::ends,
     own_message},
    {"reject-from-guest", "the other thing that only a host may say", reject_from_guest,
     Verdict::ends, own_message},
    {"versions-reversed", "a lowest version above the highest", versions_reversed, Verdict::ends,
     "a handshake with an empty version range"},
    {"wrong-version", "versions 7 to 65535", version_of_the_future, Verdict::ends,
     "no common protocol version"},
    {"epoch-0", "the epoch of a lane long gone", epoch_of_the_past, Verdict::ends, other_lane},
    {"epoch-of-the-future", "the highest epoch that 64 bits hold", epoch_of_the_future,
     Verdict::ends, other_lane},
    {"zero-stream-window", "no credit for any stream", zero_stream_window, Verdict::ends, no_data},
    {"zero-session-window", "no credit for the session", zero_session_window, Verdict::ends,
     no_data},
    {"consumed-of-the-future", "no session, of which 2^64 - 1 bytes were consumed",
     consumed_of_the_future, Verdict::lives, closed},
    {"huge-windows", "grants all that its fields can say", huge_windows, Verdict::lives, closed},
    {"nothing-granted", "no streams, no backlog", nothing_granted, Verdict::lives, closed},
    {"hello-padded", "the longest HELLO, then a wrong frame", hello_longer_than_known,
     Verdict::ends, "a frame type that does not exist"},
    {"hello-twice", "a second HELLO where frames are due", hello_twice, Verdict::ends,
     "a frame type that does not exist"},
    {"frames-before-welcome", "PINGs and a wrong frame right behind HELLO", frames_before_welcome,
     Verdict::ends, "a frame type that does not exist"},
    {"silence", "lets the host attach and says nothing", silence, Verdict::ends, no_handshake},
    {"silence-as-if-alone", "the same, its live byte at 'awaiting client'", silence_as_if_alone,
     Verdict::ends, no_handshake},
    {"half-a-hello", "44 bytes of HELLO and no more", half_a_hello, Verdict::ends, no_handshake},
    {"dripped-hello", "HELLO byte by byte, with a wake-up for each", dripped_hello, Verdict::lives,
     closed},
    {"dies-in-handshake", "ends without a word in the middle of HELLO", dies_in_the_handshake,
     Verdict::lives, closed},
    {"dies-before-a-byte", "ends without a word as soon as the host is there", dies_before_a_byte,
     Verdict::lives, closed},
    {"forgets-its-lane", "offers another lane and lets the first one look alive", forgets_its_lane,
     Verdict::ends, "the guest offers a new lane", 1, 1},
};

}  // namespace

std::span<const Way> handshake_ways() {
  return ways;
}

}  // namespace xenlane::hostile

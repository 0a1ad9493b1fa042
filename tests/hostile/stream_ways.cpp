// Misbehaviour with streams and credit: frames that are right by themselves and wrong here and now.
// Protocol sections 5 and 6.
#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

constexpr std::uint64_t top = ~std::uint64_t{0};

/// Sends frames in a fresh session and waits for the host's end of it.
void send_and_be_ended(Store& store, const Bytes& frames) {
  Talk talk(store);
  talk.shake_hands();
  talk.send(frames);
  talk.lane().await_end();
}

template <typename... Frames>
Bytes all(const Frames&... frames) {
  Bytes bytes;
  ((bytes += encoded(frames)), ...);
  return bytes;
}

Bytes open_sink(StreamId id) {
  return open_frame(id, sink_channel);
}

/// A stream to somebody who never reads, accepted.
void open_held(Talk& talk, StreamId id) {
  if (talk.open(id, sink_channel) != 0) throw Stuck("the sink was refused");
}

/// Opens it, then breaks a rule with `frames`.
void break_open_stream(Store& store, const Bytes& frames) {
  Talk talk(store);
  talk.shake_hands();
  open_held(talk, 1);
  talk.send(frames);
  talk.lane().await_end();
}

void wrong_parity(Store& store) {
  send_and_be_ended(store, open_sink(2));
}
void id_twice(Store& store) {
  send_and_be_ended(store, open_sink(1) + open_sink(1));
}
void id_of_one_gone(Store& store) {
  send_and_be_ended(store,
                    open_sink(1) + all(ResetFrame{1, StreamError::cancelled}) + open_sink(1));
}
void ids_fall(Store& store) {
  send_and_be_ended(store, open_sink(9) + open_sink(7));
}
void ids_leap(Store& store) {
  send_and_be_ended(store, open_sink(0x7fffffff) + open_sink(0xffffffff));
}

/// Asks for channels that are none, one after another; each must be refused and no more.
void open_bad_names(Store& store) {
  using std::string_view_literals::operator""sv;
  Talk talk(store);
  talk.shake_hands();
  for (const std::string_view name :
       {"org.host.nothing"sv, "../x"sv, "../../../../etc/passwd"sv, "/"sv, "a\0b.c"sv,
        "\x1b]0;owned\x07\x1b[2J"sv, "\xff\xfe\x80.\xc0"sv,
        "x\ninfo: evil: vchan lane ended: fine"sv, "nodot"sv, "control"sv, "org.guest.echo"sv,
        ". ."sv, "%s%n.%d"sv, "{}.{:>9999}"sv}) {
    if (talk.open(talk.next_id(), name) == 0) throw Stuck("the host opened " + std::string(name));
  }
  const std::string longest(63, '/');
  if (talk.open(talk.next_id(), longest) == 0) throw Stuck("the host opened slashes");
  talk.expect_pong();
}

void port_as_service(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, port_channel) == 0) throw Stuck("a port was opened as a service");
  talk.send(open_frame(3, echo_channel, 1));
  talk.read_until("an answer", [&] { return talk.answer(3).has_value(); });
  if (*talk.answer(3) == 0) throw Stuck("a service was opened as a port");
}

/// Waits for the host's program to connect, which opens a stream to this guest.
StreamId await_host_stream(Talk& talk) {
  talk.read_until("a stream of the host's", [&] { return talk.opened_by_host().has_value(); });
  return *talk.opened_by_host();
}

template <typename Make>
void to_host_stream(Store& store, Make make) {
  Talk talk(store);
  talk.shake_hands();
  talk.send(make(await_host_stream(talk)));
  talk.lane().await_end();
}

void data_before_accept(Store& store) {
  to_host_stream(store, [](StreamId id) { return data_frame(id, "early"); });
}
void finish_before_accept(Store& store) {
  to_host_stream(store, [](StreamId id) { return all(FinishFrame{id, 0}); });
}
void reset_before_accept(Store& store) {
  to_host_stream(store, [](StreamId id) { return all(ResetFrame{id, StreamError::cancelled}); });
}
void accept_twice(Store& store) {
  to_host_stream(store, [](StreamId id) { return all(AcceptFrame{id}, AcceptFrame{id}); });
}
void refuse_after_accept(Store& store) {
  to_host_stream(store, [](StreamId id) { return all(AcceptFrame{id}, RefuseFrame{id, 2, "no"}); });
}
void open_of_hosts_id(Store& store) {
  to_host_stream(store, [](StreamId id) { return open_sink(id); });
}
void refusal_with_codes(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  const StreamId id = await_host_stream(talk);
  talk.send(RefuseFrame{id, 65535, "\x1b[2J\nerror: evil\x07\xff"});
  talk.expect_pong();
}

void accept_of_nothing(Store& store) {
  send_and_be_ended(store, all(AcceptFrame{2}));
}
void refuse_of_nothing(Store& store) {
  send_and_be_ended(store, all(RefuseFrame{2, 2, ""}));
}
void accept_of_own(Store& store) {
  send_and_be_ended(store, open_sink(1) + all(AcceptFrame{1}));
}
void data_never_opened(Store& store) {
  send_and_be_ended(store, data_frame(1, "x"));
}
void credit_never_opened(Store& store) {
  send_and_be_ended(store, all(CreditFrame{2, top}));
}
void finish_never_opened(Store& store) {
  send_and_be_ended(store, all(FinishFrame{3, 0}));
}
void stop_never_opened(Store& store) {
  send_and_be_ended(store, all(StopSendingFrame{4, StreamError::broken}));
}
void reset_never_opened(Store& store) {
  send_and_be_ended(store, all(ResetFrame{5, StreamError::broken}));
}

void stream_credit_overrun(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  open_held(talk, 1);
  // All that sockets and windows hold, then one byte more than the host has promised to.
  talk.read_until("the stream's credit to be used up", [&] {
    const std::uint64_t sent = talk.send_data(1, 1 << 30);
    talk.expect_pong();
    return sent == 0;
  });
  talk.send(data_frame(1, "x"));
  talk.lane().await_end();
}

/// The host tells new session credit when it can; a ring that nobody reads keeps it from doing so.
void session_credit_overrun(Store& store) {
  Talk talk(store, {.left_bytes = 4096});
  talk.shake_hands();
  if (talk.open(1, "org.host.nothing") == 0) throw Stuck("there is no such channel");
  constexpr std::uint32_t last_frame_bytes = 300;
  while (talk.lane().unread() < 4096 - last_frame_bytes) {
    talk.send(PingFrame{1});
    talk.lane().await_consumed();
  }
  // For a stream that is gone: thrown away, and counted.
  const Bytes data = raw_frame(4, data_payload_bytes_max, 1, data_payload_bytes_max);
  const std::uint64_t plenty = 4 * talk.allowed().session_window_bytes;
  for (std::uint64_t sent = 0; sent < plenty && !talk.lane().ended();
       sent += data_payload_bytes_max) {
    talk.send(data);
  }
  talk.lane().await_end();
}

void credit_falls(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, echo_channel) != 0) throw Stuck("no echo");
  for (const std::uint64_t limit : {200'000UL, 100'000UL, 0UL, 199'999UL}) {
    talk.send(CreditFrame{1, limit});
    talk.send(CreditFrame{0, limit});
  }
  talk.send(data_frame(1, "ping"));
  talk.read_until("the echo", [&] { return talk.received(1) == 4; });
}

void credit_without_end(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, echo_channel) != 0) throw Stuck("no echo");
  for (int i = 0; i < 100; ++i) talk.give_credit(1);
  talk.send(data_frame(1, "ping"));
  talk.read_until("the echo", [&] { return talk.received(1) == 4; });
}

void finish_twice(Store& store) {
  break_open_stream(store, all(FinishFrame{1, 0}, FinishFrame{1, 0}));
}
void finish_of_wrong_size(Store& store) {
  break_open_stream(store, all(FinishFrame{1, top}));
}
void data_after_finish(Store& store) {
  break_open_stream(store, all(FinishFrame{1, 0}) + data_frame(1, "x"));
}
void stop_twice_and_go_on(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  open_held(talk, 1);
  for (int i = 0; i < 100; ++i) talk.send(StopSendingFrame{1, StreamError::cancelled});
  talk.read_until("FINISH", [&] { return talk.finished(1); });
  talk.expect_pong();
}

constexpr std::string_view used_before = "OPEN with an id that was used before";
constexpr std::string_view closed = "the peer closed the lane";

constexpr Way ways[] = {
    {"wrong-parity", "OPEN with an even id", wrong_parity, Verdict::ends,
     "OPEN with an id of the other side's"},
    {"id-twice", "OPEN of a stream that is open", id_twice, Verdict::ends, used_before},
    {"id-of-one-gone", "OPEN of a stream that was reset", id_of_one_gone, Verdict::ends,
     used_before},
    {"ids-fall", "OPEN of 7 after 9", ids_fall, Verdict::ends, used_before},
    {"ids-leap-back", "OPEN of an id half the circle away", ids_leap, Verdict::any},
    {"bad-names", "OPENs of unknown, climbing, binary, forging and formatting names",
     open_bad_names, Verdict::lives, closed},
    {"wrong-shape", "a port opened as a service and a service as a port", port_as_service,
     Verdict::lives, closed},
    {"data-before-accept", "DATA on the host's stream before its answer", data_before_accept,
     Verdict::ends, "DATA before ACCEPT", 1, 0, true},
    {"finish-before-accept", "FINISH on it", finish_before_accept, Verdict::ends,
     "FINISH before ACCEPT", 1, 0, true},
    {"reset-before-accept", "RESET of it", reset_before_accept, Verdict::ends,
     "RESET before ACCEPT or REFUSE", 1, 0, true},
    {"accept-twice", "two ACCEPTs of one stream", accept_twice, Verdict::ends,
     "ACCEPT of nothing that was asked for", 1, 0, true},
    {"refuse-after-accept", "ACCEPT and REFUSE of one stream", refuse_after_accept, Verdict::ends,
     "REFUSE of nothing that was asked for", 1, 0, true},
    {"open-of-hosts-id", "OPEN with the id of the host's stream", open_of_hosts_id, Verdict::ends,
     "OPEN with an id of the other side's", 1, 0, true},
    {"refusal-with-codes", "REFUSE 65535 with a reason of terminal codes", refusal_with_codes,
     Verdict::lives, closed, 1, 0, true},
    {"accept-of-nothing", "ACCEPT of what was not asked for", accept_of_nothing, Verdict::ends,
     "ACCEPT of nothing that was asked for"},
    {"refuse-of-nothing", "REFUSE of what was not asked for", refuse_of_nothing, Verdict::ends,
     "REFUSE of nothing that was asked for"},
    {"accept-of-own", "ACCEPT of its own stream", accept_of_own, Verdict::ends,
     "ACCEPT of nothing that was asked for"},
    {"data-never-opened", "DATA for a stream that never was", data_never_opened, Verdict::ends,
     "DATA for a stream never opened"},
    {"credit-never-opened", "CREDIT for one", credit_never_opened, Verdict::ends,
     "CREDIT for a stream never opened"},
    {"finish-never-opened", "FINISH of one", finish_never_opened, Verdict::ends,
     "FINISH of a stream never opened"},
    {"stop-never-opened", "STOP_SENDING for one", stop_never_opened, Verdict::ends,
     "STOP_SENDING of a stream never opened"},
    {"reset-never-opened", "RESET of one", reset_never_opened, Verdict::ends,
     "RESET of a stream never opened"},
    {"stream-credit-overrun", "a byte more than the stream's credit", stream_credit_overrun,
     Verdict::ends, "DATA beyond the stream's credit"},
    {"session-credit-overrun", "more than the session's credit, its ring full",
     session_credit_overrun, Verdict::ends, "DATA beyond the session's credit"},
    {"credit-falls", "limits below those said before", credit_falls, Verdict::lives, closed},
    {"credit-without-end", "limits of 2^64 - 1, again and again", credit_without_end,
     Verdict::lives, closed},
    {"finish-twice", "FINISH behind FINISH", finish_twice, Verdict::ends, "FINISH twice"},
    {"finish-of-wrong-size", "FINISH of 2^64 - 1 bytes that never came", finish_of_wrong_size,
     Verdict::ends, "FINISH whose size is not what was sent"},
    {"data-after-finish", "DATA behind FINISH", data_after_finish, Verdict::ends,
     "DATA after FINISH"},
    {"stop-over-and-over", "a hundred STOP_SENDINGs", stop_twice_and_go_on, Verdict::lives, closed},
};

}  // namespace

std::span<const Way> stream_ways() {
  return ways;
}

}  // namespace xenlane::hostile

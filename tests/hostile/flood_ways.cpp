// Misbehaviour by quantity: storms, floods, drips, and a reader who never reads. What a host could
// be made to hold, to log or to do without end shows here.
#include <algorithm>
#include <string>

#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

constexpr std::string_view closed = "the peer closed the lane";
constexpr std::string_view not_read = "the peer has not read for";
constexpr std::uint64_t everything = std::uint64_t{1} << 40;

/// So many OPENs of a channel, never more under way than the host's backlog allows; each with
/// `then` behind it. All must be answered.
void open_many(Talk& talk, int count, std::string_view name, const auto& then,
               std::uint8_t shape = 0) {
  const std::size_t backlog = talk.allowed().open_backlog_max;
  const std::size_t all = talk.answers() + static_cast<std::size_t>(count);
  for (std::size_t asked = talk.answers(); asked < all;) {
    Bytes burst;
    for (std::size_t i = talk.answers() + backlog - asked; i > 0; --i, ++asked) {
      const StreamId id = talk.next_id();
      burst += open_frame(id, name, shape);
      burst += then(id);
    }
    talk.send(burst);
    talk.read_until("an answer", [&] { return talk.answers() + backlog > asked; });
  }
  talk.expect_pong();
}

Bytes nothing(StreamId) {
  return {};
}
Bytes a_reset(StreamId id) {
  return encoded(ResetFrame{id, StreamError::cancelled});
}

template <typename Storm>
void storm(Store& store, Storm with) {
  Talk talk(store);
  talk.shake_hands();
  with(talk);
  talk.expect_pong();
}

void open_beyond_backlog(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  Bytes opens;
  for (std::uint32_t i = 0; i <= talk.allowed().open_backlog_max; ++i) {
    opens += open_frame(talk.next_id(), sink_channel);
  }
  // All at once: a host that has answered some is not overrun.
  talk.lane().put(opens);
  talk.lane().show();
  talk.lane().await_end();
}

void open_beyond_streams_max(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  for (std::uint32_t i = 0; i < talk.allowed().streams_max; ++i) {
    if (talk.open(talk.next_id(), sink_channel) != 0) throw Stuck("refused too early");
  }
  talk.send(open_frame(talk.next_id(), sink_channel));
  talk.lane().await_end();
}

void unknown_name_storm(Store& store) {
  storm(store, [](Talk& talk) { open_many(talk, 5000, "no.such.\x1b[2Jchannel", nothing); });
}
void dead_target_storm(Store& store) {
  storm(store, [](Talk& talk) { open_many(talk, 2000, dead_channel, nothing); });
}
/// Each is dialled again and again until the host's limit for dialling is over; one that was reset
/// meanwhile must not be.
void deaf_target_storm(Store& store) {
  storm(store, [](Talk& talk) {
    open_many(talk, 500, deaf_channel, a_reset);
    open_many(talk, 30, deaf_channel, nothing);
  });
}
void port_storm(Store& store) {
  storm(store, [](Talk& talk) {
    open_many(talk, 2000, port_channel, a_reset, 1);
    for (std::uint32_t i = 0; i < talk.allowed().streams_max; ++i) {
      talk.send(open_frame(talk.next_id(), port_channel, 1));
      talk.expect_pong();
    }
  });
}
void open_and_reset_storm(Store& store) {
  storm(store, [](Talk& talk) { open_many(talk, 500, sink_channel, a_reset); });
}
void open_reset_unanswered(Store& store) {
  Talk talk(store, {.left_bytes = 4096});
  talk.shake_hands();
  // Answers that nobody reads: the host may remember as many as its backlog, not more.
  while (!talk.lane().ended()) {
    const StreamId id = talk.next_id();
    talk.send(open_frame(id, "no.such.channel") + a_reset(id));
  }
}
void reset_storm_known(Store& store) {
  storm(store, [](Talk& talk) {
    if (talk.open(1, sink_channel) != 0) throw Stuck("no sink");
    for (int i = 0; i < 5000; ++i) talk.send(a_reset(1));
  });
}
void frames_for_one_gone(Store& store) {
  storm(store, [](Talk& talk) {
    if (talk.open(1, "no.such.channel") == 0) throw Stuck("no such channel");
    for (int i = 0; i < 500; ++i) {
      talk.send(a_reset(1));
      talk.send(CreditFrame{1, everything});
      talk.send(FinishFrame{1, everything});
      talk.send(StopSendingFrame{1, StreamError::internal});
      talk.send_data(1, 1000);
      talk.read_on();
    }
  });
}

void go_away_storm(Store& store) {
  storm(store, [](Talk& talk) {
    for (int i = 0; i < 5000; ++i) talk.send(GoAwayFrame{"\x1b[1mnow\r\nerror: really\x07"});
  });
}
void notice_storm(Store& store) {
  storm(store, [](Talk& talk) {
    for (std::uint32_t i = 0; i < 5000; ++i) {
      const std::string name = i % 3 == 0   ? std::string(echo_channel)
                               : i % 3 == 1 ? "org.invented.n" + std::to_string(i)
                                            : "../../\x1b[1m" + std::to_string(i);
      talk.send(NoticeFrame{NoticedEnd::port, i, name});
    }
  });
}
void pong_storm(Store& store) {
  storm(store, [](Talk& talk) {
    for (std::uint64_t i = 0; i < 20'000; ++i) talk.send(PongFrame{i});
  });
}
void ping_flood_unread(Store& store) {
  Talk talk(store, {.left_bytes = 4096});
  talk.shake_hands();
  for (std::uint64_t i = 0; i < 50'000; ++i) talk.send(PingFrame{i});
  talk.lane().await_end();
}

void never_reads(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, source_channel) != 0) throw Stuck("no source");
  talk.give_credit(1);
  talk.send(data_frame(1, "1 100000000\n"));
  talk.lane().await_end();
}
void never_reads_as_if_alone(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, source_channel) != 0) throw Stuck("no source");
  talk.lane().page().srv_live = 2;
  talk.give_credit(1);
  talk.send(data_frame(1, "1 100000000\n"));
  talk.lane().await_end();
}

void byte_by_byte(Store& store) {
  storm(store, [](Talk& talk) {
    if (talk.open(1, echo_channel) != 0) throw Stuck("no echo");
    for (const std::byte byte : data_frame(1, std::string(2000, 'x'))) {
      talk.lane().put(std::span(&byte, 1));
      talk.lane().show();
    }
    talk.read_until("the echo", [&] { return talk.received(1) == 2000; });
  });
}
void frames_of_a_byte(Store& store) {
  storm(store, [](Talk& talk) {
    if (talk.open(1, sink_channel) != 0) throw Stuck("no sink");
    for (int i = 0; i < 30'000; ++i) talk.send(data_frame(1, "x"));
  });
}

/// Every stream that the host allows, full to its brim, with a reader that never reads.
void hoard(Store& store) {
  storm(store, [](Talk& talk) {
    std::uint64_t held = 0;
    for (std::uint32_t i = 0; i < talk.allowed().streams_max; ++i) {
      const StreamId id = talk.next_id();
      if (talk.open(id, sink_channel) != 0) throw Stuck("no sink");
      held += talk.send_data(id, everything);
    }
    if (held < talk.allowed().streams_max * talk.allowed().stream_window_bytes_min) {
      throw Stuck("the host took less than it promised");
    }
  });
}

/// Readers that earn the widest windows, and then stop. What the host promises in all is the
/// session's window; all of it is used.
void hoard_in_wide_windows(Store& store) {
  storm(store, [](Talk& talk) {
    constexpr std::uint64_t earned_after = 4'000'000;
    const std::uint32_t streams = talk.allowed().streams_max;
    std::vector<StreamId> ids;
    for (std::uint32_t i = 0; i < streams; ++i) {
      ids.push_back(talk.next_id());
      if (talk.open(ids.back(), echo_channel) != 0) throw Stuck("no echo");
    }
    talk.give_credit(0);
    for (std::uint32_t i = 0; i < 16; ++i) {
      std::uint64_t sent = 0;
      talk.send(CreditFrame{ids[i], earned_after});
      talk.read_until("the echo", [&] {
        sent += talk.send_data(ids[i], earned_after - sent);
        return talk.received(ids[i]) == earned_after;
      });
    }
    // No more credit for the echoes: they stop reading, and the host holds what comes.
    talk.read_until("all credit to be used up", [&] {
      std::uint64_t sent = 0;
      for (const StreamId id : ids) sent += talk.send_data(id, everything);
      talk.expect_pong();
      return sent == 0;
    });
  });
}

constexpr Way ways[] = {
    {"open-beyond-backlog", "one OPEN more than may be unanswered", open_beyond_backlog,
     Verdict::ends, "more unanswered OPENs than the backlog allows"},
    {"open-beyond-streams-max", "one stream more than may be open", open_beyond_streams_max,
     Verdict::ends, "more streams than this side allows"},
    {"unknown-name-storm", "5000 OPENs of no channel", unknown_name_storm, Verdict::lives, closed},
    {"dead-target-storm", "2000 OPENs to a target where nobody listens", dead_target_storm,
     Verdict::lives, closed},
    {"deaf-target-storm", "530 OPENs to a target that accepts nobody", deaf_target_storm,
     Verdict::lives, closed},
    {"port-storm", "2000 port streams opened and reset, then more than may wait", port_storm,
     Verdict::lives, closed},
    {"open-and-reset-storm", "500 streams opened and reset at once", open_and_reset_storm,
     Verdict::lives, closed},
    {"open-reset-unanswered", "the same for ever, reading no answers", open_reset_unanswered,
     Verdict::ends, "more unanswered OPENs than the backlog allows"},
    {"reset-storm", "5000 RESETs of one stream", reset_storm_known, Verdict::lives, closed},
    {"frames-for-one-gone", "2500 frames of all types for a stream that is gone",
     frames_for_one_gone, Verdict::lives, closed},
    {"go-away-storm", "5000 GO_AWAYs with terminal codes", go_away_storm, Verdict::lives, closed},
    {"notice-storm", "5000 NOTICEs of channels, of others and of paths", notice_storm,
     Verdict::lives, closed},
    {"pong-storm", "20000 PONGs that nobody asked for", pong_storm, Verdict::lives, closed},
    {"ping-flood-unread", "50000 PINGs, no PONG read", ping_flood_unread, Verdict::ends, not_read},
    {"never-reads", "asks for 100 MB and reads nothing", never_reads, Verdict::ends, not_read},
    {"never-reads-as-if-alone", "the same, its live byte at 'awaiting client'",
     never_reads_as_if_alone, Verdict::ends, not_read},
    {"byte-by-byte", "a frame byte by byte, with a wake-up for each", byte_by_byte, Verdict::lives,
     closed},
    {"frames-of-a-byte", "30000 frames of one byte", frames_of_a_byte, Verdict::lives, closed},
    {"hoard", "every stream full, nobody reading", hoard, Verdict::lives, closed},
    {"hoard-in-wide-windows", "readers that stop once they have earned wide windows",
     hoard_in_wide_windows, Verdict::lives, closed},
};

}  // namespace

std::span<const Way> flood_ways() {
  return ways;
}

}  // namespace xenlane::hostile

// The handshake that offers a session which was there before: when it is resumed, when another one
// begins, and when it ends. Both tables are those of docs/protocol.md section 3.3.
#include <cctype>
#include <functional>
#include <optional>
#include <ostream>

#include "tests/bridge/session/handshake_lanes.hpp"

namespace xenlane::bridge {
namespace {

using test::Bytes;
using test::bytes_of;
using test::greeting_in;
using test::id_of;
using test::Lane;
using test::SessionHandshake;

/// Both sides have a session that was cut after each sent 100 bytes. The host had read 60 of the
/// guest's, the guest 30 of the host's, and each saw the other's index 10 bytes earlier.
class ResumingHandshake : public SessionHandshake {
 protected:
  ResumingHandshake() {
    here.hear(hear_and_answer(there, here.said()));
    EXPECT_TRUE(here.carries() && there.carries());
    carry(here, 100, 50);
    carry(there, 100, 20);
    host.count_consumed(60);
    guest.count_consumed(30);
  }
  static Bytes hear_and_answer(Lane& lane, const Bytes& bytes) {
    lane.hear(bytes);
    return lane.said();
  }
  static void carry(Lane& lane, std::size_t bytes, std::size_t seen) {
    lane.carrier.put.resize(bytes);
    lane.carrier.consumed = seen;
    lane.session.count_sent(bytes);
  }

  Lane there{host, 7};
  Lane here{guest, 7};
};

TEST_F(ResumingHandshake, IsResumedWhereEachSideStopped) {
  Lane here_again(guest, 8);
  Lane there_again(host, 8, 0xBB);
  const Bytes hello = here_again.said();
  EXPECT_EQ(greeting_in(hello).session, id_of(0xAA));
  EXPECT_EQ(greeting_in(hello).consumed, 30U);
  EXPECT_EQ(greeting_in(hello).turn, 2U);
  const Bytes welcome = hear_and_answer(there_again, hello);
  EXPECT_EQ(greeting_in(welcome).session, id_of(0xAA));
  EXPECT_EQ(greeting_in(welcome).consumed, 60U);
  here_again.hear(welcome);
  EXPECT_TRUE(here_again.resumed() && there_again.resumed());
  EXPECT_TRUE(here_again.carries() && there_again.carries());
  EXPECT_EQ(host.resend().size(), 70U);
  EXPECT_EQ(guest.resend().size(), 40U);
  EXPECT_EQ(guest.lanes(), 2U);
}

// From HELLO on nothing counts that is still under way on the lane before.
TEST_F(ResumingHandshake, LaneBeforeIsSupersededBySayingAndByHearingHello) {
  EXPECT_TRUE(here.carries() && there.carries()) << "neither side has noticed its end";
  Lane here_again(guest, 8);
  EXPECT_TRUE(here.carrier.superseded);
  EXPECT_EQ(guest.state(), SessionState::cut);
  Lane there_again(host, 8);
  EXPECT_FALSE(there.carrier.superseded);
  there_again.hear(here_again.said());
  EXPECT_TRUE(there.carrier.superseded);
}

TEST_F(ResumingHandshake, GuestMayLoseAnyNumberOfLanesBeforeTheAnswer) {
  for (std::uint64_t epoch = 8; epoch < 12; ++epoch) {
    Lane here_again(guest, epoch);
    Lane there_again(host, epoch);
    there_again.hear(here_again.said());
    EXPECT_TRUE(there_again.resumed());
  }
  Lane here_again(guest, 12);
  Lane there_again(host, 12);
  here_again.hear(hear_and_answer(there_again, here_again.said()));
  EXPECT_TRUE(here_again.resumed());
  EXPECT_EQ(host.resend().size(), 70U);
  EXPECT_EQ(guest.resend().size(), 40U);
}

enum class After { untouched, ended, resumed, another };

struct HelloRow {
  const char* name;
  std::function<void(Greeting&)> alter;
  After after;
  std::optional<RejectCode> code;
  std::string_view reason;
};

constexpr std::string_view never_sent =
    "the peer claims to have consumed bytes that were never sent to it";
constexpr std::string_view wanted_again = "the peer wants bytes again that it had consumed";
constexpr std::string_view late = "a later lane of the guest's is in use";

/// docs/protocol.md section 3.3, in its order.
const HelloRow hello_rows[] = {
    {"no common version", [](Greeting& g) { g.version_min = g.version_max = 4; }, After::untouched,
     RejectCode::version, "no common protocol version"},
    {"another epoch", [](Greeting& g) { g.epoch = 7; }, After::untouched, RejectCode::epoch,
     "the guest speaks of another lane than this one"},
    {"no data", [](Greeting& g) { g.limits.session_window_bytes = 0; }, After::untouched,
     RejectCode::busy, "the peer allows no data at all"},
    {"turn 0", [](Greeting& g) { g.turn = 0; }, After::untouched, RejectCode::busy,
     "the guest did not number its lane"},
    {"turn 0 of another process", [](Greeting& g) { g.turn = 0, g.instance = id_of(3); },
     After::untouched, RejectCode::busy, "the guest did not number its lane"},
    {"turn of the lane before", [](Greeting& g) { g.turn = 1; }, After::untouched, RejectCode::busy,
     late},
    {"no session", [](Greeting& g) { g.session = {}; }, After::another, {}, ""},
    {"no session, and any position",
     [](Greeting& g) { g.session = {}, g.consumed = ~0ULL; },
     After::another,
     {},
     ""},
    {"unknown session", [](Greeting& g) { g.session = id_of(0xEE); }, After::another, {}, ""},
    {"no session, and another process",
     [](Greeting& g) { g.session = {}, g.instance = id_of(3); },
     After::another,
     {},
     ""},
    {"another process", [](Greeting& g) { g.instance = id_of(3); }, After::ended,
     RejectCode::resume, "another process of the guest's claims the session"},
    {"position of the future", [](Greeting& g) { g.consumed = 101; }, After::ended,
     RejectCode::resume, never_sent},
    {"position of the far future", [](Greeting& g) { g.consumed = ~0ULL; }, After::ended,
     RejectCode::resume, never_sent},
    {"position of the past", [](Greeting& g) { g.consumed = 19; }, After::ended, RejectCode::resume,
     wanted_again},
    {"first position", [](Greeting& g) { g.consumed = 0; }, After::ended, RejectCode::resume,
     wanted_again},
    {"lowest position that can be", [](Greeting& g) { g.consumed = 20; }, After::resumed, {}, ""},
    {"highest position that can be", [](Greeting& g) { g.consumed = 100; }, After::resumed, {}, ""},
    {"turn with a gap", [](Greeting& g) { g.turn = 99; }, After::resumed, {}, ""},
    {"highest turn", [](Greeting& g) { g.turn = ~0U; }, After::resumed, {}, ""},
    {"all is well", [](Greeting&) {}, After::resumed, {}, ""},
};

/// ctest lists rows by what this prints.
void PrintTo(const HelloRow& row, std::ostream* out) {
  *out << row.name;
}

class HandshakeTable : public ResumingHandshake, public testing::WithParamInterface<HelloRow> {};

TEST_P(HandshakeTable, HostDoesWhatTheProtocolSays) {
  const HelloRow& row = GetParam();
  Lane here_again(guest, 8);
  Greeting hello = greeting_in(here_again.said());
  row.alter(hello);
  Lane there_again(host, 8, 0xBB);
  there_again.hear(bytes_of(Hello{hello}));
  const auto answer = *decode_handshake(there_again.said());
  EXPECT_EQ(std::holds_alternative<Reject>(answer), row.code.has_value());
  if (const auto* reject = std::get_if<Reject>(&answer)) {
    EXPECT_EQ(reject->code, *row.code);
    EXPECT_TRUE(reject->reason.starts_with(row.reason)) << reject->reason;
    EXPECT_EQ(there_again.failure(), reject->reason);
  }
  EXPECT_EQ(there.carries(), row.after == After::untouched);
  EXPECT_EQ(there.carrier.superseded, row.after != After::untouched);
  EXPECT_EQ(host.state(), row.after == After::ended ? SessionState::none : SessionState::up);
  EXPECT_EQ(there_again.resumed(), row.after == After::resumed);
  if (row.after == After::another) {
    const Greeting& welcome = std::get<Welcome>(answer).greeting;
    EXPECT_EQ(welcome.session, id_of(0xBB));
    EXPECT_EQ(welcome.consumed, 0U) << "the host's own position belongs to another session";
    EXPECT_EQ(host.id(), id_of(0xBB));
    EXPECT_TRUE(host.resend().empty());
  } else if (row.after != After::ended) {
    EXPECT_EQ(host.id(), id_of(0xAA));
  }
  if (row.after == After::resumed) {
    EXPECT_EQ(host.resend().size(), 100 - hello.consumed);
  }
}

std::string name_of(const char* text) {
  std::string name;
  bool upper = true;
  for (const char* c = text; *c != 0; ++c) {
    if (std::isalnum(static_cast<unsigned char>(*c)) != 0) {
      name += upper ? static_cast<char>(std::toupper(*c)) : *c;
    }
    upper = *c == ' ';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Rows, HandshakeTable, testing::ValuesIn(hello_rows),
                         [](const auto& row) { return name_of(row.param.name); });

// The guest process that had the session is gone; what it had said lay somewhere and comes now.
TEST_F(ResumingHandshake, HelloThatArrivesLateChangesNothing) {
  Lane late_here(guest, 8);
  const Bytes late_hello = late_here.said();
  Lane here_again(guest, 9);
  Lane there_again(host, 9);
  here_again.hear(hear_and_answer(there_again, here_again.said()));
  Lane late_there(host, 8);
  const Bytes answer = hear_and_answer(late_there, late_hello);
  EXPECT_EQ(late_there.failure(), late);
  EXPECT_TRUE(there_again.carries());
  late_here.hear(answer);
  EXPECT_TRUE(here_again.carries());
  EXPECT_EQ(guest.state(), SessionState::up);
}

// --- what the guest makes of the answer

/// The guest's end of a resumption whose WELCOME was tampered with.
struct WelcomeRow {
  const char* name;
  std::function<void(Greeting&)> alter;
  After after;
  std::string_view failure;
};

const WelcomeRow welcome_rows[] = {
    {"another epoch", [](Greeting& g) { g.epoch = 7; }, After::untouched,
     "the host speaks of another lane than this one"},
    {"version that was not offered", [](Greeting& g) { g.version_min = g.version_max = 1; },
     After::untouched, "the host chose a protocol version that was not offered"},
    {"several versions", [](Greeting& g) { g.version_min = 2; }, After::untouched,
     "the host chose a protocol version that was not offered"},
    {"no data for streams", [](Greeting& g) { g.limits.stream_window_bytes_min = 0; },
     After::untouched, "the peer allows no data at all"},
    {"no data at all", [](Greeting& g) { g.limits.session_window_bytes = 0; }, After::untouched,
     "the peer allows no data at all"},
    {"no id", [](Greeting& g) { g.session = {}; }, After::untouched,
     "the host gave the session no id"},
    {"another session with a position", [](Greeting& g) { g.session = id_of(5); }, After::untouched,
     never_sent},
    {"another session", [](Greeting& g) { g.session = id_of(5), g.consumed = 0; }, After::another,
     ""},
    {"another process", [](Greeting& g) { g.instance = id_of(5); }, After::ended,
     "another process of the host's claims the session"},
    {"another version", [](Greeting& g) { g.version_min = g.version_max = 2; }, After::ended,
     "the host goes on with the session in another protocol version"},
    {"position of the future", [](Greeting& g) { g.consumed = 101; }, After::ended, never_sent},
    {"position of the past", [](Greeting& g) { g.consumed = 49; }, After::ended, wanted_again},
    {"lowest position that can be", [](Greeting& g) { g.consumed = 50; }, After::resumed, ""},
    {"highest position that can be", [](Greeting& g) { g.consumed = 100; }, After::resumed, ""},
    {"turn that nobody looks at", [](Greeting& g) { g.turn = 77; }, After::resumed, ""},
};

void PrintTo(const WelcomeRow& row, std::ostream* out) {
  *out << row.name;
}

class HandshakeAnswerTable : public ResumingHandshake,
                             public testing::WithParamInterface<WelcomeRow> {};

TEST_P(HandshakeAnswerTable, GuestDoesWhatTheProtocolSays) {
  const WelcomeRow& row = GetParam();
  Lane here_again(guest, 8);
  Lane there_again(host, 8, 0xBB);
  Greeting welcome = greeting_in(hear_and_answer(there_again, here_again.said()));
  row.alter(welcome);
  here_again.hear(bytes_of(Welcome{welcome}));
  EXPECT_EQ(here_again.failure(), row.failure);
  EXPECT_EQ(here_again.resumed(), row.after == After::resumed);
  switch (row.after) {
    case After::untouched:
      EXPECT_EQ(guest.state(), SessionState::cut) << "it may go on over another lane";
      EXPECT_EQ(guest.id(), id_of(0xAA));
      break;
    case After::ended:
      EXPECT_EQ(guest.state(), SessionState::none);
      break;
    case After::resumed:
      EXPECT_EQ(guest.state(), SessionState::up);
      EXPECT_EQ(guest.resend().size(), 100 - welcome.consumed);
      break;
    case After::another:
      EXPECT_EQ(guest.state(), SessionState::up);
      EXPECT_EQ(guest.id(), id_of(5));
      EXPECT_TRUE(guest.resend().empty());
      break;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, HandshakeAnswerTable, testing::ValuesIn(welcome_rows),
                         [](const auto& row) { return name_of(row.param.name); });

TEST_F(ResumingHandshake, RefusalOfTheLaneLeavesTheSession) {
  Lane here_again(guest, 8);
  here_again.hear(bytes_of(Reject{RejectCode::busy, 2, 2, "not now"}));
  EXPECT_EQ(here_again.failure(), "refused by the host: not now");
  EXPECT_EQ(guest.state(), SessionState::cut);
}

TEST_F(ResumingHandshake, RefusalOfTheSessionEndsItOnBothSides) {
  Lane here_again(guest, 8);
  here_again.hear(bytes_of(Reject{RejectCode::resume, 2, 2, "no such bytes"}));
  EXPECT_EQ(guest.state(), SessionState::none);
  Lane here_anew(guest, 9);
  EXPECT_EQ(greeting_in(here_anew.said()).session, RandomId{}) << "it asks for another";
}

// The guest has offered the session to another lane meanwhile: whatever the host says on this one
// says nothing of the session.
TEST_F(ResumingHandshake, LateAnswersAreNotListenedTo) {
  Lane late_here(guest, 8);
  Lane there_late(host, 8);
  const Bytes late_welcome = hear_and_answer(there_late, late_here.said());
  Lane here_again(guest, 9);
  Lane there_again(host, 9);
  here_again.hear(hear_and_answer(there_again, here_again.said()));
  late_here.hear(late_welcome);
  EXPECT_EQ(late_here.failure(), "another lane was offered the session meanwhile");
  EXPECT_TRUE(here_again.carries());
}

TEST_F(ResumingHandshake, LateRefusalOfTheSessionDoesNotEndIt) {
  Lane late_here(guest, 8);
  Lane here_again(guest, 9);
  Lane there_again(host, 9);
  here_again.hear(hear_and_answer(there_again, here_again.said()));
  late_here.hear(bytes_of(Reject{RejectCode::resume, 2, 2, "no such bytes"}));
  EXPECT_TRUE(late_here.handshake.over());
  EXPECT_FALSE(late_here.handshake.session_spoilt());
  EXPECT_TRUE(here_again.carries());
  EXPECT_EQ(guest.state(), SessionState::up);
}

// It waited too long for a lane, or the daemon stops; the host knows nothing of that yet.
TEST_F(ResumingHandshake, SessionThatEndedWhileItWasOfferedIsNotResumed) {
  Lane here_again(guest, 8);
  Lane there_again(host, 8);
  const Bytes hello = here_again.said();
  guest.end();
  Greeting welcome = greeting_in(hear_and_answer(there_again, hello));
  welcome.consumed = 0;  // as of a host that has read nothing yet
  here_again.hear(bytes_of(Welcome{welcome}));
  EXPECT_EQ(here_again.failure(), "the session that was offered has ended meanwhile");
  EXPECT_EQ(guest.state(), SessionState::none);
}

}  // namespace
}  // namespace xenlane::bridge

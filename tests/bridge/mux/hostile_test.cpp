// A host's mux against a guest without manners: every rule a peer can break is broken by hand-made
// frames, and what it may do without end makes nothing grow.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/bridge/mux/victim.hpp"

namespace xenlane::bridge {
namespace {

struct Misdeed {
  const char* name;
  std::function<std::string(Victim&)> commit;
  const char* text;
};

void PrintTo(const Misdeed& misdeed, std::ostream* out) {
  *out << misdeed.name;
}

/// A stream of the victim's own, its OPEN sent or not.
StreamId own_stream(Victim& victim, bool sent) {
  const StreamId id = victim.mux.open(EndShape::service, "org.example.own");
  if (sent) victim.flush_output();
  return id;
}

/// The peer's stream 1, accepted.
void joined(Victim& victim) {
  EXPECT_EQ(victim.take(open_of(1)), "");
  victim.mux.accept(1);
  victim.flush_output();
}

const std::vector<Misdeed> misdeeds{
    {"TypeZero", [](Victim& v) { return v.take_header(0, 0, 1); },
     "a frame type that does not exist (protocol section 4.1)"},
    {"TypeUnknown", [](Victim& v) { return v.take_header(14, 8, 1); },
     "a frame type that does not exist (protocol section 4.1)"},
    {"TooShort", [](Victim& v) { return v.take_header(5, 7, 1); },
     "a frame shorter than its type allows (protocol section 4.1)"},
    {"TooLong", [](Victim& v) { return v.take_header(2, 1, 1); },
     "a frame longer than its type allows (protocol section 4.1)"},
    {"PingOnAStream", [](Victim& v) { return v.take_header(9, 8, 1); },
     "a session frame that names a stream (protocol section 4.1)"},
    {"DataOnNoStream", [](Victim& v) { return v.take_header(4, 8, 0); },
     "a stream frame that names no stream (protocol section 4.1)"},
    {"UnknownShape",
     [](Victim& v) {
       return v.take(OpenFrame{1, static_cast<EndShape>(2), SocketKind::stream, "a"});
     },
     "OPEN: unknown shape (protocol section 4.2)"},
    {"UnknownSocketKind",
     [](Victim& v) {
       return v.take(OpenFrame{1, EndShape::port, static_cast<SocketKind>(2), "a"});
     },
     "OPEN: unknown socket kind (protocol section 4.2)"},
    {"NameLengthZero", [](Victim& v) { return v.take_header(1, 9, 1, 9); },
     "OPEN: name length differs from the payload (protocol section 4.2)"},
    {"RefuseWithoutError",
     [](Victim& v) {
       return v.take(RefuseFrame{own_stream(v, true), 0, ""});
     },
     "REFUSE: error zero (protocol section 4.2)"},
    {"ResetWithoutCode",
     [](Victim& v) {
       joined(v);
       return v.take(ResetFrame{1, static_cast<StreamError>(0)});
     },
     "a stream error code that does not exist (protocol section 4.2)"},
    {"StopWithUnknownCode",
     [](Victim& v) {
       joined(v);
       return v.take(StopSendingFrame{1, static_cast<StreamError>(5)});
     },
     "a stream error code that does not exist (protocol section 4.2)"},
    {"DataNowhere",
     [](Victim& v) {
       return v.take(DataFrame{1, 1});
     },
     "DATA for a stream never opened (protocol section 5.1)"},
    {"DataOnTheVictimsNextStream",
     [](Victim& v) {
       return v.take(DataFrame{own_stream(v, true) + 2, 1});
     },
     "DATA for a stream never opened (protocol section 5.1)"},
    {"CreditNowhere",
     [](Victim& v) {
       return v.take(CreditFrame{1, 1});
     },
     "CREDIT for a stream never opened (protocol section 5.1)"},
    {"FinishNowhere",
     [](Victim& v) {
       return v.take(FinishFrame{1, 0});
     },
     "FINISH of a stream never opened (protocol section 5.1)"},
    {"StopNowhere",
     [](Victim& v) {
       return v.take(StopSendingFrame{1, StreamError::cancelled});
     },
     "STOP_SENDING of a stream never opened (protocol section 5.1)"},
    {"ResetNowhere",
     [](Victim& v) {
       return v.take(ResetFrame{1, StreamError::cancelled});
     },
     "RESET of a stream never opened (protocol section 5.1)"},
    {"CreditBeforeTheOpenLeft",
     [](Victim& v) {
       return v.take(CreditFrame{own_stream(v, false), 1});
     },
     "CREDIT for a stream never opened (protocol section 5.1)"},
    {"StopBeforeTheOpenLeft",
     [](Victim& v) {
       return v.take(StopSendingFrame{own_stream(v, false), StreamError::cancelled});
     },
     "STOP_SENDING of a stream never opened (protocol section 5.1)"},
    {"OpenWithTheOthersParity", [](Victim& v) { return v.take(open_of(2)); },
     "OPEN with an id of the other side's (protocol section 5.1)"},
    {"OpenTwice",
     [](Victim& v) {
       return v.take_all({open_of(1), open_of(1)});
     },
     "OPEN with an id that was used before (protocol section 5.1)"},
    {"OpenBackwards",
     [](Victim& v) {
       return v.take_all({open_of(5), open_of(3)});
     },
     "OPEN with an id that was used before (protocol section 5.1)"},
    {"OpensBeyondTheBacklog",
     [](Victim& v) {
       return v.take_all({open_of(1), open_of(3), open_of(5), open_of(7)});
     },
     "more unanswered OPENs than the backlog allows (protocol section 5.1)"},
    {"OpenAndResetBeyondTheBacklog",
     [](Victim& v) {
       for (StreamId id = 1;; id += 2) {
         const std::string text = v.take_all({open_of(id), ResetFrame{id, StreamError::cancelled}});
         if (!text.empty()) return text;
       }
     },
     "more unanswered OPENs than the backlog allows (protocol section 5.1)"},
    {"OpensBeyondTheStreams",
     [](Victim& v) {
       for (StreamId id = 1; id < 9; id += 2) {
         EXPECT_EQ(v.take(open_of(id)), "");
         v.mux.accept(id);
         v.flush_output();
       }
       return v.take(open_of(9));
     },
     "more streams than this side allows (protocol section 5.1)"},
    {"AcceptOfNothing", [](Victim& v) { return v.take(AcceptFrame{2}); },
     "ACCEPT of nothing that was asked for (protocol section 5.2)"},
    {"AcceptOfItsOwn",
     [](Victim& v) {
       return v.take_all({open_of(1), AcceptFrame{1}});
     },
     "ACCEPT of nothing that was asked for (protocol section 5.2)"},
    {"AcceptBeforeTheOpenLeft", [](Victim& v) { return v.take(AcceptFrame{own_stream(v, false)}); },
     "ACCEPT of nothing that was asked for (protocol section 5.2)"},
    {"AcceptTwice",
     [](Victim& v) {
       const StreamId id = own_stream(v, true);
       return v.take_all({AcceptFrame{id}, AcceptFrame{id}});
     },
     "ACCEPT of nothing that was asked for (protocol section 5.2)"},
    {"RefuseOfNothing",
     [](Victim& v) {
       return v.take(RefuseFrame{2, ENOENT, ""});
     },
     "REFUSE of nothing that was asked for (protocol section 5.2)"},
    {"RefuseAfterAccept",
     [](Victim& v) {
       const StreamId id = own_stream(v, true);
       return v.take_all({AcceptFrame{id}, RefuseFrame{id, ENOENT, ""}});
     },
     "REFUSE of nothing that was asked for (protocol section 5.2)"},
    {"RefuseBeforeTheOpenLeft",
     [](Victim& v) {
       return v.take(RefuseFrame{own_stream(v, false), ENOENT, ""});
     },
     "REFUSE of nothing that was asked for (protocol section 5.2)"},
    {"DataBeforeAccept",
     [](Victim& v) {
       return v.take(DataFrame{own_stream(v, true), 1});
     },
     "DATA before ACCEPT (protocol section 5.2)"},
    {"FinishBeforeAccept",
     [](Victim& v) {
       return v.take(FinishFrame{own_stream(v, true), 0});
     },
     "FINISH before ACCEPT (protocol section 5.2)"},
    {"ResetBeforeAnswer",
     [](Victim& v) {
       return v.take(ResetFrame{own_stream(v, true), StreamError::broken});
     },
     "RESET before ACCEPT or REFUSE (protocol section 5.2)"},
    {"DataAfterFinish",
     [](Victim& v) {
       joined(v);
       return v.take_all({FinishFrame{1, 0}, DataFrame{1, 1}});
     },
     "DATA after FINISH (protocol section 5.4)"},
    {"DataAfterFinishOfAStreamBeingReset",
     [](Victim& v) {
       joined(v);
       EXPECT_EQ(v.take(FinishFrame{1, 0}), "");
       v.mux.reset(1, StreamError::cancelled);
       return v.take(DataFrame{1, 1});
     },
     "DATA after FINISH (protocol section 5.4)"},
    {"FinishTwice",
     [](Victim& v) {
       joined(v);
       return v.take_all({FinishFrame{1, 0}, FinishFrame{1, 0}});
     },
     "FINISH twice (protocol section 5.4)"},
    {"FinishClaimsMore",
     [](Victim& v) {
       joined(v);
       return v.take_all({DataFrame{1, 10}, FinishFrame{1, 11}});
     },
     "FINISH whose size is not what was sent (protocol section 5.4)"},
    {"FinishClaimsLess",
     [](Victim& v) {
       joined(v);
       return v.take_all({DataFrame{1, 10}, FinishFrame{1, 9}});
     },
     "FINISH whose size is not what was sent (protocol section 5.4)"},
    {"DataBeyondTheStreamsCredit",
     [](Victim& v) {
       joined(v);
       return v.take(DataFrame{1, 1001});
     },
     "DATA beyond the stream's credit (protocol section 6.1)"},
    {"DataBeyondTheSessionsCredit",
     [](Victim& v) {
       joined(v);
       return v.take(DataFrame{1, 10'001});
     },
     "DATA beyond the session's credit (protocol section 6.2)"},
};

class MuxHostile : public testing::TestWithParam<Misdeed> {};

TEST_P(MuxHostile, EndsTheSessionWithTheRuleThatWasBroken) {
  Victim victim;
  EXPECT_EQ(GetParam().commit(victim), GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(Every, MuxHostile, testing::ValuesIn(misdeeds),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(MuxTolerates, FramesForStreamsThatAreGone) {
  Victim victim;
  joined(victim);
  victim.mux.reset(1, StreamError::cancelled);
  victim.flush_output();
  ASSERT_FALSE(victim.mux.has_stream(1));
  EXPECT_EQ(victim.take_all({DataFrame{1, 1000}, CreditFrame{1, 5000}, FinishFrame{1, 1000},
                             StopSendingFrame{1, StreamError::cancelled},
                             ResetFrame{1, StreamError::cancelled}}),
            "");
  EXPECT_EQ(victim.mux.counters().discarded_bytes, 1000U);
  EXPECT_EQ(victim.mux.held_bytes(), 0U);
}

TEST(MuxTolerates, EarlyCreditAndStopOfAnUnansweredOpen) {
  Victim victim;
  const StreamId id = own_stream(victim, true);
  EXPECT_EQ(victim.take_all({CreditFrame{id, 5000}, StopSendingFrame{id, StreamError::cancelled},
                             AcceptFrame{id}}),
            "");
}

TEST(MuxTolerates, PongsThatNobodyAskedFor) {
  Victim victim;
  EXPECT_EQ(victim.take(PongFrame{1}), "");
}

TEST(MuxTolerates, OldAndAbsurdCreditLimits) {
  Victim victim;
  joined(victim);
  EXPECT_EQ(victim.take_all({CreditFrame{0, ~0ULL}, CreditFrame{0, 0}, CreditFrame{1, ~0ULL},
                             CreditFrame{1, 1}}),
            "");
  EXPECT_EQ(victim.mux.session_credit(), ~0ULL);
  victim.mux.source_ready(1);
  const Output output = victim.mux.poll_output(2 * big_room);
  ASSERT_TRUE(std::holds_alternative<DataTurn>(output));
  EXPECT_EQ(std::get<DataTurn>(output).bytes_max, data_payload_bytes_max);
}

TEST(MuxTolerates, IdsThatJumpAheadAndWrapAround) {
  Victim victim;
  for (const StreamId id : {1U, 0x7FFF'FFFFU, 0xFFFF'FFFDU, 0xFFFF'FFFFU, 1U, 3U}) {
    ASSERT_EQ(victim.take(open_of(id)), "") << id;
    victim.mux.refuse(id, ENOENT, "");
    victim.flush_output();
  }
}

TEST(MuxFlood, OpenAndResetStormGrowsNothing) {
  Victim victim;
  std::size_t queued_most = 0;
  for (StreamId id = 1; id < 200'000; id += 2) {
    ASSERT_EQ(victim.take_all({open_of(id), ResetFrame{id, StreamError::cancelled}}), "");
    queued_most = std::max(queued_most, victim.mux.queued());
    victim.flush_output();
  }
  EXPECT_LE(queued_most, small_limits().open_backlog_max);
  EXPECT_EQ(victim.mux.stream_count(), 0U);
}

TEST(MuxFlood, AcceptedAndResetStormGrowsNothingWhileTheRingIsFull) {
  MuxLimits limits = small_limits();
  limits.open_backlog_max = 1000;
  Victim victim(limits);
  std::string text;
  for (StreamId id = 1; text.empty(); id += 2) {
    text = victim.take(open_of(id));
    if (!text.empty()) break;
    victim.mux.accept(id);
    victim.mux.source_ready(id);
    text = victim.take(ResetFrame{id, StreamError::cancelled});
    ASSERT_LE(victim.mux.queued(), 3 * limits.open_backlog_max);
  }
  EXPECT_EQ(text, "more unanswered OPENs than the backlog allows (protocol section 5.1)");
  victim.flush_output();
  EXPECT_EQ(victim.mux.queued(), 0U);
  EXPECT_EQ(victim.mux.unanswered(), 0U);
}

TEST(MuxFlood, PingStormOwesOnePong) {
  Victim victim;
  for (std::uint64_t i = 0; i < 100'000; ++i) ASSERT_EQ(victim.take(PingFrame{i}), "");
  const Output output = victim.mux.poll_output(big_room);
  ASSERT_TRUE(std::holds_alternative<ControlOutput>(output));
  EXPECT_TRUE(std::ranges::equal(std::get<ControlOutput>(output).view(),
                                 encode_frame(PongFrame{99'999}).view()));
  EXPECT_TRUE(std::holds_alternative<NoOutput>(victim.mux.poll_output(big_room)));
}

TEST(MuxFlood, CreditAndStopStormGrowsNothing) {
  Victim victim;
  joined(victim);
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    ASSERT_EQ(victim.take_all({CreditFrame{1, i}, StopSendingFrame{1, StreamError::cancelled},
                               CreditFrame{0, i}, GoAwayFrame{"again"}}),
              "");
    victim.mux.source_ready(1);
    ASSERT_LE(victim.mux.queued(), 2U);
  }
}

// A guest that never answers, and a local application that connects and gives up for ever.
TEST(MuxFlood, OpensThatAreNeverAnsweredAreBounded) {
  MuxLimits promises;
  promises.streams_max = ~0U;
  promises.open_backlog_max = ~0U;
  Mux mux(Role::host, small_limits(), promises);
  int opened = 0;
  for (; mux.can_open() && opened < 10'000; ++opened) {
    const StreamId id = mux.open(EndShape::service, "org.example.test");
    while (std::holds_alternative<ControlOutput>(mux.poll_output(big_room))) {
    }
    mux.reset(id, StreamError::cancelled);
    while (std::holds_alternative<ControlOutput>(mux.poll_output(big_room))) {
    }
  }
  EXPECT_EQ(static_cast<std::uint32_t>(opened), small_limits().open_backlog_max);
}

// While a guest takes nothing, local applications come and go: their OPENs are never sent.
TEST(MuxFlood, LocalStormWhileTheRingIsFullGrowsNothing) {
  Victim victim;
  std::size_t queued_most = 0;
  for (int i = 0; i < 100'000; ++i) {
    const StreamId id = victim.mux.open(EndShape::service, "org.example.test");
    victim.mux.source_ready(id);
    victim.mux.reset(id, StreamError::cancelled);
    queued_most = std::max(queued_most, victim.mux.queued());
  }
  EXPECT_LE(queued_most, 200U) << "a constant, whatever it is";
  EXPECT_EQ(victim.mux.stream_count(), 0U);
  EXPECT_TRUE(std::holds_alternative<NoOutput>(victim.mux.poll_output(big_room)));
}

TEST(MuxHostileBytes, RandomBytesNeverDoMoreThanEndTheSession) {
  for (std::uint32_t seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    Victim victim;
    joined(victim);
    own_stream(victim, true);
    std::string text;
    for (int i = 0; i < 300 && text.empty(); ++i) {
      // Headers that are often right, ids that are often alive, payload at random.
      std::vector<std::byte> bytes(frame_header_bytes + random() % 40);
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % 6);
      store_le<std::uint32_t>(std::span(bytes).first<4>(),
                              static_cast<std::uint32_t>(bytes.size() - frame_header_bytes) |
                                  static_cast<std::uint32_t>(random() % 13) << 24);
      store_le<std::uint32_t>(std::span(bytes).subspan<4, 4>(),
                              static_cast<std::uint32_t>(random() % 4));
      text = victim.take(bytes);
      victim.flush_output();
      ASSERT_LE(victim.mux.held_bytes(), small_limits().session_window_bytes);
    }
  }
}

}  // namespace
}  // namespace xenlane::bridge

// The handshake that begins a session: what each side makes of what it is told.
#include <vector>

#include "bridge/wire/bytes.hpp"
#include "tests/bridge/session/handshake_lanes.hpp"

namespace xenlane::bridge {
namespace {

using test::Bytes;
using test::bytes_of;
using test::greeting_in;
using test::id_of;
using test::Lane;
using test::SessionHandshake;
using test::settings;

TEST_F(SessionHandshake, GuestGreetsAndHostWelcomes) {
  Lane there(host);
  EXPECT_TRUE(there.handshake.output().empty()) << "the guest speaks first";
  Lane here(guest);
  const Bytes hello = here.said();
  EXPECT_EQ(there.hear(hello), hello.size());
  EXPECT_TRUE(there.carries());
  EXPECT_FALSE(here.handshake.over());
  const Bytes welcome = there.said();
  EXPECT_EQ(here.hear(welcome), welcome.size());
  EXPECT_TRUE(here.carries());
  EXPECT_EQ(guest.id(), id_of(0xAA)) << "the host chose it";
  EXPECT_EQ(host.peer().instance, id_of(2));
  EXPECT_EQ(guest.peer().instance, id_of(1));
  EXPECT_EQ(host.peer().limits.streams_max, 20U);
  EXPECT_EQ(guest.peer().limits.streams_max, 10U);
  EXPECT_EQ(guest.version(), 3);
  EXPECT_EQ(host.version(), 3);
  EXPECT_EQ(there.handshake.turn(), 1U);
  EXPECT_TRUE(here.said().empty() && there.said().empty());
}

TEST_F(SessionHandshake, MessagesThatArriveByteByByteAreWaitedFor) {
  Lane there(host);
  Lane here(guest);
  const Bytes hello = here.said();
  for (std::size_t i = 0; i < hello.size(); ++i) {
    ASSERT_EQ(there.hear({std::span(hello).first(i), {}}), 0U);
    ASSERT_FALSE(there.handshake.over());
  }
  EXPECT_EQ(there.hear(hello), hello.size());
  EXPECT_TRUE(there.carries());
}

TEST_F(SessionHandshake, MessageThatWrapsAroundTheRingIsReadWhole) {
  const Bytes hello = bytes_of(Hello{next_hello()});
  const auto span = std::span(hello);
  for (std::size_t split = 0; split <= hello.size(); ++split) {
    Session fresh(settings(Role::host));
    Lane there(fresh);
    EXPECT_EQ(there.hear({span.first(split), span.subspan(split)}), hello.size());
    EXPECT_TRUE(there.carries());
  }
}

TEST_F(SessionHandshake, FramesBehindTheWelcomeAreLeftAlone) {
  Lane there(host);
  Lane here(guest);
  there.hear(here.said());
  Bytes bytes = there.said();
  const std::size_t welcome_bytes = bytes.size();
  bytes.resize(welcome_bytes + 100);
  EXPECT_EQ(here.hear(bytes), welcome_bytes);
  EXPECT_EQ(here.hear(bytes), 0U) << "the rest is not the handshake's";
}

TEST_F(SessionHandshake, VersionsWithoutOverlapAreExplainedOnBothSides) {
  Lane here(guest);
  Greeting newer = greeting_in(here.said());
  newer.version_min = 4;
  newer.version_max = 5;
  Lane there(host);
  there.hear(bytes_of(Hello{newer}));
  const std::string why =
      "no common protocol version: the guest speaks 4 to 5, the host 2 to 3; upgrade the older "
      "side";
  EXPECT_EQ(host.state(), SessionState::none);
  EXPECT_EQ(there.failure(), why);
  here.hear(there.said());
  EXPECT_EQ(guest.state(), SessionState::none);
  EXPECT_EQ(here.failure(), "refused by the host: " + why);
}

/// The frames that one side has to send, as the other takes them.
std::vector<InputEvent> carry_frames(Session& from, Session& to) {
  std::vector<InputEvent> events;
  for (;;) {
    const Output output = from.mux()->poll_output(65536);
    const auto* frame = std::get_if<ControlOutput>(&output);
    if (frame == nullptr) return events;
    const InputStep step = to.mux()->handle_input({frame->view(), {}});
    EXPECT_EQ(step.consumed, frame->size);
    events.push_back(step.event);
  }
}

// The older of the two decides, whichever side it is on, and is told what it understands.
TEST_F(SessionHandshake, BridgesOfVersionsTwoAndThreeSpeakTwo) {
  for (const Role older : {Role::host, Role::guest}) {
    Session::Settings of_host = settings(Role::host);
    Session::Settings of_guest = settings(Role::guest);
    (older == Role::host ? of_host : of_guest).version_max = 2;
    Session old_or_new_host(of_host);
    Session old_or_new_guest(of_guest);
    Lane here(old_or_new_guest);
    Lane there(old_or_new_host);
    there.hear(here.said());
    here.hear(there.said());
    ASSERT_TRUE(here.carries() && there.carries());
    for (auto [opener, acceptor] : {std::pair(&old_or_new_host, &old_or_new_guest),
                                    std::pair(&old_or_new_guest, &old_or_new_host)}) {
      EXPECT_EQ(opener->version(), 2);
      EXPECT_FALSE(opener->mux()->speaks(SocketKind::seqpacket));
      opener->mux()->open(EndShape::service, "a.b", SocketKind::stream, 1000);
      const auto events = carry_frames(*opener, *acceptor);
      ASSERT_EQ(events.size(), 1U);
      const auto* open = std::get_if<OpenRequested>(&events.front());
      ASSERT_NE(open, nullptr);
      EXPECT_EQ(open->untrusted_name, "a.b");
      EXPECT_EQ(open->untrusted_uid, uid_unknown) << "version 2 has no place for it";
    }
  }
}

TEST_F(SessionHandshake, InVersionThreeAnOpenTellsWhoseItIsAndOfWhatKind) {
  Lane here(guest);
  Lane there(host);
  there.hear(here.said());
  here.hear(there.said());
  ASSERT_TRUE(guest.mux()->speaks(SocketKind::seqpacket));
  guest.mux()->open(EndShape::port, "a.b", SocketKind::seqpacket, 1000);
  const auto events = carry_frames(guest, host);
  ASSERT_EQ(events.size(), 1U);
  const auto& open = std::get<OpenRequested>(events.front());
  EXPECT_EQ(open.shape, EndShape::port);
  EXPECT_EQ(open.kind, SocketKind::seqpacket);
  EXPECT_EQ(open.untrusted_uid, 1000U);
}

// Its HELLO ends before the turn.
TEST_F(SessionHandshake, GuestOfVersionOneIsToldThatItIsTooOld) {
  Greeting older = next_hello();
  older.version_min = older.version_max = 1;
  Bytes hello = bytes_of(Hello{older});
  hello.resize(84);
  store_le<std::uint16_t>(std::span(hello).subspan<8, 2>(), 84);
  Lane there(host);
  EXPECT_EQ(there.hear(hello), hello.size());
  EXPECT_TRUE(there.failure().starts_with(
      "no common protocol version: the guest speaks 1 to 1, the host 2 to 3"))
      << there.failure();
  EXPECT_EQ(std::get<Reject>(*decode_handshake(there.said())).code, RejectCode::version);
}

TEST_F(SessionHandshake, GuestOfALaterVersionThatStillSpeaksOursIsWelcome) {
  Greeting newer = next_hello();
  newer.version_max = 9;
  Bytes hello = bytes_of(Hello{newer});
  hello.resize(hello.size() + 40);  // fields of version 9
  store_le<std::uint16_t>(std::span(hello).subspan<8, 2>(),
                          static_cast<std::uint16_t>(hello.size()));
  Lane there(host);
  EXPECT_EQ(there.hear(hello), hello.size());
  ASSERT_TRUE(there.carries());
  EXPECT_EQ(greeting_in(there.said()).version_max, 3);
}

TEST_F(SessionHandshake, OlderHostsRefusalReachesANewerGuestsLog) {
  Lane here(guest);
  here.hear(bytes_of(Reject{static_cast<RejectCode>(77), 0, 0, "too new for me"}));
  EXPECT_EQ(here.failure(), "refused by the host: too new for me");
}

TEST_F(SessionHandshake, AnotherLanesEpochIsRefused) {
  Lane here(guest, 6);
  Lane there(host, 7);
  there.hear(here.said());
  EXPECT_EQ(there.failure(), "the guest speaks of another lane than this one");
  here.hear(there.said());
  EXPECT_EQ(here.failure(), "refused by the host: the guest speaks of another lane than this one");
}

TEST_F(SessionHandshake, HostRefusesAGuestThatAllowsNoData) {
  for (const bool whole_session : {false, true}) {
    Lane here(guest);
    Greeting hello = greeting_in(here.said());
    (whole_session ? hello.limits.session_window_bytes : hello.limits.stream_window_bytes_min) = 0;
    Lane there(host);
    there.hear(bytes_of(Hello{hello}));
    EXPECT_EQ(there.failure(), "the peer allows no data at all");
    here.hear(there.said());
    EXPECT_EQ(here.failure(), "refused by the host: the peer allows no data at all");
  }
}

TEST_F(SessionHandshake, PeerThatAllowsNoStreamsIsNoProblem) {
  Greeting hello = next_hello();
  hello.limits.streams_max = 0;
  hello.limits.open_backlog_max = 0;
  Lane there(host);
  there.hear(bytes_of(Hello{hello}));
  EXPECT_TRUE(there.carries());
}

TEST_F(SessionHandshake, ReflectedMessagesAreRefused) {
  const Greeting greeting = next_hello();
  const Reject reject{RejectCode::busy, 2, 2, "busy"};
  for (const HandshakeMessage& message : std::vector<HandshakeMessage>{Welcome{greeting}, reject}) {
    Lane there(host);
    there.hear(bytes_of(message));
    EXPECT_EQ(there.failure(), "a handshake message that this side only sends");
    EXPECT_TRUE(there.handshake.output().empty());
  }
  Lane here(guest);
  here.hear(here.said());
  EXPECT_EQ(here.failure(), "a handshake message that this side only sends");
}

TEST_F(SessionHandshake, GarbageIsRefusedFromItsFirstBytes) {
  Lane there(host);
  EXPECT_EQ(there.hear(Bytes(12, std::byte{'G'})), 0U);
  EXPECT_EQ(there.failure(), "the peer does not speak xenlane's protocol");
  EXPECT_EQ(there.hear(bytes_of(Hello{next_hello()})), 0U) << "nothing more is read";
  EXPECT_EQ(there.failure(), "the peer does not speak xenlane's protocol") << "the first one stays";
  EXPECT_EQ(host.state(), SessionState::none);
}

}  // namespace
}  // namespace xenlane::bridge

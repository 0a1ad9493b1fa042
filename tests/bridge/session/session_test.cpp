// The handshake between two session machines, and what a guest or a host may be told instead.
#include "bridge/session/session.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {
namespace {

RandomId id_of(std::uint8_t value) {
  RandomId id;
  id.fill(std::byte{value});
  return id;
}

Session::Settings settings(Role role, std::uint64_t epoch = 7) {
  Session::Settings out{role, id_of(0xAA), id_of(role == Role::host ? 1 : 2), epoch, {}};
  out.limits.streams_max = role == Role::host ? 10 : 20;
  return out;
}

using Bytes = std::vector<std::byte>;

/// What the session wants to say, taken as sent.
Bytes said_by(Session& session) {
  const auto bytes = session.poll_greeting();
  Bytes out(bytes.begin(), bytes.end());
  session.greeting_sent(out.size());
  return out;
}

std::size_t tell(Session& session, const Bytes& bytes) {
  return session.handle_greeting({std::span(bytes), {}});
}

Bytes bytes_of(const HandshakeMessage& message) {
  const EncodedHandshake encoded = encode_handshake(message);
  return {encoded.view().begin(), encoded.view().end()};
}

Greeting greeting_of(Session& guest) {
  return std::get<Hello>(*decode_handshake(said_by(guest))).greeting;
}

TEST(Session, GuestGreetsAndHostWelcomes) {
  Session host(settings(Role::host));
  Session guest(settings(Role::guest));
  EXPECT_TRUE(host.poll_greeting().empty()) << "the guest speaks first";
  const Bytes hello = said_by(guest);
  EXPECT_EQ(tell(host, hello), hello.size());
  EXPECT_EQ(host.state(), SessionState::up);
  EXPECT_EQ(guest.state(), SessionState::greeting);
  const Bytes welcome = said_by(host);
  EXPECT_EQ(tell(guest, welcome), welcome.size());
  EXPECT_EQ(guest.state(), SessionState::up);
  EXPECT_EQ(guest.id(), id_of(0xAA)) << "the host chose it";
  EXPECT_EQ(host.peer().instance, id_of(2));
  EXPECT_EQ(guest.peer().instance, id_of(1));
  EXPECT_EQ(host.peer().limits.streams_max, 20U);
  EXPECT_EQ(guest.peer().limits.streams_max, 10U);
  EXPECT_EQ(guest.peer().version_max, 1);
  EXPECT_TRUE(said_by(guest).empty() && said_by(host).empty());
}

TEST(Session, MessagesThatArriveByteByByteAreWaitedFor) {
  Session host(settings(Role::host));
  Session guest(settings(Role::guest));
  const Bytes hello = said_by(guest);
  for (std::size_t i = 0; i < hello.size(); ++i) {
    ASSERT_EQ(tell(host, Bytes(hello.begin(), hello.begin() + static_cast<std::ptrdiff_t>(i))), 0U);
    ASSERT_EQ(host.state(), SessionState::greeting);
  }
  EXPECT_EQ(tell(host, hello), hello.size());
  EXPECT_EQ(host.state(), SessionState::up);
}

TEST(Session, MessageThatWrapsAroundTheRingIsReadWhole) {
  for (std::size_t split = 0; split <= 84; ++split) {
    Session host(settings(Role::host));
    Session guest(settings(Role::guest));
    const Bytes hello = said_by(guest);
    const auto span = std::span(hello);
    EXPECT_EQ(host.handle_greeting({span.first(split), span.subspan(split)}), hello.size());
    EXPECT_EQ(host.state(), SessionState::up);
  }
}

TEST(Session, FramesBehindTheWelcomeAreLeftAlone) {
  Session host(settings(Role::host));
  Session guest(settings(Role::guest));
  tell(host, said_by(guest));
  Bytes bytes = said_by(host);
  const std::size_t welcome_bytes = bytes.size();
  bytes.resize(welcome_bytes + 100);
  EXPECT_EQ(tell(guest, bytes), welcome_bytes);
  EXPECT_EQ(tell(guest, bytes), 0U) << "the rest is not the handshake's";
}

TEST(Session, VersionsWithoutOverlapAreExplainedOnBothSides) {
  Session guest(settings(Role::guest));
  Greeting newer = greeting_of(guest);
  newer.version_min = 2;
  newer.version_max = 4;
  Session host(settings(Role::host));
  tell(host, bytes_of(Hello{newer}));
  const std::string why =
      "no common protocol version: the guest speaks 2 to 4, the host 1 to 1; upgrade the older "
      "side";
  EXPECT_EQ(host.state(), SessionState::down);
  EXPECT_EQ(host.reason(), why);
  tell(guest, said_by(host));
  EXPECT_EQ(guest.state(), SessionState::down);
  EXPECT_EQ(guest.reason(), "refused by the host: " + why);
}

TEST(Session, GuestOfALaterVersionThatStillSpeaksOursIsWelcome) {
  Session guest(settings(Role::guest));
  Greeting newer = greeting_of(guest);
  newer.version_max = 9;
  Bytes hello = bytes_of(Hello{newer});
  hello.resize(hello.size() + 40);  // fields of version 9
  store_le<std::uint16_t>(std::span(hello).subspan<8, 2>(),
                          static_cast<std::uint16_t>(hello.size()));
  Session host(settings(Role::host));
  EXPECT_EQ(tell(host, hello), hello.size());
  ASSERT_EQ(host.state(), SessionState::up);
  EXPECT_EQ(std::get<Welcome>(*decode_handshake(said_by(host))).greeting.version_max, 1);
}

TEST(Session, OlderHostsRefusalReachesANewerGuestsLog) {
  Session guest(settings(Role::guest));
  tell(guest, bytes_of(Reject{static_cast<RejectCode>(77), 0, 0, "too new for me"}));
  EXPECT_EQ(guest.reason(), "refused by the host: too new for me");
}

TEST(Session, AnotherLanesEpochIsRefused) {
  Session guest(settings(Role::guest, 6));
  Session host(settings(Role::host, 7));
  tell(host, said_by(guest));
  EXPECT_EQ(host.reason(), "the guest speaks of another lane than this one");
  tell(guest, said_by(host));
  EXPECT_EQ(guest.reason(), "refused by the host: the guest speaks of another lane than this one");
}

/// What the guest makes of a WELCOME that was tampered with.
std::string guest_reason(const std::function<void(Greeting&)>& tamper) {
  Session guest(settings(Role::guest));
  Session host(settings(Role::host));
  tell(host, said_by(guest));
  Greeting welcome = std::get<Welcome>(*decode_handshake(said_by(host))).greeting;
  tamper(welcome);
  tell(guest, bytes_of(Welcome{welcome}));
  EXPECT_EQ(guest.state(), SessionState::down);
  return guest.reason();
}

TEST(Session, GuestChecksTheWelcome) {
  EXPECT_EQ(guest_reason([](Greeting& w) { w.epoch = 8; }),
            "the host speaks of another lane than this one");
  EXPECT_EQ(guest_reason([](Greeting& w) { w.version_min = w.version_max = 2; }),
            "the host chose a protocol version that was not offered");
  EXPECT_EQ(guest_reason([](Greeting& w) { w.version_max = 2; }),
            "the host chose a protocol version that was not offered");
  EXPECT_EQ(guest_reason([](Greeting& w) { w.limits.stream_window_bytes_min = 0; }),
            "the peer allows no data at all");
  EXPECT_EQ(guest_reason([](Greeting& w) { w.limits.session_window_bytes = 0; }),
            "the peer allows no data at all");
}

TEST(Session, HostRefusesAGuestThatAllowsNoData) {
  for (const bool whole_session : {false, true}) {
    Session guest(settings(Role::guest));
    Greeting hello = greeting_of(guest);
    (whole_session ? hello.limits.session_window_bytes : hello.limits.stream_window_bytes_min) = 0;
    Session host(settings(Role::host));
    tell(host, bytes_of(Hello{hello}));
    EXPECT_EQ(host.reason(), "the peer allows no data at all");
    tell(guest, said_by(host));
    EXPECT_EQ(guest.reason(), "refused by the host: the peer allows no data at all");
  }
}

TEST(Session, PeerThatAllowsNoStreamsIsNoProblem) {
  Session guest(settings(Role::guest));
  Greeting hello = greeting_of(guest);
  hello.limits.streams_max = 0;
  hello.limits.open_backlog_max = 0;
  Session host(settings(Role::host));
  tell(host, bytes_of(Hello{hello}));
  EXPECT_EQ(host.state(), SessionState::up);
}

TEST(Session, ReflectedMessagesAreRefused) {
  Session sample(settings(Role::guest));
  const Greeting greeting = greeting_of(sample);
  const Reject reject{RejectCode::busy, 1, 1, "busy"};
  for (const HandshakeMessage& message : std::vector<HandshakeMessage>{Welcome{greeting}, reject}) {
    Session host(settings(Role::host));
    tell(host, bytes_of(message));
    EXPECT_EQ(host.reason(), "a handshake message that this side only sends");
    EXPECT_TRUE(host.poll_greeting().empty());
  }
  Session guest(settings(Role::guest));
  tell(guest, said_by(guest));
  EXPECT_EQ(guest.reason(), "a handshake message that this side only sends");
}

TEST(Session, GarbageIsRefusedFromItsFirstBytes) {
  Session host(settings(Role::host));
  EXPECT_EQ(tell(host, Bytes(12, std::byte{'G'})), 0U);
  EXPECT_EQ(host.state(), SessionState::down);
  EXPECT_EQ(host.reason(), "the peer does not speak xenlane's protocol");
  EXPECT_EQ(tell(host, Bytes(12, std::byte{'G'})), 0U) << "nothing more is read";
}

TEST(Session, FirstReasonStays) {
  Session host(settings(Role::host));
  host.fail("first");
  host.fail("second");
  EXPECT_EQ(host.reason(), "first");
}

}  // namespace
}  // namespace xenlane::bridge

// Two sessions and lanes between them that are nothing but their handshakes.
#pragma once

#include <gtest/gtest.h>

#include "bridge/session/handshake.hpp"
#include "tests/bridge/session/fake_carrier.hpp"

namespace xenlane::bridge::test {

inline Session::Settings settings(Role role) {
  Session::Settings out{role, id_of(role == Role::host ? 1 : 2), {}};
  out.limits.streams_max = role == Role::host ? 10 : 20;
  return out;
}

inline constexpr std::uint64_t usual_epoch = 7;

/// One side of a lane. Does with a handshake's end what the driver does.
class Lane {
 public:
  explicit Lane(Session& of, std::uint64_t epoch = usual_epoch, std::uint8_t fresh = 0xAA)
      : session(of), handshake(of, epoch, of.role() == Role::host ? id_of(fresh) : RandomId{}) {
    if (of.role() == Role::guest) handshake.start();
  }
  ~Lane() {
    if (session.carrier() == &carrier) session.cut(false);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  /// What it wants to say, taken as sent.
  Bytes said() {
    const auto bytes = handshake.output();
    Bytes out(bytes.begin(), bytes.end());
    handshake.count_sent(out.size());
    return out;
  }
  std::size_t hear(const Bytes& bytes) { return hear({std::span(bytes), {}}); }
  std::size_t hear(const transport::ReadableSpans& bytes) {
    const std::size_t taken = handshake.handle(bytes);
    if (handshake.session_spoilt()) session.end();
    if (const auto& agreement = handshake.agreement(); agreement && !carries()) {
      if (agreement->resumed) {
        session.resume(agreement->peer.consumed, carrier);
      } else {
        session.cut(true);
        session.end();
        session.begin(agreement->id, agreement->peer, carrier);
      }
    }
    return taken;
  }
  bool carries() const { return session.carrier() == &carrier; }
  bool resumed() const { return handshake.agreement() && handshake.agreement()->resumed; }
  const std::string& failure() const { return handshake.failure(); }

  Session& session;
  Handshake handshake;
  FakeCarrier carrier;
};

inline Bytes bytes_of(const HandshakeMessage& message) {
  const EncodedHandshake encoded = encode_handshake(message);
  return {encoded.view().begin(), encoded.view().end()};
}

inline Greeting greeting_in(const Bytes& message) {
  const auto decoded = decode_handshake(message);
  if (const auto* hello = std::get_if<Hello>(&*decoded)) return hello->greeting;
  return std::get<Welcome>(*decoded).greeting;
}

class SessionHandshake : public testing::Test {
 protected:
  /// What an honest guest says on its next lane.
  Greeting next_hello() {
    const Lane lane(guest);
    return greeting_in(Bytes(lane.handshake.output().begin(), lane.handshake.output().end()));
  }
  Session host{settings(Role::host)};
  Session guest{settings(Role::guest)};
};

}  // namespace xenlane::bridge::test

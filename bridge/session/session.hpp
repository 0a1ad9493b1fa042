// The session: the lasting relation of one host bridge and one guest bridge, as a machine without
// I/O or clock. Today it lives as long as one lane: it exchanges the handshake and then counts the
// bytes of the pipe that the mux fills. Nothing in its wire form assumes that there is one lane
// only: id, epoch and consumed counts are stated on every lane.
//
// The guest speaks first (HELLO) because it offers the lane; the host decides (WELCOME or REJECT)
// because it is the side that must not be talked into anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bridge/wire/hello.hpp"
#include "transport/lane.hpp"

namespace xenlane::bridge {

enum class SessionState : std::uint8_t {
  greeting,  ///< the lane is open, the handshake is under way
  up,        ///< both sides agreed; bytes are the mux's
  down,      ///< refused, or the peer broke the rules; reason() says which
};

std::string_view to_string(SessionState state);

class Session {
 public:
  struct Settings {
    Role role;
    RandomId id;        ///< chosen by the host; ignored for a guest
    RandomId instance;  ///< of this process
    std::uint64_t epoch;
    MuxLimits limits;  ///< what this side allows
  };

  explicit Session(const Settings& settings);

  SessionState state() const { return state_; }
  bool has_been_up() const { return peer_.has_value(); }
  /// Why the session is down; empty before.
  const std::string& reason() const { return reason_; }
  const RandomId& id() const { return settings_.id; }
  std::uint64_t epoch() const { return settings_.epoch; }
  Role role() const { return settings_.role; }
  const MuxLimits& local_limits() const { return settings_.limits; }
  /// What the peer said of itself; valid when up.
  const Greeting& peer() const { return *peer_; }

  /// While greeting: takes a handshake message from the lane's front and returns how many bytes it
  /// was; zero when it has not arrived whole or the session is no longer greeting.
  std::size_t handle_greeting(const transport::ReadableSpans& untrusted_bytes);
  /// Handshake bytes to send next; empty when there are none.
  std::span<const std::byte> poll_greeting() const;
  void greeting_sent(std::size_t count) { sent_of_output_ += count; }

  /// Ends the session from this side.
  void fail(std::string reason);

  /// Session bytes, counted from the first byte after the handshake.
  void count_sent(std::size_t count) { bytes_sent_ += count; }
  void count_consumed(std::size_t count) { bytes_consumed_ += count; }
  std::uint64_t bytes_sent() const { return bytes_sent_; }
  std::uint64_t bytes_consumed() const { return bytes_consumed_; }

 private:
  Greeting own_greeting() const;
  void queue(const HandshakeMessage& message);
  void handle_hello(const Hello& hello);
  void handle_welcome(const Welcome& welcome);
  std::optional<std::string> limits_problem(const MuxLimits& untrusted_limits) const;

  Settings settings_;
  SessionState state_ = SessionState::greeting;
  std::string reason_;
  std::optional<Greeting> peer_;
  EncodedHandshake output_;
  std::size_t sent_of_output_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_consumed_ = 0;
};

/// Copies `count` bytes at `offset` out of the ring: parsing happens on the copy only.
void copy_out(const transport::ReadableSpans& from, std::size_t offset, std::span<std::byte> to);

/// Copies bytes into the ring's writable spans at `offset`.
void copy_in(const transport::WritableSpans& to, std::size_t offset,
             std::span<const std::byte> from);

}  // namespace xenlane::bridge

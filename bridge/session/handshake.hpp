// The handshake that opens every lane, as a machine without I/O or clock: HELLO from the guest, who
// offers its session or asks for one, then WELCOME or REJECT from the host (docs/protocol.md
// section 3). The guest speaks first because it offers the lane; the host decides because it is the
// side that must not be talked into anything.
//
// To say or to accept a HELLO takes the session away from the lane that carried it: from then on
// nothing that is still under way there counts, and both sides have stated where they go on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "bridge/session/session.hpp"
#include "bridge/wire/hello.hpp"

namespace xenlane::bridge {

/// How the reason begins when the two sides have no version of the protocol in common.
inline constexpr std::string_view no_common_version = "no common protocol version";

/// What a handshake came to.
struct Agreement {
  bool resumed;  ///< else a session that is new to both sides
  RandomId id;
  Greeting peer;
};

class Handshake {
 public:
  /// `epoch` is the lane's; `fresh_id` is for a session that this side, the host, begins.
  Handshake(Session& session, std::uint64_t epoch, const RandomId& fresh_id)
      : session_(session), epoch_(epoch), fresh_id_(fresh_id) {}

  std::uint64_t epoch() const { return epoch_; }
  /// Counts the guest's lanes; zero before HELLO was said or heard.
  std::uint32_t turn() const { return turn_; }
  /// Guest: takes the session over and says HELLO.
  void start();
  /// Takes a message from the lane's front and returns how many bytes it was; zero when it has not
  /// arrived whole, or the handshake is over.
  std::size_t handle(const transport::ReadableSpans& untrusted_bytes);
  /// Bytes to send next; empty when there are none.
  std::span<const std::byte> output() const { return output_.view().subspan(sent_); }
  void count_sent(std::size_t count) { sent_ += count; }

  bool over() const { return agreement_.has_value() || !failure_.empty(); }
  const std::optional<Agreement>& agreement() const { return agreement_; }
  /// Why there is no agreement; empty before.
  const std::string& failure() const { return failure_; }
  /// The peer spoke of the session and what it said cannot be: the session is over too.
  bool session_spoilt() const { return session_spoilt_; }

 private:
  Greeting own_greeting() const;
  void queue(const HandshakeMessage& message);
  void fail(std::string reason);
  void refuse(RejectCode code, std::string why);
  void handle_hello(const Greeting& hello);
  void handle_welcome(const Greeting& welcome);

  Session& session_;
  std::uint64_t epoch_;
  RandomId fresh_id_;
  std::uint32_t turn_ = 0;
  RandomId offered_{};  ///< guest: the session that HELLO named
  EncodedHandshake output_;
  std::size_t sent_ = 0;
  std::optional<Agreement> agreement_;
  std::string failure_;
  bool session_spoilt_ = false;
};

}  // namespace xenlane::bridge

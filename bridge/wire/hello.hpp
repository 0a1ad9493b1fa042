// The handshake messages that open every lane: HELLO from the guest, then WELCOME or REJECT from
// the host (docs/protocol.md section 3). They are the only bytes whose form may never change, so
// that two bridges of any versions can tell each other why they will not talk.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "bridge/wire/frame.hpp"

namespace xenlane::bridge {

/// 128 random bits.
using RandomId = std::array<std::byte, 16>;

std::string to_hex(const RandomId& id);

/// What both HELLO and WELCOME state.
struct Greeting {
  std::uint16_t version_min = 0;  ///< in WELCOME both are the version chosen
  std::uint16_t version_max = 0;
  std::uint64_t epoch = 0;     ///< of the lane, as its xenstore path has it
  RandomId session{};          ///< in HELLO the one to resume; all zero: the guest holds none
  RandomId instance{};         ///< of the sending process
  std::uint64_t consumed = 0;  ///< session bytes consumed so far by the sender
  MuxLimits limits{};          ///< what the sender allows; stream_window_bytes_max is not sent
  std::uint32_t turn = 0;      ///< counts the lanes that a guest has offered its session to
  bool operator==(const Greeting&) const = default;
};

struct Hello {
  Greeting greeting;
  bool operator==(const Hello&) const = default;
};

struct Welcome {
  Greeting greeting;
  bool operator==(const Welcome&) const = default;
};

enum class RejectCode : std::uint16_t {
  version = 1,  ///< no common protocol version
  epoch = 2,    ///< HELLO speaks of another lane than the one it came on
  busy = 3,     ///< the host serves this guest elsewhere or is shutting down
  resume = 4,   ///< what HELLO claims of the session cannot be true
};

struct Reject {
  RejectCode code;
  std::uint16_t version_min;  ///< what the host speaks
  std::uint16_t version_max;
  std::string reason;
  bool operator==(const Reject&) const = default;
};

using HandshakeMessage = std::variant<Hello, Welcome, Reject>;

struct EncodedHandshake {
  std::array<std::byte, hello_bytes_max> bytes{};
  std::size_t size = 0;
  std::span<const std::byte> view() const { return std::span(bytes).first(size); }
};

EncodedHandshake encode_handshake(const HandshakeMessage& message);

/// Bytes before the size of a message is known: magic, total size, kind.
inline constexpr std::size_t handshake_prefix_bytes = 12;

/// Total size of a message from its first bytes, at most hello_bytes_max.
WireResult<std::size_t> decode_handshake_size(
    std::span<const std::byte, handshake_prefix_bytes> prefix);

/// Reads one whole message (copied out of the ring). Bytes after the known fields are ignored:
/// later versions may append.
WireResult<HandshakeMessage> decode_handshake(std::span<const std::byte> message);

}  // namespace xenlane::bridge

// The frames of the protocol, one struct each with just the fields it has, and their codec.
// docs/protocol.md section 4 is normative; this file keeps its order. No I/O, no state.
#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "bridge/wire/limits.hpp"

namespace xenlane::bridge {

/// Which side of the session a bridge is: fixes who speaks first and whose stream ids are odd.
enum class Role : std::uint8_t { host = 0, guest = 1 };

/// Chosen by the opener: the guest's are odd, the host's even, never zero.
using StreamId = std::uint32_t;

enum class FrameType : std::uint8_t {
  open = 1,
  accept = 2,
  refuse = 3,
  data = 4,
  credit = 5,
  finish = 6,
  stop_sending = 7,
  reset = 8,
  ping = 9,
  pong = 10,
  go_away = 11,
  lane_wish = 12,
  leave = 13,
  notice = 14,
};

/// How the acceptor is to treat the stream (DESIGN: the two kinds of a channel's end).
enum class EndShape : std::uint8_t { service = 0, port = 1 };

/// What kind of local socket the stream joins. Kinds above 0 are of version 3.
enum class SocketKind : std::uint8_t {
  stream = 0,
  seqpacket = 1,  ///< each message has its length in front of it (message_framing.hpp)
};

std::string_view to_string(SocketKind kind);

/// The user id that OPEN has when its sender does not know or say whose connection it is: what the
/// kernel too takes for "none".
inline constexpr std::uint32_t uid_unknown = 0xFFFFFFFF;

/// Why a stream was reset, or why the reader wants no more.
enum class StreamError : std::uint32_t {
  cancelled = 1,      ///< the application closed its end
  broken = 2,         ///< the local socket failed
  shutting_down = 3,  ///< the bridge ends
  internal = 4,       ///< out of descriptors or memory
};

std::string_view to_string(StreamError error);

/// Asks for a stream to the channel `name`.
struct OpenFrame {
  StreamId id;
  EndShape shape;
  SocketKind kind;
  std::string name;  ///< checked against the name grammar by whoever looks it up
  /// Of the program that made the connection, as its own side numbers users. Not in version 2.
  std::uint32_t uid = uid_unknown;
  bool operator==(const OpenFrame&) const = default;
};

struct AcceptFrame {
  StreamId id;
  bool operator==(const AcceptFrame&) const = default;
};

/// The answer to an OPEN that is not served. `error` is an errno value as Linux numbers them
/// (include/uapi/asm-generic/errno.h), whatever the speaker's system.
struct RefuseFrame {
  StreamId id;
  std::uint16_t error;
  std::string reason;
  bool operator==(const RefuseFrame&) const = default;
};

/// Only the header: `size` payload bytes follow it.
struct DataFrame {
  StreamId id;
  std::uint32_t size;
  bool operator==(const DataFrame&) const = default;
};

/// The receiver takes stream bytes up to the absolute position `limit`. Stream 0 is the session:
/// the sum of all DATA payloads.
struct CreditFrame {
  StreamId id;
  std::uint64_t limit;
  bool operator==(const CreditFrame&) const = default;
};

/// No more data this way; `size` is how much there was, so that truncation cannot pass for an end.
struct FinishFrame {
  StreamId id;
  std::uint64_t size;
  bool operator==(const FinishFrame&) const = default;
};

struct StopSendingFrame {
  StreamId id;
  StreamError error;
  bool operator==(const StopSendingFrame&) const = default;
};

struct ResetFrame {
  StreamId id;
  StreamError error;
  bool operator==(const ResetFrame&) const = default;
};

struct PingFrame {
  std::uint64_t nonce;
  bool operator==(const PingFrame&) const = default;
};

struct PongFrame {
  std::uint64_t nonce;
  bool operator==(const PongFrame&) const = default;
};

/// No new streams from here on; the session ends when the open ones have.
struct GoAwayFrame {
  std::string reason;
  bool operator==(const GoAwayFrame&) const = default;
};

/// What a side wants of the lane that carries the session. The guest, who offers vchans, acts on
/// both sides' wishes.
enum class LaneWish : std::uint8_t {
  none = 0,     ///< whatever is there will do
  vchan = 1,    ///< there is bulk to carry
  console = 2,  ///< no vchan, please
};

std::string_view to_string(LaneWish wish);

struct LaneWishFrame {
  LaneWish wish;
  bool operator==(const LaneWishFrame&) const = default;
};

/// The last frame on this lane: what follows this way comes over another.
struct LeaveFrame {
  std::uint32_t turn;  ///< of the lane, as its HELLO has it; 0: nothing follows, the session ends
  bool operator==(const LeaveFrame&) const = default;
};

/// What a side has of a channel.
enum class NoticedEnd : std::uint8_t { none = 0, listen = 1, dial = 2, port = 3 };

std::string_view to_string(NoticedEnd end);

/// The sender's end of the channel `name` as it is now, and, of a port, how many local programs
/// have it open. Version 3.
struct NoticeFrame {
  NoticedEnd end;
  std::uint32_t open;
  std::string name;  ///< checked by whoever looks it up
  bool operator==(const NoticeFrame&) const = default;
};

using Frame = std::variant<OpenFrame, AcceptFrame, RefuseFrame, DataFrame, CreditFrame, FinishFrame,
                           StopSendingFrame, ResetFrame, PingFrame, PongFrame, GoAwayFrame,
                           LaneWishFrame, LeaveFrame, NoticeFrame>;

/// A header as read, its sizes checked against its type.
struct FrameHeader {
  FrameType type;
  std::uint32_t payload_bytes;
  StreamId id;
};

/// Why bytes are not a frame; a text that names the rule broken. Static storage.
struct WireError {
  std::string_view text;
};

template <typename T>
using WireResult = boost::system::result<T, WireError>;

/// Checks type, payload size and stream id of a header that was copied out of the ring, as the
/// session's version of the protocol has them.
WireResult<FrameHeader> decode_header(std::span<const std::byte, frame_header_bytes> bytes,
                                      std::uint16_t version = protocol_version_max);

/// Reads a frame's payload (header.payload_bytes long, copied out of the ring). For DATA the
/// payload is not looked at and may be empty.
WireResult<Frame> decode_frame(const FrameHeader& header, std::span<const std::byte> payload,
                               std::uint16_t version = protocol_version_max);

/// An encoded control frame, or a DATA frame's header.
struct EncodedFrame {
  std::array<std::byte, frame_header_bytes + control_payload_bytes_max> bytes;
  std::size_t size = 0;

  std::span<const std::byte> view() const { return std::span(bytes).first(size); }
};

/// Encodes a frame. Names and reasons must be within their limits; reasons longer than
/// reason_bytes_max are cut. What the version does not have must not be said in it; a user id is
/// left out.
EncodedFrame encode_frame(const Frame& frame, std::uint16_t version = protocol_version_max);

}  // namespace xenlane::bridge

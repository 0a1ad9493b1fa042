// Every number of the wire format and of what a bridge allows its peer, each with its reason.
// First what the protocol fixes (docs/protocol.md, same order), then what each side chooses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xenlane::bridge {

// --- fixed by the protocol -------------------------------------------------------------------

/// Protocol versions this build speaks.
inline constexpr std::uint16_t protocol_version_min = 2;
inline constexpr std::uint16_t protocol_version_max = 3;

/// Smallest ring that a session runs over, each way.
inline constexpr std::size_t ring_bytes_min = 4096;

/// Size of every frame's header.
inline constexpr std::size_t frame_header_bytes = 8;

/// Largest payload of a DATA frame: one turn of one stream, so that others never wait for more.
inline constexpr std::uint32_t data_payload_bytes_max = 65536;

/// Largest payload of any other frame: fits, header included, into the smallest ring and into a
/// copy on the stack.
inline constexpr std::uint32_t control_payload_bytes_max = 256;

/// Longest reason text that REFUSE and GO_AWAY carry.
inline constexpr std::size_t reason_bytes_max = 120;

/// Longest channel name (xen-pv-channel(7) gives no limit; DESIGN chose one DNS label's length).
inline constexpr std::size_t channel_name_bytes_max = 63;

/// Longest message of a SOCK_SEQPACKET socket: one DATA frame carries it but for its length. A
/// bridge keeps at most one for each stream and direction besides the stream's window.
inline constexpr std::uint32_t message_bytes_max = 65536;

/// Size of the length in front of each message.
inline constexpr std::size_t message_prefix_bytes = 4;

/// Largest handshake message: must fit the smallest ring whole, with room to grow by versions.
inline constexpr std::size_t hello_bytes_max = 512;

// --- chosen by each side, told to the other in the handshake ----------------------------------

/// What one side allows the other. Defaults are those of the configuration file.
struct MuxLimits {
  /// Streams that each side may have opened at once. Costs a descriptor and about 1 KiB each.
  std::uint32_t streams_max = 1024;
  /// Credit each stream starts with, which data right behind OPEN may use. Both sides' streams
  /// together (2 * streams_max) times this must fit the session window, so that streams nobody
  /// reads can never use up what the others need.
  std::uint64_t stream_window_bytes_min = 32 * 1024;
  /// Credit a stream can grow to while its reader keeps up. A local matter: not on the wire.
  std::uint64_t stream_window_bytes_max = 1024 * 1024;
  /// Bytes in flight and unread over all streams: what a peer can make this side hold.
  std::uint64_t session_window_bytes = 96ULL * 1024 * 1024;
  /// OPENs sent and not yet answered. Bounds dials under way and refusals queued.
  std::uint32_t open_backlog_max = 256;

  bool operator==(const MuxLimits&) const = default;
};

}  // namespace xenlane::bridge

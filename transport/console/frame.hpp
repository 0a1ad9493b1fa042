// The frames of the console link and their two encodings (docs/protocol.md section 10). A PV
// console channel loses, repeats and makes up bytes, so each frame says whose it is, where its
// bytes belong and a checksum over all of it; nothing here trusts anything else. No I/O, no state.
//
// Both encodings are lines: the text one is printable, for a console that others read or that takes
// control bytes as commands; the binary one has every byte but the newline. One line is one frame
// or nothing, so bytes within a frame are never taken for another.
#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace xenlane::transport {

/// The two ends of a console: the guest's has the tty and opens the link, the host's answers.
enum class ConsoleEnd : std::uint8_t { guest, host };

enum class LinkFrameType : std::uint8_t {
  syn = 1,    ///< asks for a link, or answers who asked
  data = 2,   ///< carries link bytes; one without is an acknowledgement
  close = 3,  ///< the link has ended, or was never there
  probe = 4,  ///< asks for an acknowledgement
};

/// What a side says of itself, the same in all frames of a link life; and of the frame.
inline constexpr std::uint8_t link_own_device = 1;  ///< my device is my own: send me binary
inline constexpr std::uint8_t link_zstd = 2;        ///< I unpack zstd
inline constexpr std::uint8_t link_busy = 4;  ///< in a SYN: I have a link to another life of you
inline constexpr std::uint8_t link_more = 8;  ///< in DATA: the next one follows at once
/// I take payloads above link_short_payload_bytes_max, and keep all of console_ring_bytes.
inline constexpr std::uint8_t link_roomy = 16;

inline constexpr std::size_t link_header_bytes = 24;
inline constexpr std::size_t link_checksum_bytes = 4;

/// A text line with its `~` and newline: what any tty takes in one piece.
inline constexpr std::size_t link_text_line_bytes_max = 1024;
/// What three quarters of such a line leave for the payload.
inline constexpr std::size_t link_text_payload_bytes_max =
    (link_text_line_bytes_max - 2) / 4 * 3 - link_header_bytes - link_checksum_bytes;
/// Long enough that headers cost next to nothing; where much is lost, shorter ones are sent.
inline constexpr std::size_t link_binary_payload_bytes_max = 8192;
/// For a peer that is not roomy.
inline constexpr std::size_t link_short_payload_bytes_max = 4096;

inline constexpr std::size_t link_body_bytes_max =
    link_header_bytes + link_binary_payload_bytes_max + link_checksum_bytes;
/// The longest line: newline, mark, stuffed body (a byte for each 254 begun), newline.
inline constexpr std::size_t link_line_bytes_max =
    3 + link_body_bytes_max + link_body_bytes_max / 254 + 1;

struct LinkFrame {
  LinkFrameType type = LinkFrameType::data;
  bool from_host = false;
  std::uint8_t flags = 0;
  std::uint32_t from = 0;              ///< nonce of the sender's link life, never 0
  std::uint32_t to = 0;                ///< nonce of the receiver's, 0 when not known
  std::uint32_t position = 0;          ///< of the payload's first byte
  std::uint32_t got = 0;               ///< the sender has all link bytes before this one,
  std::uint16_t held = 0;              ///< and these last of them are not released
  std::uint16_t part = 0;              ///< raw bytes released of the first block that is held
  std::uint16_t hole = 0;              ///< size of the gap at `got`, 0 when none is known
  std::span<const std::byte> payload;  ///< only in DATA
};

/// How many of the bytes come before the first `wanted`; all of them when there is none.
inline std::size_t length_before(std::span<const std::byte> bytes, std::byte wanted) {
  const void* const found =
      bytes.empty() ? nullptr
                    : std::memchr(bytes.data(), std::to_integer<int>(wanted), bytes.size());
  if (found == nullptr) return bytes.size();
  return static_cast<std::size_t>(static_cast<const std::byte*>(found) - bytes.data());
}

/// Why bytes are not a frame. Static storage.
struct LinkError {
  std::string_view text;
};

template <typename T>
using LinkResult = boost::system::result<T, LinkError>;

enum class LinkEncoding : std::uint8_t { text, binary };

using LinkBody = std::array<std::byte, link_body_bytes_max>;
using LinkLine = std::array<std::byte, link_line_bytes_max>;

/// The payload that one frame may have.
constexpr std::size_t link_payload_bytes_max(LinkEncoding encoding) {
  return encoding == LinkEncoding::text ? link_text_payload_bytes_max
                                        : link_binary_payload_bytes_max;
}

/// Writes the frame as a line, newlines included, and returns its size. The payload is within
/// link_payload_bytes_max.
std::size_t encode_link_line(const LinkFrame& frame, LinkEncoding encoding,
                             std::span<std::byte, link_line_bytes_max> out);

/// Takes a line without its newlines. The frame's payload lies in `body`.
LinkResult<LinkFrame> decode_link_line(std::span<const std::byte> untrusted_line, LinkBody& body);

/// The frame that a body (header, payload, checksum) holds; its payload lies in the body.
LinkResult<LinkFrame> decode_link_body(std::span<const std::byte> untrusted_body);

/// What a line of each encoding begins with.
inline constexpr std::byte link_text_mark{'~'};
inline constexpr std::byte link_binary_mark{0x02};
inline constexpr std::byte link_newline{'\n'};

}  // namespace xenlane::transport

#include "transport/console/frame.hpp"

#include <algorithm>
#include <boost/crc.hpp>
#include <boost/endian/conversion.hpp>
#include <cstring>
#include <optional>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

namespace {

namespace endian = boost::endian;

using Castagnoli = boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true>;

constexpr std::uint8_t host_bit = 0x80;
constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 0xFF;
/// A run of COBS: the length byte counts itself.
constexpr std::size_t stuffed_run_max = 254;

constexpr std::array<std::uint8_t, 256> digits = [] {
  std::array<std::uint8_t, 256> out{};
  out.fill(no_digit);
  for (std::uint8_t i = 0; i < 64; ++i) out[static_cast<unsigned char>(alphabet[i])] = i;
  return out;
}();

#ifdef __x86_64__
// The processor's own CRC-32C, twenty times as fast as a table.
__attribute__((target("sse4.2"))) std::uint32_t checksum_by_sse42(
    std::span<const std::byte> bytes) {
  std::uint64_t crc = 0xFFFFFFFF;
  for (; bytes.size() >= sizeof crc; bytes = bytes.subspan(sizeof crc)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    crc = __builtin_ia32_crc32di(crc, word);
  }
  auto rest = static_cast<std::uint32_t>(crc);
  for (const std::byte byte : bytes) {
    rest = __builtin_ia32_crc32qi(rest, std::to_integer<unsigned char>(byte));
  }
  return ~rest;
}
#endif

std::uint32_t checksum_of(std::span<const std::byte> bytes) {
#ifdef __x86_64__
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
  if (has_sse42) return checksum_by_sse42(bytes);
#endif
  Castagnoli crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

// Each byte with the newline's bits changed, a word at a time.
std::byte* copy_xored(std::byte* out, std::span<const std::byte> bytes) {
  constexpr std::uint64_t mask = 0x0101010101010101 * std::to_integer<std::uint64_t>(link_newline);
  for (; bytes.size() >= sizeof mask; bytes = bytes.subspan(sizeof mask), out += sizeof mask) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    word ^= mask;
    std::memcpy(out, &word, sizeof word);
  }
  for (const std::byte byte : bytes) *out++ = byte ^ link_newline;
  return out;
}

unsigned char* raw(std::byte* at) {
  return reinterpret_cast<unsigned char*>(at);
}
const unsigned char* raw(const std::byte* at) {
  return reinterpret_cast<const unsigned char*>(at);
}

std::size_t encode_body(const LinkFrame& frame, LinkBody& out) {
  const auto type = static_cast<std::uint8_t>(frame.type);
  out[0] = static_cast<std::byte>(frame.from_host ? type | host_bit : type);
  out[1] = static_cast<std::byte>(frame.flags);
  endian::store_little_u32(raw(&out[2]), frame.from);
  endian::store_little_u32(raw(&out[6]), frame.to);
  endian::store_little_u32(raw(&out[10]), frame.position);
  endian::store_little_u32(raw(&out[14]), frame.got);
  endian::store_little_u16(raw(&out[18]), frame.held);
  endian::store_little_u16(raw(&out[20]), frame.part);
  endian::store_little_u16(raw(&out[22]), frame.hole);
  copy_bytes(frame.payload, out.data() + link_header_bytes);
  const std::size_t checked = link_header_bytes + frame.payload.size();
  endian::store_little_u32(raw(&out[checked]), checksum_of(std::span(out).first(checked)));
  return checked + link_checksum_bytes;
}

std::size_t encode_text(std::span<const std::byte> body, std::byte* out) {
  std::byte* const begin = out;
  *out++ = link_text_mark;
  std::uint32_t bits = 0;
  unsigned waiting = 0;
  for (const std::byte byte : body) {
    bits = bits << 8 | std::to_integer<std::uint32_t>(byte);
    for (waiting += 8; waiting >= 6;) {
      waiting -= 6;
      *out++ = static_cast<std::byte>(alphabet[bits >> waiting & 63]);
    }
  }
  if (waiting > 0) *out++ = static_cast<std::byte>(alphabet[bits << (6 - waiting) & 63]);
  *out++ = link_newline;
  return static_cast<std::size_t>(out - begin);
}

// COBS, and each byte changed so that newline takes the place of zero.
std::size_t encode_binary(std::span<const std::byte> body, std::byte* out) {
  std::byte* const begin = out;
  *out++ = link_newline;
  *out++ = link_binary_mark;
  bool more = true;
  while (more) {
    const auto run = body.first(std::min(body.size(), stuffed_run_max));
    const std::size_t length = length_before(run, std::byte{});
    const bool ends_in_zero = length < run.size();
    *out++ = static_cast<std::byte>(length + 1) ^ link_newline;
    out = copy_xored(out, run.first(length));
    body = body.subspan(ends_in_zero ? length + 1 : length);
    more = !body.empty() || ends_in_zero;
  }
  *out++ = link_newline;
  return static_cast<std::size_t>(out - begin);
}

// Carriage returns are what a tty that is not raw adds.
std::optional<std::size_t> decode_text(std::span<const std::byte> untrusted_digits,
                                       LinkBody& body) {
  std::uint32_t bits = 0;
  unsigned waiting = 0;
  std::size_t size = 0;
  for (const std::byte byte : untrusted_digits) {
    const std::uint8_t digit = digits[std::to_integer<std::size_t>(byte)];
    if (digit == no_digit) {
      if (byte == std::byte{'\r'}) continue;
      return std::nullopt;
    }
    bits = bits << 6 | digit;
    waiting += 6;
    if (waiting < 8) continue;
    waiting -= 8;
    if (size == body.size()) return std::nullopt;
    body[size++] = static_cast<std::byte>(bits >> waiting & 0xFF);
  }
  const bool padded_with_zeroes = (bits & ((1U << waiting) - 1)) == 0;
  return waiting < 6 && padded_with_zeroes ? std::optional(size) : std::nullopt;
}

std::optional<std::size_t> decode_binary(std::span<const std::byte> untrusted_runs,
                                         LinkBody& body) {
  std::size_t size = 0;
  while (!untrusted_runs.empty()) {
    const auto length = std::to_integer<std::size_t>(untrusted_runs.front() ^ link_newline) - 1;
    untrusted_runs = untrusted_runs.subspan(1);
    const bool ends_in_zero = length < stuffed_run_max && untrusted_runs.size() > length;
    if (length > untrusted_runs.size() || size + length + (ends_in_zero ? 1 : 0) > body.size()) {
      return std::nullopt;
    }
    copy_xored(body.data() + size, untrusted_runs.first(length));
    size += length;
    if (ends_in_zero) body[size++] = std::byte{};
    untrusted_runs = untrusted_runs.subspan(length);
  }
  return size;
}

}  // namespace

std::size_t encode_link_line(const LinkFrame& frame, LinkEncoding encoding,
                             std::span<std::byte, link_line_bytes_max> out) {
  XENLANE_ASSERT(frame.payload.size() <= link_payload_bytes_max(encoding));
  LinkBody body;
  const auto whole = std::span(body).first(encode_body(frame, body));
  return encoding == LinkEncoding::text ? encode_text(whole, out.data())
                                        : encode_binary(whole, out.data());
}

LinkResult<LinkFrame> decode_link_body(std::span<const std::byte> untrusted_body) {
  if (untrusted_body.size() < link_header_bytes + link_checksum_bytes) {
    return LinkError{"shorter than a frame"};
  }
  if (untrusted_body.size() > link_body_bytes_max) return LinkError{"longer than a frame"};
  const auto checked = untrusted_body.first(untrusted_body.size() - link_checksum_bytes);
  const std::byte* const at = untrusted_body.data();
  if (endian::load_little_u32(raw(at + checked.size())) != checksum_of(checked)) {
    return LinkError{"another checksum"};
  }
  const auto type = std::to_integer<std::uint8_t>(at[0]);
  LinkFrame out;
  out.type = static_cast<LinkFrameType>(type & ~host_bit);
  out.from_host = (type & host_bit) != 0;
  out.flags = std::to_integer<std::uint8_t>(at[1]);
  out.from = endian::load_little_u32(raw(at + 2));
  out.to = endian::load_little_u32(raw(at + 6));
  out.position = endian::load_little_u32(raw(at + 10));
  out.got = endian::load_little_u32(raw(at + 14));
  out.held = endian::load_little_u16(raw(at + 18));
  out.part = endian::load_little_u16(raw(at + 20));
  out.hole = endian::load_little_u16(raw(at + 22));
  out.payload = checked.subspan(link_header_bytes);
  if (out.type < LinkFrameType::syn || out.type > LinkFrameType::probe) {
    return LinkError{"a type that does not exist"};
  }
  if (out.from == 0) return LinkError{"a frame of nobody"};
  if (out.type != LinkFrameType::data && !out.payload.empty()) {
    return LinkError{"a payload where there is none"};
  }
  return out;
}

LinkResult<LinkFrame> decode_link_line(std::span<const std::byte> untrusted_line, LinkBody& body) {
  if (untrusted_line.empty()) return LinkError{"shorter than a frame"};
  const auto rest = untrusted_line.subspan(1);
  std::optional<std::size_t> size;
  if (untrusted_line.front() == link_text_mark) {
    size = decode_text(rest, body);
  } else if (untrusted_line.front() == link_binary_mark) {
    size = decode_binary(rest, body);
  }
  if (!size) return LinkError{"neither text nor binary"};
  return decode_link_body(std::span<const std::byte>(body).first(*size));
}

}  // namespace xenlane::transport

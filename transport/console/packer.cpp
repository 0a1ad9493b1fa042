#include "transport/console/packer.hpp"

#include <zstd.h>

#include <algorithm>
#include <new>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

namespace {

constexpr std::uint16_t packed_bit = 0x8000;

std::byte byte_at(const ReadableSpans& bytes, std::size_t offset) {
  return offset < bytes.first.size() ? bytes.first[offset]
                                     : bytes.second[offset - bytes.first.size()];
}

std::byte* copy_to(std::byte* out, const ReadableSpans& bytes) {
  return copy_bytes(bytes.second, copy_bytes(bytes.first, out));
}

}  // namespace

void BlockPacker::Free::operator()(ZSTD_CCtx_s* context) const {
  ZSTD_freeCCtx(context);
}

BlockPacker::BlockPacker() : context_(ZSTD_createCCtx()) {
  if (!context_) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, zstd_level);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_windowLog, zstd_window_log);
}

BlockPacker::~BlockPacker() = default;

std::size_t BlockPacker::bytes_max(std::size_t raw_bytes) {
  return block_header_bytes + raw_bytes + (block_packed_bytes_max - block_raw_bytes);
}

std::span<const std::byte> BlockPacker::pack(const ReadableSpans& raw, bool may_pack) {
  XENLANE_ASSERT(raw.size() > 0 && raw.size() <= block_raw_bytes);
  std::size_t size = 0;
  if (may_pack && !broken_ && pause_left_ == 0) size = pack_with_zstd(raw);
  const bool packed = size > 0;
  if (!packed) {
    copy_to(block_.data() + block_header_bytes, raw);
    size = raw.size();
    pause_left_ -= std::min(pause_left_, raw.size());
  }
  const std::size_t header = packed ? size | packed_bit : size;
  block_[0] = static_cast<std::byte>(header & 0xFF);
  block_[1] = static_cast<std::byte>(header >> 8);
  return std::span(block_).first(block_header_bytes + size);
}

// The size, or 0 when zstd has failed and must not be used again.
std::size_t BlockPacker::pack_with_zstd(const ReadableSpans& raw) {
  ZSTD_outBuffer out{block_.data() + block_header_bytes, block_packed_bytes_max, 0};
  std::array<std::byte, block_raw_bytes> whole;
  copy_to(whole.data(), raw);
  ZSTD_inBuffer in{whole.data(), raw.size(), 0};
  std::size_t left = 0;
  do {
    left = ZSTD_compressStream2(context_.get(), &out, &in, ZSTD_e_flush);
  } while (ZSTD_isError(left) == 0 && left > 0 && out.pos < out.size);
  broken_ = left != 0 || in.pos < in.size;
  if (broken_) return 0;
  judge(raw.size(), out.pos);
  return out.pos;
}

void BlockPacker::judge(std::size_t raw_bytes, std::size_t packed_bytes) {
  judged_raw_ += raw_bytes;
  judged_packed_ += packed_bytes;
  if (judged_raw_ < packing_judged_bytes) return;
  if (judged_packed_ * 100 > judged_raw_ * packing_percent_max) pause_left_ = packing_pause_bytes;
  judged_raw_ = judged_packed_ = 0;
}

void BlockUnpacker::Free::operator()(ZSTD_DCtx_s* context) const {
  ZSTD_freeDCtx(context);
}

BlockUnpacker::BlockUnpacker(bool may_unpack) {
  if (!may_unpack) return;
  context_.reset(ZSTD_createDCtx());
  if (!context_) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, zstd_window_log_max);
}

BlockUnpacker::~BlockUnpacker() = default;

BlockUnpacker::Result BlockUnpacker::unpack(const ReadableSpans& untrusted_bytes) {
  if (untrusted_bytes.size() < block_header_bytes) return {};
  const auto header = std::to_integer<std::uint32_t>(byte_at(untrusted_bytes, 0)) |
                      std::to_integer<std::uint32_t>(byte_at(untrusted_bytes, 1)) << 8;
  const std::size_t size = header & (packed_bit - 1U);
  if (size == 0) return {0, {}, "an empty block"};
  if (size > block_bytes_max) return {0, {}, "a block longer than allowed"};
  if (untrusted_bytes.size() < block_header_bytes + size) return {};
  const auto content = untrusted_bytes.slice(block_header_bytes, size);
  if ((header & packed_bit) != 0) return unpack_with_zstd(content);
  copy_to(raw_.data(), content);
  return {block_header_bytes + size, std::span(raw_).first(size), {}};
}

BlockUnpacker::Result BlockUnpacker::unpack_with_zstd(const ReadableSpans& untrusted_packed) {
  if (!context_) return {0, {}, "a packed block for a side that does not unpack"};
  ZSTD_outBuffer out{raw_.data(), raw_.size(), 0};
  for (const auto& piece : {untrusted_packed.first, untrusted_packed.second}) {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    while (in.pos < in.size) {
      const std::size_t wanted = ZSTD_decompressStream(context_.get(), &out, &in);
      if (ZSTD_isError(wanted) != 0) return {0, {}, "a packed block that is damaged"};
      if (wanted == 0) return {0, {}, "a packed stream that ends"};
      if (out.pos == out.size) return {0, {}, "a packed block of too many bytes"};
    }
  }
  if (out.pos == 0) return {0, {}, "a packed block of no bytes"};
  return {block_header_bytes + untrusted_packed.size(), std::span(raw_).first(out.pos), {}};
}

}  // namespace xenlane::transport

// What runs over the console link: blocks of raw bytes, each plain or packed with zstd, in one
// packed stream each way for the life of the link (docs/protocol.md section 10.6). Packing pays on
// a console and costs on random bytes, so it is measured and left off for a while where it does
// not. No I/O, no clock; memory is bounded whatever the peer sends.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "transport/lane.hpp"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace xenlane::transport {

inline constexpr std::size_t block_header_bytes = 2;
/// Raw bytes that the sender puts into one block: four fit the link's window, packed or not.
inline constexpr std::size_t block_raw_bytes = 8048;
/// What a receiver lets a block be, packed or not.
inline constexpr std::size_t block_bytes_max = 8192;
/// What a block of ours may take: zstd's worst case for so few bytes, and more.
inline constexpr std::size_t block_packed_bytes_max = block_raw_bytes + 128;
static_assert(block_packed_bytes_max <= block_bytes_max);

/// zstd's window: what both sides remember. The receiver takes one twice as large and no larger.
inline constexpr int zstd_window_log = 16;
inline constexpr int zstd_window_log_max = 17;
inline constexpr int zstd_level = 1;

/// Packing is judged by this many raw bytes, and left off for that many where it saves too little.
inline constexpr std::size_t packing_judged_bytes = 32 * 1024;
inline constexpr std::size_t packing_pause_bytes = 256 * 1024;
inline constexpr std::size_t packing_percent_max = 95;

class BlockPacker {
 public:
  BlockPacker();
  BlockPacker(const BlockPacker&) = delete;
  BlockPacker& operator=(const BlockPacker&) = delete;
  ~BlockPacker();

  using Block = std::array<std::byte, block_header_bytes + block_packed_bytes_max>;

  /// A block of `raw` (1 to block_raw_bytes bytes). `may_pack`: the peer can unpack.
  std::span<const std::byte> pack(const ReadableSpans& raw, bool may_pack);
  /// What a block of so many raw bytes takes at most.
  static std::size_t bytes_max(std::size_t raw_bytes);

  bool is_paused() const { return pause_left_ > 0; }

 private:
  std::size_t pack_with_zstd(const ReadableSpans& raw);
  void judge(std::size_t raw_bytes, std::size_t packed_bytes);

  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  Block block_{};
  bool broken_ = false;  ///< zstd failed, for want of memory: plain blocks from there on
  std::size_t judged_raw_ = 0;
  std::size_t judged_packed_ = 0;
  std::size_t pause_left_ = 0;
};

class BlockUnpacker {
 public:
  /// `may_unpack`: this side said that it unpacks zstd.
  explicit BlockUnpacker(bool may_unpack);
  BlockUnpacker(const BlockUnpacker&) = delete;
  BlockUnpacker& operator=(const BlockUnpacker&) = delete;
  ~BlockUnpacker();

  struct Result {
    std::size_t used = 0;            ///< link bytes that the block took; 0: not all of it is there
    std::span<const std::byte> raw;  ///< until the next call
    std::string_view fault;          ///< not empty: the peer broke the rules; static storage
  };
  /// Takes one block from the front of the link's bytes.
  Result unpack(const ReadableSpans& untrusted_bytes);

 private:
  Result unpack_with_zstd(const ReadableSpans& untrusted_packed);

  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
  /// One byte more than a block may have, so that more than that shows.
  std::array<std::byte, block_bytes_max + 1> raw_{};
};

}  // namespace xenlane::transport

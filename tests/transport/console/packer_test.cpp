// Blocks and their packing: what is sent comes back, what does not pay is left off, and no peer
// makes the receiver hold more than a block.
#include "transport/console/packer.hpp"

#include <gtest/gtest.h>
#include <zstd.h>

#include <random>
#include <vector>

namespace xenlane::transport::test {
namespace {

using Bytes = std::vector<std::byte>;

ReadableSpans spans(std::span<const std::byte> bytes, std::size_t cut = 0) {
  return {bytes.first(cut), bytes.subspan(cut)};
}

Bytes random_bytes(std::size_t count, unsigned values, std::mt19937& random) {
  Bytes out(count);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random() % values);
  return out;
}

Bytes block_of(std::span<const std::byte> content, bool packed) {
  Bytes out{static_cast<std::byte>(content.size() & 0xFF),
            static_cast<std::byte>(content.size() >> 8 | (packed ? 0x80 : 0))};
  out.insert(out.end(), content.begin(), content.end());
  return out;
}

bool is_packed(std::span<const std::byte> block) {
  return (block[1] & std::byte{0x80}) != std::byte{};
}

/// zstd's own output for any content and settings.
Bytes zstd_of(std::span<const std::byte> raw, int window_log, ZSTD_EndDirective end) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                     ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 0);
  Bytes out(ZSTD_compressBound(raw.size()) + 64);
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  ZSTD_inBuffer from{raw.data(), raw.size(), 0};
  EXPECT_EQ(ZSTD_compressStream2(context.get(), &to, &from, end), 0U);
  out.resize(to.pos);
  return out;
}

std::string_view fault_of(std::span<const std::byte> block) {
  BlockUnpacker unpacker(true);
  return unpacker.unpack(spans(block)).fault;
}

TEST(Packer, WhatIsPackedComesBackWhereverTheRingsAreCut) {
  std::mt19937 random(1);
  BlockPacker packer;
  BlockUnpacker unpacker(true);
  for (int i = 0; i < 3000; ++i) {
    const auto values = static_cast<unsigned>(random() % 3 == 0 ? 256 : 1 + random() % 20);
    const Bytes raw = random_bytes(1 + random() % block_raw_bytes, values, random);
    const bool may_pack = random() % 5 != 0;
    const auto block = packer.pack(spans(raw, random() % (raw.size() + 1)), may_pack);
    ASSERT_LE(block.size(), BlockPacker::bytes_max(raw.size()));
    ASSERT_TRUE(may_pack || !is_packed(block));
    Bytes link(block.begin(), block.end());
    link.push_back(std::byte{1});  // of the next
    const auto result = unpacker.unpack(spans(link, random() % (link.size() + 1)));
    ASSERT_EQ(result.fault, "");
    ASSERT_EQ(result.used, block.size());
    ASSERT_TRUE(std::ranges::equal(result.raw, raw)) << i;
  }
}

TEST(Packer, ABlockThatIsNotWholeIsWaitedFor) {
  BlockPacker packer;
  BlockUnpacker unpacker(true);
  const Bytes raw(4000, std::byte{7});
  const auto block = packer.pack(spans(raw), true);
  for (std::size_t size = 0; size < block.size(); ++size) {
    const auto result = unpacker.unpack(spans(block.first(size)));
    ASSERT_EQ(result.used, 0U);
    ASSERT_EQ(result.fault, "");
  }
  EXPECT_TRUE(std::ranges::equal(unpacker.unpack(spans(block)).raw, raw));
}

TEST(Packer, WhatWasSaidBeforeNeedNotBeSaidAgain) {
  std::mt19937 random(2);
  BlockPacker packer;
  const Bytes raw = random_bytes(3000, 256, random);
  EXPECT_GT(packer.pack(spans(raw), true).size(), 2900U);
  EXPECT_LT(packer.pack(spans(raw), true).size(), 50U);
}

TEST(Packer, RandomBytesAreLeftPlainForAWhileAndTriedAgain) {
  std::mt19937 random(3);
  BlockPacker packer;
  std::size_t packed = 0;
  std::size_t plain = 0;
  bool paused_before = false;
  int pauses = 0;
  for (std::size_t sent = 0; sent < 2'000'000; sent += block_raw_bytes) {
    const auto block = packer.pack(spans(random_bytes(block_raw_bytes, 256, random)), true);
    (is_packed(block) ? packed : plain) += block_raw_bytes;
    if (packer.is_paused() && !paused_before) ++pauses;
    paused_before = packer.is_paused();
  }
  EXPECT_NEAR(static_cast<double>(plain) / static_cast<double>(packed), 6.5, 0.5);
  EXPECT_GE(pauses, 5);
}

TEST(Packer, BytesThatPackWellGoOnBeingPackedAfterRandomOnes) {
  std::mt19937 random(4);
  BlockPacker packer;
  while (!packer.is_paused()) {
    packer.pack(spans(random_bytes(block_raw_bytes, 256, random)), true);
  }
  std::size_t size = 0;
  for (int i = 0; i < 400; ++i) {
    size = packer.pack(spans(random_bytes(block_raw_bytes, 4, random)), true).size();
  }
  EXPECT_LT(size, block_raw_bytes / 2);
  EXPECT_FALSE(packer.is_paused());
}

TEST(Unpacker, RefusesImpossibleSizes) {
  EXPECT_EQ(fault_of(block_of({}, false)), "an empty block");
  EXPECT_EQ(fault_of(block_of({}, true)), "an empty block");
  EXPECT_EQ(fault_of(block_of(Bytes(block_bytes_max + 1), false)), "a block longer than allowed");
  EXPECT_EQ(fault_of(block_of(Bytes(block_bytes_max), false)), "");
}

TEST(Unpacker, RefusesWhatItDidNotAskFor) {
  BlockUnpacker unpacker(false);
  const auto block = block_of(zstd_of(Bytes(10), 16, ZSTD_e_flush), true);
  EXPECT_EQ(unpacker.unpack(spans(block)).fault, "a packed block for a side that does not unpack");
}

TEST(Unpacker, RefusesBombs) {
  // A run of one byte: 8192 are let through, one more is not, nor a great many.
  EXPECT_EQ(fault_of(block_of(zstd_of(Bytes(block_bytes_max), 16, ZSTD_e_flush), true)), "");
  for (const std::size_t size :
       {block_bytes_max + 1, std::size_t{100'000}, std::size_t{8'000'000}}) {
    const Bytes bomb = zstd_of(Bytes(size), 17, ZSTD_e_flush);
    ASSERT_LE(bomb.size(), block_bytes_max);
    EXPECT_EQ(fault_of(block_of(bomb, true)), "a packed block of too many bytes") << size;
  }
}

TEST(Unpacker, RefusesAWindowThatWouldCostMemory) {
  const Bytes raw(100, std::byte{1});
  EXPECT_EQ(fault_of(block_of(zstd_of(raw, 17, ZSTD_e_flush), true)), "");
  for (const int window_log : {18, 20, 27}) {
    EXPECT_EQ(fault_of(block_of(zstd_of(raw, window_log, ZSTD_e_flush), true)),
              "a packed block that is damaged");
  }
}

TEST(Unpacker, RefusesAStreamThatEndsOrSaysNothing) {
  const Bytes raw(100, std::byte{1});
  EXPECT_EQ(fault_of(block_of(zstd_of(raw, 16, ZSTD_e_end), true)), "a packed stream that ends");
  Bytes cut = zstd_of(raw, 16, ZSTD_e_flush);
  cut.pop_back();
  EXPECT_EQ(fault_of(block_of(cut, true)), "a packed block of no bytes");
  // A skippable frame: its magic, size 4, content.
  const Bytes skippable{std::byte{0x50}, std::byte{0x2A}, std::byte{0x4D}, std::byte{0x18},
                        std::byte{4},    std::byte{0},    std::byte{0},    std::byte{0},
                        std::byte{1},    std::byte{2},    std::byte{3},    std::byte{4}};
  EXPECT_NE(fault_of(block_of(skippable, true)), "");
}

TEST(Unpacker, TakesAnyBytesWithoutHarm) {
  std::mt19937 random(5);
  const Bytes good = zstd_of(random_bytes(3000, 8, random), 16, ZSTD_e_flush);
  for (int i = 0; i < 20'000; ++i) {
    Bytes content = good;
    for (auto changes = 1 + random() % 4; changes > 0; --changes) {
      content[random() % content.size()] = static_cast<std::byte>(random());
    }
    BlockUnpacker unpacker(true);
    const auto result = unpacker.unpack(spans(block_of(content, true)));
    ASSERT_LE(result.raw.size(), block_bytes_max);
    ASSERT_EQ(result.used == 0, !result.fault.empty());
  }
}

}  // namespace
}  // namespace xenlane::transport::test

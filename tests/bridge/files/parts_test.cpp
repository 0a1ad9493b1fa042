// The small parts: digests against known values, the pace, the rate and the line that shows it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "bridge/files/digest.hpp"
#include "bridge/files/pace.hpp"
#include "bridge/files/progress.hpp"

namespace xenlane::bridge::files {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

std::string hex(const Digest& digest) {
  std::string text;
  for (const std::byte byte : digest.view()) text += fmt::format("{:02x}", byte);
  return text;
}

std::string digest_of(std::string_view text, DigestKind kind) {
  Hasher hasher(kind);
  hasher.update(std::as_bytes(std::span(text)));
  return hex(hasher.digest());
}

TEST(FilesDigest, KnownValues) {
  // xxHash's own, canonical: `xxh128sum` prints the same.
  EXPECT_EQ(digest_of("", DigestKind::xxh3), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(digest_of("abc", DigestKind::xxh3), "06b05ab6733a618578af5f94892f3950");
  // FIPS 180-4.
  EXPECT_EQ(digest_of("", DigestKind::sha256),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest_of("abc", DigestKind::sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(FilesDigest, PiecesHolesAndQuestionsInBetweenChangeNothing) {
  for (const DigestKind kind : {DigestKind::xxh3, DigestKind::sha256}) {
    std::string text(300'000, '\0');
    std::iota(text.begin(), text.begin() + 100'000, '\0');
    Hasher hasher(kind);
    for (std::size_t at = 0; at < 100'000; at += 777) {
      const auto piece = std::min<std::size_t>(777, 100'000 - at);
      hasher.update(std::as_bytes(std::span(text)).subspan(at, piece));
      EXPECT_EQ(hex(hasher.digest()), hex(hasher.digest()));
    }
    hasher.update_zeros(199'999);
    hasher.update_zeros(0);
    EXPECT_NE(hex(hasher.digest()), digest_of(text, kind));
    hasher.update_zeros(1);
    EXPECT_EQ(hex(hasher.digest()), digest_of(text, kind));
    EXPECT_EQ(hasher.digest().size, digest_bytes(kind));
  }
}

TEST(FilesPace, NoMoreThanSoManyBytesASecondWhateverThePieces) {
  for (const std::uint64_t piece : {1U, 1000U, 65'536U, 10'000'000U}) {
    Pace pace(1'000'000);
    const Pace::TimePoint begin{seconds(1000)};
    Pace::TimePoint now = begin;
    std::uint64_t sent = 0;
    while (sent < 20'000'000 && sent < 5000 * piece) {
      sent += piece;
      now += pace.sent(piece, now);
      const auto allowed = std::chrono::duration<double>(now - begin + Pace::slack).count() * 1e6;
      ASSERT_LE(static_cast<double>(sent), allowed + 1) << piece;
    }
  }
}

TEST(FilesPace, IdlenessIsMadeUpForOnlyALittle) {
  Pace pace(1000);
  const Pace::TimePoint begin{seconds(1000)};
  EXPECT_EQ(pace.sent(50, begin), Pace::Duration::zero());
  // A minute later: a tenth of a second's worth is free, and no more.
  EXPECT_EQ(pace.sent(100, begin + seconds(60)), Pace::Duration::zero());
  EXPECT_EQ(pace.sent(100, begin + seconds(60)), milliseconds(100));
  EXPECT_EQ(Pace(0).sent(UINT64_MAX, begin), Pace::Duration::zero());
}

TEST(FilesProgress, RateIsThatOfTheLastSeconds) {
  Rate rate;
  const Rate::TimePoint begin{seconds(1000)};
  EXPECT_EQ(rate.bytes_per_second(), 0);
  rate.at(begin, 0);
  EXPECT_EQ(rate.bytes_per_second(), 0);
  for (int i = 1; i <= 20; ++i) rate.at(begin + seconds(i), static_cast<std::uint64_t>(i) * 1000);
  EXPECT_DOUBLE_EQ(rate.bytes_per_second(), 1000);
  for (int i = 21; i <= 30; ++i) rate.at(begin + seconds(i), 20'000);
  EXPECT_DOUBLE_EQ(rate.bytes_per_second(), 0);
}

TEST(FilesProgress, LineSaysHowFarItIs) {
  Counts counts;
  counts.entries = 10;
  counts.bytes = 4 * 1024 * 1024;
  counts.bytes_sent = 1024 * 1024;
  counts.copied = 3;
  EXPECT_THAT(
      progress_line(counts, 1024 * 1024),
      testing::AllOf(HasSubstr("1.0 MiB  25%"), HasSubstr("-:--:--"), HasSubstr("(3 of 10+)")));
  counts.all_found = true;
  EXPECT_THAT(progress_line(counts, 1024 * 1024),
              testing::AllOf(HasSubstr(" 0:00:03 "), HasSubstr("(3 of 10)")));
  EXPECT_THAT(progress_line(Counts{}, 0), HasSubstr("100%"));
}

/// The peer says how large its files are; the sum may be any number.
TEST(FilesProgress, NumbersThatCannotBeAreShownAllTheSame) {
  Counts counts;
  counts.all_found = true;
  counts.bytes = UINT64_MAX;
  for (const double rate : {0.0, 0.5, 1.0, 1e30}) {
    EXPECT_LT(progress_line(counts, rate).size(), 120U);
    counts.bytes_sent = UINT64_MAX;
    EXPECT_LT(progress_line(counts, rate).size(), 120U);
    counts.bytes_sent = 0;
  }
  EXPECT_EQ(seconds_left(counts, 0.5), std::nullopt);
  EXPECT_GE(seconds_left(counts, 1.0).value_or(0), 1'000'000'000'000'000U);
  // More is through than there is said to be.
  counts.bytes = 10;
  counts.bytes_same = 1000;
  EXPECT_EQ(bytes_through(counts), 10U);
}

TEST(FilesProgress, UnitsGoUpTo) {
  EXPECT_EQ(in_units(0), "0 B");
  EXPECT_EQ(in_units(1023), "1023 B");
  EXPECT_EQ(in_units(1536), "1.5 KiB");
  EXPECT_EQ(in_units(1.5 * 1024 * 1024 * 1024), "1.5 GiB");
  EXPECT_THAT(in_units(1e30), testing::EndsWith(" PiB"));
}

}  // namespace
}  // namespace xenlane::bridge::files

// What follows from measurements, and how it is kept, told and drawn.
#include "bridge/cli/bench/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/cli/bench/plot.hpp"
#include "bridge/cli/bench/units.hpp"

namespace xenlane::bridge::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

BenchPoint point(std::uint64_t size, double rate, double p50_us) {
  BenchPoint out;
  out.size = size;
  out.to = {rate, rate * 0.9, rate * 1.1};
  out.from = out.to;
  out.both = out.to;
  out.round_trips.p50_us = {p50_us, p50_us, p50_us};
  out.round_trips.histogram = {{p50_us, 10}};
  return out;
}

/// The console is three times as slow from 4 KiB on.
BenchReport both_lanes() {
  BenchReport report;
  report.kernel = "6.1";
  report.hypervisor = "xensim";
  report.processors = 2;
  report.guest = "web";
  report.data = "random bytes";
  report.rounds = 5;
  report.time_ms = 200;
  BenchedPath vchan{"vchan", true, 65536, 65536, {}};
  BenchedPath console{"console", true, 131072, 131072, {}};
  vchan.points = {point(64, 1e6, 20), point(4096, 1e8, 30), point(65536, 4e9, 60)};
  console.points = {point(64, 5e5, 39), point(4096, 4e6, 90), point(65536, 1e7, 7000)};
  console.points[2].cost = Cost{1, 2, 3, 4};
  console.points[2].packs_into = 0.25;
  report.notes = {"proxy: nothing comes; that path was given up in round 2"};
  report.paths = {vchan, console};
  return report;
}

TEST(BenchReport, ASpreadIsTheMedianAndTheExtremes) {
  const Spread odd = spread_of({3, 1, 2});
  EXPECT_EQ(odd.median, 2);
  EXPECT_EQ(odd.low, 1);
  EXPECT_EQ(odd.high, 3);
  EXPECT_EQ(spread_of({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(spread_of({}).median, 0);
}

TEST(BenchReport, PercentilesAreOfAllRoundsAndTheMedianOfEach) {
  std::vector<std::uint64_t> slow(100, 3000);
  std::vector<std::uint64_t> fast;
  for (std::uint64_t us = 1; us <= 100; ++us) fast.push_back(us * 10);
  const RoundTrips trips = round_trips_of({slow, fast, fast});
  EXPECT_EQ(trips.p50_us.low, 0.5);
  EXPECT_EQ(trips.p50_us.median, 0.5);
  EXPECT_EQ(trips.p50_us.high, 3);
  EXPECT_EQ(trips.p90_us, 3);
  EXPECT_EQ(trips.longest_us, 3);
  EXPECT_NEAR(trips.mean_us, (100 * 3 + 2 * 50.5) / 300, 0.001);
}

TEST(BenchReport, TheHistogramHasFourEntriesForEachDoubling) {
  const RoundTrips trips = round_trips_of({{1000, 1100, 1900, 2000, 8000}});
  ASSERT_EQ(trips.histogram.size(), 4U);
  EXPECT_EQ(trips.histogram[0], (std::pair<double, std::uint64_t>(1, 1)));
  EXPECT_NEAR(trips.histogram[1].first, 1.19, 0.01);
  EXPECT_EQ(trips.histogram[2], (std::pair<double, std::uint64_t>(2, 2)));
  EXPECT_EQ(trips.histogram[3], (std::pair<double, std::uint64_t>(8, 1)));
}

TEST(BenchReport, IsReadAsItWasWritten) {
  const auto written = to_json(both_lanes());
  EXPECT_EQ(to_json(report_from_json(written)), written);
}

TEST(BenchReport, WhatIsNoneIsRefused) {
  auto other = to_json(both_lanes());
  other["v"] = 2;
  EXPECT_THROW(report_from_json(other), std::runtime_error);
  auto broken = to_json(both_lanes());
  broken["paths"] = 5;
  for (const boost::json::value& value :
       {boost::json::value(), boost::json::value(5), boost::json::value(broken),
        boost::json::value(boost::json::object{{"v", 1}})}) {
    EXPECT_THROW(report_from_json(value), std::runtime_error);
  }
}

TEST(BenchVerdict, TheConsoleSufficesWhileItIsAtMostTwiceAsSlow) {
  EXPECT_EQ(console_suffices_up_to(both_lanes()), 64U);
  EXPECT_EQ(console_suffices_up_to(both_lanes(), 3), 4096U);
  EXPECT_EQ(console_suffices_up_to(both_lanes(), 1), std::nullopt);
  BenchReport one_lane = both_lanes();
  one_lane.paths.pop_back();
  EXPECT_EQ(console_suffices_up_to(one_lane), std::nullopt);
}

TEST(BenchVerdict, SaysWhatIsGainedInWords) {
  const auto verdict = verdict_of(both_lanes());
  ASSERT_EQ(verdict.size(), 3U);
  EXPECT_THAT(verdict[0], HasSubstr("Up to 64 bytes"));
  EXPECT_THAT(verdict[1], HasSubstr("4.00 GB/s, 400 times"));
  EXPECT_THAT(verdict[2], HasSubstr("Of each byte of random bytes zstd leaves 0.25"));
}

TEST(BenchVerdict, SaysWhatPackingGainsBesideRandomBytes) {
  BenchReport report = both_lanes();
  report.data = "data.sql";
  BenchedPath unpacked{"console, random bytes", true, 131072, 131072, {point(64, 4e6, 39)}};
  report.paths.push_back(unpacked);
  EXPECT_THAT(verdict_of(report).at(2), HasSubstr("2.5 times as fast as with random bytes"));
  report.paths[1].points.back().packs_into = 0.99;
  EXPECT_EQ(verdict_of(report).at(2), "zstd gains nothing on data.sql.");
}

TEST(BenchVerdict, ThresholdsAreLinesOfTheConfiguration) {
  EXPECT_THAT(thresholds_of(both_lanes()),
              ElementsAre("[lanes]", "backlog_bytes = \"64KiB\"", "volume_bytes = \"2441KiB\""));
  BenchReport one_lane = both_lanes();
  one_lane.paths.pop_back();
  EXPECT_TRUE(thresholds_of(one_lane).empty());
}

TEST(BenchPlot, HasACurveForEachPathAndNoNameBreaksOut) {
  BenchReport report = both_lanes();
  report.paths[0].name = "it's\nsystem 'rm'";
  const std::string script = plot_script(report, "/tmp/a b.svg");
  EXPECT_THAT(script, HasSubstr("set output '/tmp/a b.svg'\n"));
  EXPECT_THAT(script, HasSubstr("title 'console'"));
  EXPECT_THAT(script, HasSubstr("it''s\\x0asystem ''rm''"));
  EXPECT_THAT(plot_script(report, "a.png"), HasSubstr("pngcairo"));
}

TEST(BenchUnits, AreAsPeopleWriteThem) {
  EXPECT_EQ(bytes_in_words(1), "1 byte");
  EXPECT_EQ(bytes_in_words(1000), "1000 bytes");
  EXPECT_EQ(bytes_in_words(65536), "64 KiB");
  EXPECT_EQ(bytes_in_words(1048576), "1 MiB");
  EXPECT_EQ(rate_in_words(512'000), "512 KB/s");
  EXPECT_EQ(rate_in_words(1.3e9), "1.30 GB/s");
  EXPECT_EQ(time_in_words(12.34), "12.3 us");
  EXPECT_EQ(time_in_words(4560), "4.56 ms");
  EXPECT_EQ(*parse_bytes("16"), 16U);
  EXPECT_EQ(*parse_bytes("4K"), 4096U);
  EXPECT_EQ(*parse_bytes("1MiB"), 1048576U);
  for (const char* text : {"", "0", "K", "4k", "-1", "4KB", "1 M", "99999999999999999999"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

}  // namespace
}  // namespace xenlane::bridge::cli

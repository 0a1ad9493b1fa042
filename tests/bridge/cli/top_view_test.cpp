// What xenlane top makes of two looks.
#include "bridge/cli/top_view.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TopSample sample_at(int seconds, std::uint64_t in, std::uint64_t out, std::uint64_t forwarded) {
  TopSample sample;
  sample.at += std::chrono::seconds(seconds);
  const json::object quiet{{"name", "org.a.quiet"}, {"open", 0}, {"bytes_in", 7}, {"bytes_out", 7}};
  const json::object busy{
      {"name", "org.a.busy"}, {"open", 3}, {"opened", 4}, {"bytes_in", in}, {"bytes_out", out}};
  const json::object held{{"name", "org.a.held"}, {"open", 1}};
  sample.guests = {
      json::object{{"guest", "web"},
                   {"state", "serving"},
                   {"status", json::object{{"session", json::object{{"state", "up"}}},
                                           {"lane", json::object{{"kind", "vchan"}}},
                                           {"streams", json::object{{"open", 4}}},
                                           {"channels", json::array{quiet, held, busy}}}}},
      json::object{{"guest", "db"}, {"state", "waiting"}}};
  sample.forwards = {json::object{{"id", "7"},
                                  {"kind", "local"},
                                  {"forward", "1:web:2"},
                                  {"guest", "web"},
                                  {"state", "up"},
                                  {"open", 2},
                                  {"bytes_in", forwarded},
                                  {"bytes_out", 0}}};
  return sample;
}

TEST(TopView, RatesAreDifferencesBySeconds) {
  const TopView view = top_view(sample_at(1, 1000, 0, 0), sample_at(3, 5000, 8192, 2048));
  ASSERT_THAT(view.guests, SizeIs(2));
  EXPECT_EQ(view.guests[0].state, "up");
  EXPECT_EQ(view.guests[0].lane, "vchan");
  EXPECT_EQ(view.guests[0].open, 4U);
  EXPECT_DOUBLE_EQ(view.guests[0].in_per_second, 2000);
  EXPECT_DOUBLE_EQ(view.guests[0].out_per_second, 4096);
  EXPECT_EQ(view.guests[1].state, "waiting");
  ASSERT_THAT(view.channels, SizeIs(2)) << "what is neither open nor busy is left out";
  EXPECT_EQ(view.channels[0].name, "org.a.busy");
  EXPECT_EQ(view.channels[1].name, "org.a.held");
  ASSERT_THAT(view.forwards, SizeIs(1));
  EXPECT_DOUBLE_EQ(view.forwards[0].in_per_second, 1024);
}

TEST(TopView, CounterThatHasBegunAnewIsNoNegativeRate) {
  const TopView view = top_view(sample_at(1, 1'000'000, 0, 0), sample_at(2, 500, 0, 0));
  EXPECT_DOUBLE_EQ(view.guests[0].in_per_second, 500);
}

TEST(TopView, TheFirstLookHasNoRates) {
  const TopSample now = sample_at(1, 1000, 1000, 1000);
  EXPECT_DOUBLE_EQ(top_view(now, now).guests[0].in_per_second, 0);
  EXPECT_DOUBLE_EQ(top_view({}, now).channels[0].in_per_second, 0);
}

TEST(TopView, LinesAreEscapedAndFitTheScreen) {
  TopSample now = sample_at(1, 0, 0, 0);
  now.guests[0].get_object()["guest"] = "w\033[31mb\n";
  const TopView view = top_view(now, now);
  const auto all = top_lines(view, 0, 0);
  EXPECT_THAT(all[1], HasSubstr("w\\x1b[31mb\\x0a"));
  for (const std::string& line : all) EXPECT_EQ(line.find('\033'), std::string::npos);
  const auto few = top_lines(view, 2, 10);
  ASSERT_THAT(few, SizeIs(2));
  for (const std::string& line : few) EXPECT_LE(line.size(), 10U);
  TopSample none;
  none.trouble = "no daemon";
  EXPECT_THAT(top_lines(top_view(none, none), 0, 0), ElementsAre("no daemon"));
}

TEST(TopView, NonsenseFromADaemonIsNoCrash) {
  TopSample now;
  now.guests = {1, json::object{{"guest", 7}, {"status", json::object{{"channels", "x"}}}}};
  now.forwards = {json::array{}, json::object{{"bytes_in", -1}}};
  const TopView view = top_view(now, now);
  EXPECT_THAT(view.guests, SizeIs(1));
  EXPECT_THAT(top_lines(view, 0, 0), ::testing::Not(IsEmpty()));
}

TEST(TopView, RatesAreShort) {
  EXPECT_EQ(format_rate(0), "0 B/s");
  EXPECT_EQ(format_rate(1023), "1023 B/s");
  EXPECT_EQ(format_rate(1536), "1.5 KiB/s");
  EXPECT_EQ(format_rate(3.0 * 1024 * 1024 * 1024), "3.0 GiB/s");
}

}  // namespace
}  // namespace xenlane::bridge::cli

// Ratios that a report has to keep.
#include "bridge/cli/bench/budget.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::bridge::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// "vchan" has twice the rates of "console", and half its round trips.
BenchReport report() {
  BenchReport out;
  for (const double factor : {2.0, 1.0}) {
    BenchPoint point;
    point.size = 65536;
    point.to = {factor * 1e6, 0, 0};
    point.from = {factor * 3e6, 0, 0};
    point.round_trips.p50_us = {100 / factor, 0, 0};
    out.paths.push_back({factor > 1 ? "vchan" : "console", true, 1, 1, {point}});
  }
  return out;
}

BenchOutcome outcome_of(const std::string& lines) {
  const BenchBudgets budgets = parse_budgets("[[budget]]\n" + lines, "b.toml");
  EXPECT_THAT(budgets.errors, testing::IsEmpty());
  const auto outcomes = check_budgets(report(), budgets.budgets);
  EXPECT_EQ(outcomes.size(), 1U);
  return outcomes.at(0);
}

TEST(BenchBudget, IsKeptOrNot) {
  const std::string base = "path = \"vchan\"\nover = \"console\"\nsize = \"64K\"\n";
  const auto kept = outcome_of(base + "figure = \"to\"\nat_least = 2\n");
  EXPECT_TRUE(kept.kept);
  EXPECT_EQ(kept.text, "to of 64 KiB, vchan over console, at least 2: 2.00");
  EXPECT_FALSE(outcome_of(base + "figure = \"to\"\nat_least = 2.1\n").kept);
  EXPECT_TRUE(outcome_of(base + "figure = \"from\"\nat_least = 1\nat_most = 2\n").kept);
  EXPECT_FALSE(outcome_of(base + "figure = \"from\"\nat_most = 1.9\n").kept);
  EXPECT_TRUE(outcome_of(base + "figure = \"round_trip\"\nat_most = 0.5\n").kept);
}

TEST(BenchBudget, WhatWasNotMeasuredIsNotKept) {
  for (const char* lines : {"path = \"vchan\"\nover = \"socat\"\nsize = \"64K\"\nat_least = 0\n",
                            "path = \"vchan\"\nover = \"console\"\nsize = \"1K\"\nat_least = 0\n",
                            "path = \"vchan\"\nover = \"console\"\nsize = \"64K\"\nfigure = "
                            "\"both\"\nat_least = 0\n"}) {
    const auto outcome = outcome_of(lines);
    EXPECT_FALSE(outcome.kept) << lines;
    EXPECT_THAT(outcome.text, HasSubstr("was not measured"));
  }
}

TEST(BenchBudget, EveryErrorIsToldWithItsLine) {
  const BenchBudgets budgets = parse_budgets(
      "[[budget]]\n"
      "figure = \"speed\"\n"
      "size = \"64 K\"\n"
      "path = \"vchan\"\n"
      "over = \"direct\"\n"
      "at_least = 1\n"
      "[[budget]]\n"
      "colour = 5\n"
      "[other]\n",
      "b.toml");
  EXPECT_THAT(budgets.budgets, testing::IsEmpty());
  EXPECT_THAT(budgets.errors,
              testing::IsSupersetOf({testing::StartsWith("b.toml:2: figure is"),
                                     testing::StartsWith("b.toml:3: '64 K' is no size"),
                                     testing::StartsWith("b.toml:8: 'colour' is not known"),
                                     testing::StartsWith("b.toml:7: there is no path"),
                                     testing::StartsWith("b.toml:9: there is only [[budget]]")}));
  EXPECT_THAT(parse_budgets("", "b.toml").errors, ElementsAre("b.toml: there is no [[budget]]"));
  EXPECT_THAT(parse_budgets("[[budget", "b.toml").errors,
              ElementsAre(testing::StartsWith("b.toml:1: ")));
}

}  // namespace
}  // namespace xenlane::bridge::cli

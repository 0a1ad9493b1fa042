// What a peer may make this side log.
#include <gtest/gtest.h>

#include "bridge/channel/log_budget.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;

TEST(LogBudget, AFewLinesAtOnceAreAllLogged) {
  LogBudget budget;
  const LogBudget::Clock::time_point now{1000s};
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(budget.allows(now));
    EXPECT_EQ(budget.note(), "");
  }
}

TEST(LogBudget, AFloodIsALineASecondAndACount) {
  LogBudget budget;
  LogBudget::Clock::time_point now{1000s};
  int logged = 0;
  for (int i = 0; i < 100'000; ++i, now += 100us) {  // ten seconds of it
    if (budget.allows(now)) ++logged;
  }
  EXPECT_EQ(logged, 8 + 9);
  now += 1s;
  EXPECT_TRUE(budget.allows(now));
  EXPECT_EQ(budget.note(), " (99983 more were not logged)");
}

TEST(LogBudget, WhoWasQuietMaySayAFewLinesAgainAndNoMore) {
  LogBudget budget;
  LogBudget::Clock::time_point now{1000s};
  while (budget.allows(now)) {
  }
  now += 24h;
  int logged = 0;
  for (int i = 0; i < 100; ++i) {
    if (budget.allows(now)) ++logged;
  }
  EXPECT_EQ(logged, 8);
}

}  // namespace
}  // namespace xenlane::bridge

// A guest that offers one vchan after another is kept waiting; one that needs a new one now and
// then is not.
#include "host/ring_budget.hpp"

#include <gtest/gtest.h>

namespace xenlane::host {
namespace {

using namespace std::chrono_literals;

TEST(RingBudget, MinutesWorthMayBeSpentAtOnceAndThenOneAtATime) {
  RingBudget rings(60);
  RingBudget::Time now{1h};
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(rings.wait(now), 0s) << i;
    rings.spend(now);
  }
  EXPECT_EQ(rings.wait(now), 1s);
  now += 1s;
  EXPECT_EQ(rings.wait(now), 0s);
  rings.spend(now);
  EXPECT_EQ(rings.wait(now), 1s);
}

TEST(RingBudget, QuietMinuteEarnsNoMoreThanItsShare) {
  RingBudget rings(2);
  RingBudget::Time now{1h};
  rings.spend(now);
  now += 10h;
  rings.spend(now);
  EXPECT_EQ(rings.wait(now), 0s);
  rings.spend(now);
  EXPECT_EQ(rings.wait(now), 30s);
}

}  // namespace
}  // namespace xenlane::host

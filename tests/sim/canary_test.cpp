// Proves that the simulator bites: linked with a copy of the product in which one bug is planted
// (CMakeLists.txt here), as many seeds as CI runs must find it. The bug is a rare one, a couple of
// seeds in a hundred, and which seeds changes whenever the simulator draws something new.
#include <gtest/gtest.h>

#include "tests/sim/campaign.hpp"

namespace xenlane::sim {
namespace {

TEST(Canary, PlantedBugIsFoundByAsManySeedsAsCiRuns) {
  EXPECT_FALSE(run_campaign(Campaign{})) << "no seed found the bug";
}

}  // namespace
}  // namespace xenlane::sim

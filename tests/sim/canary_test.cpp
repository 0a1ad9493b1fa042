// Proves that the simulator bites: linked with a copy of the product in which one bug is planted
// (CMakeLists.txt here), a hundred seeds must find it.
#include <gtest/gtest.h>

#include "tests/sim/campaign.hpp"

namespace xenlane::sim {
namespace {

TEST(Canary, PlantedBugIsFoundWithinAHundredSeeds) {
  Campaign campaign;
  campaign.first = 1;
  campaign.count = 100;
  EXPECT_FALSE(run_campaign(campaign)) << "no seed found the bug";
}

}  // namespace
}  // namespace xenlane::sim

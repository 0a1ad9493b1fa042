// Many seeds, one after another in several processes, and what they came to in total.
#pragma once

#include <cstdint>

namespace xenlane::sim {

struct Campaign {
  std::uint64_t first = 1;
  std::uint64_t count = 2000;
  unsigned jobs = 0;  ///< 0: one for each processor
};

/// Runs the seeds, prints the totals and every seed that broke a promise. True when none did.
bool run_campaign(const Campaign& campaign);

}  // namespace xenlane::sim

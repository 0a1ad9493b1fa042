// Measures every size on every path, round after round, and each lane while it is held.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bridge/cli/bench/measure.hpp"
#include "bridge/cli/bench/report.hpp"
#include "bridge/cli/lane_hold.hpp"

namespace xenlane::bridge::cli {

/// The channel that leads to the far side's bench service.
inline constexpr const char* bench_channel = "org.xenlane.bench.0";

struct BenchPlan {
  Guest guest;
  /// The bench channel's socket on this side.
  std::string socket;
  std::vector<std::string> lanes;    ///< "vchan", "console"
  bool every_lane = false;           ///< a lane that cannot be had is a failure, not a note
  std::vector<BenchPath> others;     ///< ways without xenlane
  std::vector<std::uint64_t> sizes;  ///< ascending
  BenchTimes times;
  unsigned rounds = 5;
  /// What messages are made of; empty: random bytes. If not, the console is measured with random
  /// bytes as well, as "console, random bytes".
  std::vector<char> data;
};

/// Adds paths and notes to `report`. `step` is told what comes next, for whoever waits. Throws a
/// BenchFailure. Each lane is held while it is measured and then as it was, however this ends.
void run_bench(const BenchPlan& plan, const std::function<void(const std::string&)>& step,
               BenchReport& report);

}  // namespace xenlane::bridge::cli

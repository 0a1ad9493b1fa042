// From what `xenlane bench` was told to what there is to measure: sizes, lanes, other ways, the
// guest that is meant.
#pragma once

#include <string>
#include <vector>

#include "bridge/cli/bench/run.hpp"
#include "bridge/cli/context.hpp"
#include "bridge/cli/query.hpp"

namespace xenlane::bridge::cli {

struct BenchOptions {
  std::string guest;
  std::vector<std::string> lanes;  ///< empty: those that there are
  std::string sizes = "16..1M";
  double time_s = 0.2;
  unsigned rounds = 5;
  std::string data_file;
  std::vector<std::string> paths;          ///< NAME=ADDRESS
  std::vector<std::string> one_at_a_time;  ///< names of those
  bool no_baselines = false;
};

/// "16..1M", each four times the one before, or "64,4K,1M"; ascending, no size twice.
Answer<std::vector<std::uint64_t>> parse_sizes(const std::string& text);

/// All but the paths and notes.
Answer<BenchPlan> make_plan(const Context& context, const BenchOptions& options);

/// What there is to say of this machine and run, without any measurement.
BenchReport begin_report(const BenchPlan& plan, const BenchOptions& options);

}  // namespace xenlane::bridge::cli

// Paths without xenlane, to compare it with: a Unix socket between two programs, and the same with
// one or two relays in it. All their programs end with this one.
#pragma once

#include <vector>

#include "bridge/cli/bench/measure.hpp"

namespace xenlane::bridge::cli {

/// "direct", and "one socat" and "two socats" where socat is installed.
std::vector<BenchPath> local_baselines();

}  // namespace xenlane::bridge::cli

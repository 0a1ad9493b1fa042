// What bridges have used and carried, by their own counters (docs/control.md), and what that makes
// for each byte.
#pragma once

#include <boost/json.hpp>
#include <string>

#include "bridge/cli/bench/measure.hpp"
#include "bridge/cli/bench/report.hpp"
#include "bridge/cli/query.hpp"

namespace xenlane::bridge::cli {

/// Of one bridge, until now.
struct BridgeUsage {
  double cpu_us = 0;
  double wake_ups = 0;
  double notifications = 0;
  double data_bytes = 0;    ///< both ways
  double raw_bytes = 0;     ///< sent over the console, before
  double packed_bytes = 0;  ///< and after zstd
};

/// The status of the bridge on this side. Throws a BenchFailure.
boost::json::object near_status(const Guest& guest);

BridgeUsage usage_of(const boost::json::object& status);
/// The far bridge's, by way of its bench service. Throws a BenchFailure.
BridgeUsage far_usage(const BenchPath& path);

struct BothUsages {
  BridgeUsage near;
  BridgeUsage far;
};

/// What it took from one moment to another; none when nothing was carried.
std::optional<Cost> cost_between(const BothUsages& before, const BothUsages& after);
/// What was left of each byte sent over the console; none when none was.
std::optional<double> packing_between(const BothUsages& before, const BothUsages& after);

/// Why connections of this process to `channel` ended badly, if the bridge says so.
std::optional<Failure> bad_ending_of(const boost::json::object& status, const std::string& channel);

}  // namespace xenlane::bridge::cli

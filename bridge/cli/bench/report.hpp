// What `xenlane bench` has found out, as JSON and back, and what follows from it: where the console
// is good enough, what a vchan gains, which thresholds fit. No I/O, no clock.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace xenlane::bridge::cli {

/// Of one figure from all rounds.
struct Spread {
  double median = 0;
  double low = 0;
  double high = 0;
};

Spread spread_of(std::vector<double> values);

/// Entries of a histogram for each doubling.
inline constexpr double histogram_steps_per_doubling = 4;

struct RoundTrips {
  Spread p50_us;  ///< of the rounds; the others are of all rounds together
  double p90_us = 0;
  double p99_us = 0;
  double p999_us = 0;
  double longest_us = 0;
  double mean_us = 0;
  /// How many took up to so many microseconds, and more than the entry before;
  /// histogram_steps_per_doubling.
  std::vector<std::pair<double, std::uint64_t>> histogram;
};

/// Each inner vector is one round's, in nanoseconds.
RoundTrips round_trips_of(const std::vector<std::vector<std::uint64_t>>& rounds);

/// What both bridges spend on a lane's bulk, both directions taken together.
struct Cost {
  double near_cpu_s_per_gb = 0;
  double far_cpu_s_per_gb = 0;
  double wake_ups_per_mb = 0;
  double notifications_per_mb = 0;
};

/// One message size on one path. Rates are in bytes of payload a second.
struct BenchPoint {
  std::uint64_t size = 0;
  Spread to;                   ///< from where this is run, to the service
  Spread from;                 ///< the other way
  std::optional<Spread> both;  ///< the sum of both ways at once; not of what takes one at a time
  RoundTrips round_trips;
  std::optional<Cost> cost;          ///< of lanes
  std::optional<double> packs_into;  ///< share of the payload that zstd leaves, console only

  double messages_per_second() const {
    return size == 0 ? 0 : to.median / static_cast<double>(size);
  }
};

struct BenchedPath {
  std::string name;
  bool is_lane = false;
  std::uint64_t send_ring_bytes = 0;  ///< of lanes
  std::uint64_t receive_ring_bytes = 0;
  std::vector<BenchPoint> points;  ///< by size, ascending
};

struct BenchReport {
  std::string kernel;      ///< of where this was run
  std::string hypervisor;  ///< "Xen 4.17.3", "xensim", or "none"
  std::uint64_t processors = 0;
  std::string guest;
  std::string data;  ///< what the messages were made of
  std::uint64_t rounds = 0;
  std::uint64_t time_ms = 0;       ///< of each measurement
  std::vector<std::string> notes;  ///< what could not be measured, and why; sentences
  std::vector<BenchedPath> paths;
};

boost::json::object to_json(const BenchReport& report);
/// Throws std::runtime_error with one line when it is no report of this version.
BenchReport report_from_json(const boost::json::value& untrusted_value);

/// Messages of up to so many bytes are at most `slower` times as long on the way there and back
/// over the console as over a vchan; none when even the smallest are, or a lane was not measured.
std::optional<std::uint64_t> console_suffices_up_to(const BenchReport& report, double slower = 2);

/// Sentences, one a line.
std::vector<std::string> verdict_of(const BenchReport& report);

/// The [lanes] lines that fit what was measured; empty without both lanes.
std::vector<std::string> thresholds_of(const BenchReport& report);

}  // namespace xenlane::bridge::cli

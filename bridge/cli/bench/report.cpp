#include "bridge/cli/bench/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "bridge/cli/bench/units.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

namespace {

constexpr int report_version = 1;

/// Of ascending values: the smallest that `share` of all do not exceed.
double percentile(const std::vector<std::uint64_t>& ascending, double share) {
  if (ascending.empty()) return 0;
  const auto rank =
      static_cast<std::size_t>(std::ceil(share * static_cast<double>(ascending.size())));
  return static_cast<double>(ascending[std::clamp<std::size_t>(rank, 1, ascending.size()) - 1]);
}

double in_us(double ns) {
  return ns / 1000;
}

std::vector<std::pair<double, std::uint64_t>> histogram_of(
    const std::vector<std::uint64_t>& ascending) {
  std::vector<std::pair<double, std::uint64_t>> out;
  for (const std::uint64_t ns : ascending) {
    const double us = std::max(in_us(static_cast<double>(ns)), 0.001);
    if (out.empty() || us > out.back().first) {
      const double step = std::ceil(std::log2(us) * histogram_steps_per_doubling);
      out.emplace_back(std::exp2(step / histogram_steps_per_doubling), 0);
    }
    ++out.back().second;
  }
  return out;
}

json::object describe(const Spread& spread) {
  return {{"median", spread.median}, {"low", spread.low}, {"high", spread.high}};
}

json::object describe(const RoundTrips& trips) {
  json::array histogram;
  for (const auto& [up_to_us, count] : trips.histogram) histogram.push_back({up_to_us, count});
  return {{"p50_us", describe(trips.p50_us)}, {"p90_us", trips.p90_us},
          {"p99_us", trips.p99_us},           {"p999_us", trips.p999_us},
          {"longest_us", trips.longest_us},   {"mean_us", trips.mean_us},
          {"histogram", std::move(histogram)}};
}

json::object describe(const Cost& cost) {
  return {{"near_cpu_s_per_gb", cost.near_cpu_s_per_gb},
          {"far_cpu_s_per_gb", cost.far_cpu_s_per_gb},
          {"wake_ups_per_mb", cost.wake_ups_per_mb},
          {"notifications_per_mb", cost.notifications_per_mb}};
}

json::object describe(const BenchPoint& point) {
  json::object out{{"size", point.size},
                   {"to", describe(point.to)},
                   {"from", describe(point.from)},
                   {"messages_per_second", point.messages_per_second()},
                   {"round_trip", describe(point.round_trips)}};
  if (point.both) out["both"] = describe(*point.both);
  if (point.cost) out["cost"] = describe(*point.cost);
  if (point.packs_into) out["packs_into"] = *point.packs_into;
  return out;
}

json::object describe(const BenchedPath& path) {
  json::array points;
  for (const BenchPoint& point : path.points) points.push_back(describe(point));
  json::object out{{"name", path.name}, {"is_lane", path.is_lane}, {"points", std::move(points)}};
  if (!path.is_lane) return out;
  out["send_ring_bytes"] = path.send_ring_bytes;
  out["receive_ring_bytes"] = path.receive_ring_bytes;
  return out;
}

Spread read_spread(const json::value& value) {
  return {value.at("median").to_number<double>(), value.at("low").to_number<double>(),
          value.at("high").to_number<double>()};
}

RoundTrips read_round_trips(const json::value& value) {
  RoundTrips out;
  out.p50_us = read_spread(value.at("p50_us"));
  out.p90_us = value.at("p90_us").to_number<double>();
  out.p99_us = value.at("p99_us").to_number<double>();
  out.p999_us = value.at("p999_us").to_number<double>();
  out.longest_us = value.at("longest_us").to_number<double>();
  out.mean_us = value.at("mean_us").to_number<double>();
  for (const json::value& entry : value.at("histogram").as_array()) {
    out.histogram.emplace_back(entry.at(0).to_number<double>(),
                               entry.at(1).to_number<std::uint64_t>());
  }
  return out;
}

BenchPoint read_point(const json::value& value) {
  BenchPoint out;
  out.size = value.at("size").to_number<std::uint64_t>();
  out.to = read_spread(value.at("to"));
  out.from = read_spread(value.at("from"));
  out.round_trips = read_round_trips(value.at("round_trip"));
  if (const json::value* both = value.as_object().if_contains("both")) {
    out.both = read_spread(*both);
  }
  if (const json::value* cost = value.as_object().if_contains("cost")) {
    out.cost = Cost{cost->at("near_cpu_s_per_gb").to_number<double>(),
                    cost->at("far_cpu_s_per_gb").to_number<double>(),
                    cost->at("wake_ups_per_mb").to_number<double>(),
                    cost->at("notifications_per_mb").to_number<double>()};
  }
  if (const json::value* share = value.as_object().if_contains("packs_into")) {
    out.packs_into = share->to_number<double>();
  }
  return out;
}

BenchedPath read_path(const json::value& value) {
  BenchedPath out;
  out.name = std::string(value.at("name").as_string());
  out.is_lane = value.at("is_lane").as_bool();
  if (out.is_lane) {
    out.send_ring_bytes = value.at("send_ring_bytes").to_number<std::uint64_t>();
    out.receive_ring_bytes = value.at("receive_ring_bytes").to_number<std::uint64_t>();
  }
  for (const json::value& point : value.at("points").as_array()) {
    out.points.push_back(read_point(point));
  }
  return out;
}

BenchReport read_report(const json::value& value) {
  BenchReport out;
  out.kernel = std::string(value.at("kernel").as_string());
  out.hypervisor = std::string(value.at("hypervisor").as_string());
  out.processors = value.at("processors").to_number<std::uint64_t>();
  out.guest = std::string(value.at("guest").as_string());
  out.data = std::string(value.at("data").as_string());
  out.rounds = value.at("rounds").to_number<std::uint64_t>();
  out.time_ms = value.at("time_ms").to_number<std::uint64_t>();
  for (const json::value& note : value.at("notes").as_array()) {
    out.notes.emplace_back(note.as_string());
  }
  for (const json::value& path : value.at("paths").as_array()) {
    out.paths.push_back(read_path(path));
  }
  return out;
}

const BenchedPath* find_lane(const BenchReport& report, const std::string& name) {
  for (const BenchedPath& path : report.paths) {
    if (path.is_lane && path.name == name && !path.points.empty()) return &path;
  }
  return nullptr;
}

/// The same size on both, ascending.
template <typename Use>
void for_both(const BenchedPath& one, const BenchedPath& other, Use use) {
  for (const BenchPoint& point : one.points) {
    const auto match = std::ranges::find(other.points, point.size, &BenchPoint::size);
    if (match != other.points.end()) use(point, *match);
  }
}

double fastest(const BenchedPath& path) {
  double most = 0;
  for (const BenchPoint& point : path.points) {
    most = std::max({most, point.to.median, point.from.median});
  }
  return most;
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

RoundTrips round_trips_of(const std::vector<std::vector<std::uint64_t>>& rounds) {
  std::vector<double> medians;
  std::vector<std::uint64_t> all;
  for (auto round : rounds) {
    std::ranges::sort(round);
    medians.push_back(in_us(percentile(round, 0.5)));
    all.insert(all.end(), round.begin(), round.end());
  }
  std::ranges::sort(all);
  RoundTrips out;
  out.p50_us = spread_of(std::move(medians));
  out.p90_us = in_us(percentile(all, 0.9));
  out.p99_us = in_us(percentile(all, 0.99));
  out.p999_us = in_us(percentile(all, 0.999));
  out.longest_us = in_us(percentile(all, 1));
  if (!all.empty()) {
    const double sum = std::accumulate(all.begin(), all.end(), 0.0);
    out.mean_us = in_us(sum / static_cast<double>(all.size()));
  }
  out.histogram = histogram_of(all);
  return out;
}

json::object to_json(const BenchReport& report) {
  json::array paths;
  for (const BenchedPath& path : report.paths) paths.push_back(describe(path));
  json::array notes;
  for (const std::string& note : report.notes) notes.emplace_back(note);
  return {{"v", report_version},
          {"kernel", report.kernel},
          {"hypervisor", report.hypervisor},
          {"processors", report.processors},
          {"guest", report.guest},
          {"data", report.data},
          {"rounds", report.rounds},
          {"time_ms", report.time_ms},
          {"notes", std::move(notes)},
          {"paths", std::move(paths)}};
}

BenchReport report_from_json(const json::value& untrusted_value) {
  int version = 0;
  BenchReport out;
  try {
    version = untrusted_value.at("v").to_number<int>();
    if (version == report_version) out = read_report(untrusted_value);
  } catch (
      const std::exception&) {  // Boost.JSON has several for what is missing or of another type
    throw std::runtime_error("not a report of xenlane bench");
  }
  if (version != report_version) {
    throw std::runtime_error(fmt::format("a report of version {}; this program reads version {}",
                                         version, report_version));
  }
  return out;
}

std::optional<std::uint64_t> console_suffices_up_to(const BenchReport& report, double slower) {
  const BenchedPath* console = find_lane(report, "console");
  const BenchedPath* vchan = find_lane(report, "vchan");
  if (console == nullptr || vchan == nullptr) return std::nullopt;
  std::optional<std::uint64_t> size;
  bool suffices = true;
  for_both(*console, *vchan, [&](const BenchPoint& slow, const BenchPoint& fast) {
    suffices &= slow.round_trips.p50_us.median <= slower * fast.round_trips.p50_us.median;
    if (suffices) size = slow.size;
  });
  return size;
}

namespace {

/// The median of all sizes: frames of our own, which pack well, weigh where little was carried.
std::optional<double> packing_of(const BenchedPath* console) {
  std::vector<double> shares;
  if (console == nullptr) return std::nullopt;
  for (const BenchPoint& point : console->points) {
    if (point.packs_into) shares.push_back(*point.packs_into);
  }
  if (shares.empty()) return std::nullopt;
  return spread_of(std::move(shares)).median;
}

/// What packing gains in bulk, when random bytes were measured as well.
std::string gain_of(const BenchReport& report, const BenchedPath& console) {
  const BenchedPath* const unpacked = find_lane(report, "console, random bytes");
  if (unpacked == nullptr || fastest(*unpacked) <= 0) return {};
  return fmt::format(", which is then {:.1f} times as fast as with random bytes",
                     fastest(console) / fastest(*unpacked));
}

}  // namespace

std::vector<std::string> verdict_of(const BenchReport& report) {
  std::vector<std::string> out;
  const BenchedPath* console = find_lane(report, "console");
  const BenchedPath* vchan = find_lane(report, "vchan");
  if (console != nullptr && vchan != nullptr) {
    const auto size = console_suffices_up_to(report);
    out.push_back(size ? fmt::format("Up to {} a message, a round trip over the console takes at "
                                     "most twice what it takes over a vchan.",
                                     bytes_in_words(*size))
                       : std::string("A round trip over the console takes more than twice what it "
                                     "takes over a vchan, however small the message."));
    const double slow = fastest(*console);
    const double fast = fastest(*vchan);
    if (slow > 0) {
      out.push_back(
          fmt::format("In bulk a vchan carries {}, {:.0f} times what the console does ({}).",
                      rate_in_words(fast), fast / slow, rate_in_words(slow)));
    }
  }
  if (const auto packed = packing_of(console)) {
    const double share = *packed;
    out.push_back(share < 0.95
                      ? fmt::format("Of each byte of {} zstd leaves {:.2f} to the console{}.",
                                    report.data, share, gain_of(report, *console))
                      : fmt::format("zstd gains nothing on {}.", report.data));
  }
  return out;
}

std::vector<std::string> thresholds_of(const BenchReport& report) {
  const BenchedPath* console = find_lane(report, "console");
  if (console == nullptr || find_lane(report, "vchan") == nullptr) return {};
  // A stream is bulk when it would have the console busy for a fourth of the time; and what waits
  // is bulk when whoever comes behind it would have to wait for 20 ms.
  constexpr double share_of_second = 0.25;
  constexpr double patience_s = 0.02;
  const auto kib = [](double bytes, std::uint64_t most) {
    const auto rounded = static_cast<std::uint64_t>(std::llround(bytes / 1024));
    return std::clamp<std::uint64_t>(rounded, 1, most);
  };
  const double rate = fastest(*console);
  return {"[lanes]", fmt::format("backlog_bytes = \"{}KiB\"", kib(rate * patience_s, 64)),
          fmt::format("volume_bytes = \"{}KiB\"", kib(rate * share_of_second, 1024 * 1024))};
}

}  // namespace xenlane::bridge::cli

#include "bridge/cli/bench/print.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/units.hpp"
#include "bridge/cli/table.hpp"

namespace xenlane::bridge::cli {
namespace {

constexpr std::size_t bar_columns = 40;

Cell right(std::string text) {
  return {std::move(text), Colour::none, true};
}

/// The median, and how far the rounds were from it.
std::string with_spread(const Spread& spread) {
  if (spread.median <= 0) return "-";
  const double off = std::max(spread.high - spread.median, spread.median - spread.low);
  return fmt::format("{} +-{:.0f}%", rate_in_words(spread.median), 100 * off / spread.median);
}

std::string plain(double value) {
  return value < 10 ? fmt::format("{:.2f}", value) : fmt::format("{:.0f}", value);
}

void print_figures(std::FILE* out, const BenchedPath& path, bool with_colours) {
  const std::vector<Cell> head{right("MESSAGE"), right("TO"),       right("FROM"),
                               right("BOTH"),    right("A SECOND"), right("P50"),
                               right("P90"),     right("P99"),      right("P99.9")};
  std::vector<std::vector<Cell>> rows;
  for (const BenchPoint& point : path.points) {
    const RoundTrips& trips = point.round_trips;
    rows.push_back({right(bytes_in_words(point.size)), right(with_spread(point.to)),
                    right(with_spread(point.from)),
                    right(with_spread(point.both.value_or(Spread{}))),
                    right(fmt::format("{:.0f}", point.messages_per_second())),
                    right(time_in_words(trips.p50_us.median)), right(time_in_words(trips.p90_us)),
                    right(time_in_words(trips.p99_us)), right(time_in_words(trips.p999_us))});
  }
  print_table(out, head, rows, with_colours);
}

void print_costs(std::FILE* out, const BenchedPath& path, bool with_colours) {
  const bool packs = std::ranges::any_of(
      path.points, [](const BenchPoint& point) { return point.packs_into.has_value(); });
  std::vector<Cell> head{right("MESSAGE"), right("CPU s/GB HERE"), right("CPU s/GB THERE"),
                         right("WAKE-UPS/MB"), right("NOTIFIES/MB")};
  if (packs) head.push_back(right("PACKED"));
  std::vector<std::vector<Cell>> rows;
  for (const BenchPoint& point : path.points) {
    const Cost cost = point.cost.value_or(Cost{});
    rows.push_back({right(bytes_in_words(point.size)), right(plain(cost.near_cpu_s_per_gb)),
                    right(plain(cost.far_cpu_s_per_gb)), right(plain(cost.wake_ups_per_mb)),
                    right(plain(cost.notifications_per_mb))});
    if (packs) rows.back().push_back(right(point.packs_into ? plain(*point.packs_into) : "-"));
  }
  print_table(out, head, rows, with_colours);
}

void print_path(std::FILE* out, const BenchedPath& path, bool with_colours) {
  fmt::print(out, "\n{}{}\n", escape_untrusted(path.name),
             path.is_lane ? fmt::format(", rings of {} to send and {} to receive",
                                        bytes_in_words(path.send_ring_bytes),
                                        bytes_in_words(path.receive_ring_bytes))
                          : std::string());
  print_figures(out, path, with_colours);
  if (!path.is_lane) return;
  fmt::print(out, "\n");
  print_costs(out, path, with_colours);
}

/// A logarithmic bar: paths differ by orders of magnitude.
std::string bar(double value, double least, double most) {
  if (value <= 0 || most <= least) return {};
  const double share = std::log(value / least) / std::log(most / least);
  return std::string(1 + static_cast<std::size_t>(share * (bar_columns - 1)), '#');
}

/// The figure that `of` takes from a point, for all paths side by side.
template <typename Of, typename InWords>
void print_bars(std::FILE* out, const char* title, const BenchReport& report, Of of,
                InWords in_words) {
  std::size_t name_columns = 0;
  double least = std::numeric_limits<double>::max();
  double most = 0;
  for (const BenchedPath& path : report.paths) {
    name_columns = std::max(name_columns, escape_untrusted(path.name).size());
    for (const BenchPoint& point : path.points) {
      if (of(point) <= 0) continue;
      least = std::min(least, of(point));
      most = std::max(most, of(point));
    }
  }
  if (most <= 0) return;
  fmt::print(out, "\n{}, each column of a bar the same factor\n", title);
  for (std::size_t i = 0; i < report.paths.front().points.size(); ++i) {
    fmt::print(out, "{}\n", bytes_in_words(report.paths.front().points[i].size));
    for (const BenchedPath& path : report.paths) {
      if (path.points.size() <= i) continue;
      const double value = of(path.points[i]);
      fmt::print(out, "  {:<{}} {:<{}} {}\n", escape_untrusted(path.name), name_columns,
                 bar(value, least, most), bar_columns, in_words(value));
    }
  }
}

/// An entry for each doubling: the report has four, which would be many lines.
std::vector<std::pair<double, std::uint64_t>> by_doublings(const RoundTrips& trips) {
  std::vector<std::pair<double, std::uint64_t>> out;
  for (const auto& [up_to_us, count] : trips.histogram) {
    const double up_to = std::exp2(std::ceil(std::log2(up_to_us) - 1e-6));
    if (out.empty() || out.back().first != up_to) out.emplace_back(up_to, 0);
    out.back().second += count;
  }
  return out;
}

/// How round trips of the smallest message were spread, on each lane.
void print_histograms(std::FILE* out, const BenchReport& report) {
  for (const BenchedPath& path : report.paths) {
    if (!path.is_lane || path.points.empty()) continue;
    const BenchPoint& point = path.points.front();
    const auto histogram = by_doublings(point.round_trips);
    std::uint64_t most = 1;
    for (const auto& [up_to_us, count] : histogram) most = std::max(most, count);
    fmt::print(out, "\nround trips of {} over {}, how many took up to\n",
               bytes_in_words(point.size), escape_untrusted(path.name));
    for (const auto& [up_to_us, count] : histogram) {
      const std::size_t columns = (count * bar_columns + most - 1) / most;
      fmt::print(out, "  {:>8} {:<{}} {}\n", time_in_words(up_to_us), std::string(columns, '#'),
                 bar_columns, count);
    }
  }
}

}  // namespace

void print_report(std::FILE* out, const BenchReport& report, bool with_colours) {
  fmt::print(out, "{}, Linux {}, {} processors, guest {}; {} rounds of {} ms, messages of {}\n",
             escape_untrusted(report.hypervisor), escape_untrusted(report.kernel),
             report.processors, escape_untrusted(report.guest), report.rounds, report.time_ms,
             escape_untrusted(report.data));
  for (const BenchedPath& path : report.paths) print_path(out, path, with_colours);
  print_bars(
      out, "to the service", report, [](const BenchPoint& point) { return point.to.median; },
      rate_in_words);
  print_bars(
      out, "there and back", report,
      [](const BenchPoint& point) { return point.round_trips.p50_us.median; }, time_in_words);
  print_histograms(out, report);
  fmt::print(out, "\n");
  for (const std::string& note : report.notes) fmt::print(out, "{}\n", note);
  for (const std::string& sentence : verdict_of(report)) fmt::print(out, "{}\n", sentence);
}

}  // namespace xenlane::bridge::cli

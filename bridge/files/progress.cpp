#include "bridge/files/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace xenlane::bridge::files {

void Rate::at(TimePoint now, std::uint64_t bytes) {
  points_.push_back({now, bytes});
  while (points_.size() > 2 && now - points_.front().time > remembered) points_.pop_front();
}

double Rate::bytes_per_second() const {
  if (points_.size() < 2) return 0;
  const std::chrono::duration<double> took = points_.back().time - points_.front().time;
  if (took.count() < 0.01) return 0;
  return static_cast<double>(points_.back().bytes - points_.front().bytes) / took.count();
}

std::uint64_t bytes_through(const Counts& counts) {
  return std::min(counts.bytes, counts.bytes_sent + counts.bytes_reused + counts.bytes_same);
}

std::optional<std::uint64_t> seconds_left(const Counts& counts, double bytes_per_second) {
  if (!counts.all_found || bytes_per_second < 1) return std::nullopt;
  const auto left = static_cast<double>(counts.bytes - bytes_through(counts));
  // The peer says how much there is: it may be more than fits.
  return static_cast<std::uint64_t>(std::min(left / bytes_per_second + 0.5, 1e18));
}

std::string in_units(double bytes) {
  constexpr std::array<const char*, 6> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string progress_line(const Counts& counts, double bytes_per_second) {
  const std::uint64_t through = bytes_through(counts);
  const std::uint64_t percent =
      counts.bytes == 0 ? 100
                        : static_cast<std::uint64_t>(100 * static_cast<double>(through) /
                                                     static_cast<double>(counts.bytes));
  std::string left = "-:--:--";
  if (const auto seconds = seconds_left(counts, bytes_per_second)) {
    left = fmt::format("{}:{:02}:{:02}", *seconds / 3600, *seconds / 60 % 60, *seconds % 60);
  }
  return fmt::format("{:>12} {:>3}% {:>12}/s {:>9}  ({} of {}{})",
                     in_units(static_cast<double>(through)), percent, in_units(bytes_per_second),
                     left, counts.copied + counts.same + counts.failed, counts.entries,
                     counts.all_found ? "" : "+");
}

}  // namespace xenlane::bridge::files

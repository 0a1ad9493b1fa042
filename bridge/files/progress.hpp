// How far a transfer is, in one line, and how fast it has been of late. No clock, no I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "bridge/files/report.hpp"

namespace xenlane::bridge::files {

/// Bytes a second over the last few seconds.
class Rate {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds remembered{5};

  void at(TimePoint now, std::uint64_t bytes);
  /// 0 until two points are far enough apart.
  double bytes_per_second() const;

 private:
  struct Point {
    TimePoint time;
    std::uint64_t bytes;
  };
  std::deque<Point> points_;
};

/// Bytes of content that need no more looking after, of `counts.bytes`.
std::uint64_t bytes_through(const Counts& counts);

/// Seconds that are left at this rate; nothing while that cannot be said.
std::optional<std::uint64_t> seconds_left(const Counts& counts, double bytes_per_second);

/// "1.2 GiB", with binary prefixes.
std::string in_units(double bytes);

/// "     1.2 GiB  34%  812.3 MiB/s  0:00:12  (1234 of 20000)", as rsync --info=progress2 has it;
/// the last number is open while more is being found ("20000+").
std::string progress_line(const Counts& counts, double bytes_per_second);

}  // namespace xenlane::bridge::files

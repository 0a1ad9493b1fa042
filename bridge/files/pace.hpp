// How long a sender has to wait so as not to send more than so many bytes a second. No clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace xenlane::bridge::files {

class Pace {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::nanoseconds;

  /// Whoever has been idle may not make up for more than this.
  static constexpr std::chrono::milliseconds slack{100};

  explicit Pace(std::uint64_t bytes_per_second_max) : rate_(bytes_per_second_max) {}

  /// After so many bytes were sent: how long to wait before the next.
  Duration sent(std::uint64_t bytes, TimePoint now) {
    if (rate_ == 0) return Duration::zero();
    due_ = std::max(due_, now - slack);
    due_ += Duration(
        static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate_)));
    return std::max(Duration::zero(), Duration(due_ - now));
  }

 private:
  std::uint64_t rate_;
  TimePoint due_{};
};

}  // namespace xenlane::bridge::files

// How many vchans of one guest the host attaches to within a minute. Each costs it mappings, an
// event channel and work in xenstored, and a guest can offer one after another for nothing.
//
// Policy only: time is a parameter.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace xenlane::host {

class RingBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  explicit RingBudget(std::uint32_t per_minute)
      : share_(std::chrono::duration_cast<Duration>(std::chrono::minutes(1)) / per_minute),
        most_(share_ * per_minute) {}

  /// How long to wait before the next one.
  Duration wait(Time now) const {
    return std::max(spent_until_ - (now + most_ - share_), Duration(0));
  }
  /// One was attached to.
  void spend(Time now) { spent_until_ = std::max(spent_until_, now) + share_; }

 private:
  Duration share_;  ///< what one of them takes of the minute
  Duration most_;
  Time spent_until_{};  ///< when all that were attached to are paid for
};

}  // namespace xenlane::host

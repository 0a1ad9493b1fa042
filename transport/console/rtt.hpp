// How long an answer takes and how long to wait for one: RFC 6298, with its own limits, and
// doubling at every other try only: a console loses bytes, but not because there are too many. No
// clock.
#pragma once

#include <algorithm>
#include <chrono>

namespace xenlane::transport {

/// Below it a busy machine looks like a loss. Nobody delays acknowledgements here for longer than a
/// look away (input_pause.hpp), so it may be far less than TCP's: where much is lost, it is what a
/// transfer waits for.
inline constexpr std::chrono::milliseconds link_retry_min{30};
/// Doubling stops here, unless an answer usually takes longer.
inline constexpr std::chrono::milliseconds link_backoff_max{1000};
/// How long the guest waits first before it asks again for a link.
inline constexpr std::chrono::milliseconds link_opening_retry{200};
/// Above it a healed channel would stand still for too long.
inline constexpr std::chrono::milliseconds link_retry_max{5000};

class RoundTrip {
 public:
  using Duration = std::chrono::microseconds;

  void sample(Duration took) {
    if (!known_) {
      smoothed_ = took;
      variation_ = took / 2;
      known_ = true;
      return;
    }
    const Duration off = smoothed_ > took ? smoothed_ - took : took - smoothed_;
    variation_ = (3 * variation_ + off) / 4;
    smoothed_ = (7 * smoothed_ + took) / 8;
  }

  /// Zero as long as nothing was measured.
  Duration smoothed() const { return smoothed_; }
  /// An answer that is to come has come by then, usually.
  Duration usual_max() const { return known_ ? smoothed_ + 4 * variation_ : Duration(first_wait); }
  /// How long to wait before sending again for the `tries`-th time, counted from 0.
  Duration retry_after(unsigned tries) const {
    Duration wait = std::clamp<Duration>(usual_max(), link_retry_min, link_retry_max);
    const Duration most = std::max<Duration>(wait, link_backoff_max);
    for (; tries > 1 && wait < most; tries -= 2) wait *= 2;
    return std::min(wait, most);
  }

 private:
  static constexpr std::chrono::milliseconds first_wait{1000};

  Duration smoothed_{0};
  Duration variation_{0};
  bool known_ = false;
};

}  // namespace xenlane::transport

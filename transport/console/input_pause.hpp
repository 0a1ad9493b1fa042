// How long to leave input alone while a frame comes in: a console hands over a KiB or two at a time
// and wakes its reader for each, which costs more than such a piece is worth. Interrupt moderation,
// as network drivers have it: by the rate of late, so long that a few pieces have come. No clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

namespace xenlane::transport {

class InputPause {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::microseconds;

  /// What a small message that comes behind may have to wait.
  static constexpr Duration longest{10'000};

  /// `enough_bytes` is what one look should find.
  explicit InputPause(std::size_t enough_bytes) : enough_bytes_(enough_bytes) {}

  /// After each look: what it found, and whether more of the same is on its way.
  void looked(std::size_t bytes, bool more, TimePoint now) {
    const auto took = std::chrono::duration_cast<Duration>(now - looked_at_);
    looked_at_ = now;
    if (!std::exchange(more_, more) || !more || bytes == 0) {
      current_ = Duration::zero();
      return;
    }
    const Duration wanted = took * enough_bytes_ / bytes;
    // For the next piece alone there is no need to look away.
    current_ =
        bytes >= enough_bytes_ || wanted <= longest ? std::min(wanted, longest) : Duration::zero();
  }

  /// Zero: wait for input itself.
  Duration current() const { return current_; }

 private:
  std::size_t enough_bytes_;
  TimePoint looked_at_{};
  bool more_ = false;  ///< at the last look
  Duration current_{0};
};

}  // namespace xenlane::transport

// How fast bytes arrive, told where they arrive. No I/O, no clock.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace xenlane::bridge {

/// Counts from one arrival to another, both well within the transfer, and not the bytes of the
/// first: so it matters neither what lay in buffers nor how large the pieces are.
class ArrivalMeter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  ArrivalMeter(std::chrono::milliseconds warm, std::chrono::milliseconds time)
      : warm_(warm), time_(time) {}

  /// So many bytes have come; false when no more are wanted.
  bool add(std::size_t bytes, Time now) {
    if (!first_) first_ = now;
    if (now < *first_ + warm_) return true;
    if (!begin_) {
      begin_ = end_ = now;
      return true;
    }
    bytes_ += bytes;
    end_ = now;
    return now < *begin_ + time_;
  }

  std::uint64_t bytes() const { return bytes_; }
  std::chrono::microseconds took() const {
    if (!begin_) return {};
    return std::chrono::duration_cast<std::chrono::microseconds>(end_ - *begin_);
  }
  double seconds() const { return std::chrono::duration<double>(took()).count(); }

 private:
  std::chrono::milliseconds warm_;
  std::chrono::milliseconds time_;
  std::optional<Time> first_;
  std::optional<Time> begin_;
  Time end_;
  std::uint64_t bytes_ = 0;
};

}  // namespace xenlane::bridge

// How much a peer may make this side log: a burst of lines and then one a second. What is kept back
// is counted, and the next line tells how many it were.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace xenlane::bridge {

class LogBudget {
 public:
  using Clock = std::chrono::steady_clock;

  /// Whether a line may be logged now; takes it from the budget, or counts it as kept back.
  bool allows(Clock::time_point now = Clock::now());
  /// For the end of a line that was allowed: how many before it were not, if any.
  std::string note();

 private:
  static constexpr unsigned burst_lines = 8;
  static constexpr std::chrono::seconds line_every{1};

  unsigned lines_left_ = burst_lines;
  Clock::time_point refilled_{};
  std::uint64_t kept_back_ = 0;
};

}  // namespace xenlane::bridge

#include "bridge/session/poll_budget.hpp"

#include <algorithm>

namespace xenlane::bridge {

namespace {

/// The first budget after none: about what it takes to wake a sleeper.
constexpr std::chrono::microseconds budget_start{10};

/// Short sleeps to let pass after having been crowded out, so that the one in this many that might
/// be late again does not matter.
constexpr std::uint32_t sit_out_sleeps = 256;

}  // namespace

void PollBudget::found_asleep(Duration idle) {
  ++(current_ > Duration::zero() ? counters_.missed : counters_.unlooked);
  if (idle > max_) {
    current_ = Duration::zero();
  } else if (sit_out_ > 0) {
    --sit_out_;
  } else {
    current_ = std::min(max_, std::max<Duration>(budget_start, current_ * 2));
  }
}

void PollBudget::crowded_out() {
  current_ = Duration::zero();
  sit_out_ = sit_out_sleeps;
}

}  // namespace xenlane::bridge

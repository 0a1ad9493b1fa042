#include "bridge/channel/log_budget.hpp"

#include <algorithm>
#include <utility>

namespace xenlane::bridge {

bool LogBudget::allows(Clock::time_point now) {
  const auto earned = (now - refilled_) / line_every;
  if (earned > 0) {
    lines_left_ = static_cast<unsigned>(
        std::min<Clock::rep>(burst_lines, static_cast<Clock::rep>(lines_left_) + earned));
    refilled_ = now;
  }
  if (lines_left_ == 0) {
    ++kept_back_;
    return false;
  }
  --lines_left_;
  return true;
}

std::string LogBudget::note() {
  const std::uint64_t count = std::exchange(kept_back_, 0);
  return count == 0 ? "" : " (" + std::to_string(count) + " more were not logged)";
}

}  // namespace xenlane::bridge

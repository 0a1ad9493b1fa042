// What a report has to show, as ratios: `xenlane bench --check FILE`. Absolute figures differ from
// machine to machine and from hour to hour; two paths in one run do not.
//
//   [[budget]]
//   figure = "to"             # or "from", "both", "round_trip" (its median)
//   size = "64K"
//   path = "vchan"            # this one's figure,
//   over = "two socats"       # divided by that one's,
//   at_least = 1.3            # is at least so much; or at_most
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/cli/bench/report.hpp"

namespace xenlane::bridge::cli {

enum class BenchFigure : std::uint8_t { to, from, both, round_trip };

struct BenchBudget {
  int line = 0;  ///< in its file
  BenchFigure figure = BenchFigure::to;
  std::uint64_t size = 0;
  std::string path;
  std::string over;
  std::optional<double> at_least;
  std::optional<double> at_most;
};

struct BenchBudgets {
  std::vector<BenchBudget> budgets;
  std::vector<std::string> errors;  ///< all of them, each with its line
};

/// `text` is TOML; `name` is what errors call it.
BenchBudgets parse_budgets(std::string_view text, const std::string& name);

/// One for each budget.
struct BenchOutcome {
  std::string text;  ///< one line: what was wanted, and what is
  bool kept = false;
};

/// A path or size that was not measured is a budget that is not kept.
std::vector<BenchOutcome> check_budgets(const BenchReport& report,
                                        const std::vector<BenchBudget>& budgets);

}  // namespace xenlane::bridge::cli

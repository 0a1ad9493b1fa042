#include "bridge/cli/bench/budget.hpp"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <array>

#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/units.hpp"

namespace xenlane::bridge::cli {
namespace {

constexpr std::array<std::string_view, 4> figure_names{"to", "from", "both", "round_trip"};

std::string_view name_of(BenchFigure figure) {
  return figure_names[static_cast<std::size_t>(figure)];
}

/// Reads one [[budget]]; what is wrong goes to `errors`.
class BudgetReader {
 public:
  BudgetReader(const std::string& file, std::vector<std::string>& errors)
      : file_(file), errors_(errors) {}

  std::optional<BenchBudget> read(const toml::table& table) {
    const std::size_t errors_before = errors_.size();
    BenchBudget out;
    out.line = static_cast<int>(table.source().begin.line);
    for (const auto& [key, node] : table) read_member(key.str(), node, out);
    if (out.path.empty()) fail(table, "there is no path");
    if (out.over.empty()) fail(table, "there is no path that it is compared with (over)");
    if (out.size == 0) fail(table, "there is no size");
    if (!out.at_least && !out.at_most) fail(table, "there is neither at_least nor at_most");
    if (errors_.size() != errors_before) return std::nullopt;
    return out;
  }

  void fail(const toml::node& node, const std::string& what) {
    errors_.push_back(fmt::format("{}:{}: {}", file_, node.source().begin.line, what));
  }

 private:
  void read_member(std::string_view key, const toml::node& node, BenchBudget& out) {
    const auto text = node.value<std::string>();
    const auto number = node.value<double>();
    if (key == "path" && text) {
      out.path = *text;
    } else if (key == "over" && text) {
      out.over = *text;
    } else if (key == "figure" && text) {
      const auto* const found = std::ranges::find(figure_names, *text);
      if (found == figure_names.end()) {
        return fail(node, "figure is \"to\", \"from\", \"both\" or \"round_trip\"");
      }
      out.figure = static_cast<BenchFigure>(found - figure_names.begin());
    } else if (key == "size" && text) {
      const auto size = parse_bytes(*text);
      if (!size) return fail(node, size.error().text);
      out.size = *size;
    } else if (key == "at_least" && number) {
      out.at_least = *number;
    } else if (key == "at_most" && number) {
      out.at_most = *number;
    } else {
      fail(node,
           fmt::format("'{}' is not known here, or of another type", escape_untrusted(key, 40)));
    }
  }

  const std::string& file_;
  std::vector<std::string>& errors_;
};

double figure_of(const BenchPoint& point, BenchFigure figure) {
  switch (figure) {
    case BenchFigure::to:
      return point.to.median;
    case BenchFigure::from:
      return point.from.median;
    case BenchFigure::both:
      return point.both.value_or(Spread{}).median;
    case BenchFigure::round_trip:
      return point.round_trips.p50_us.median;
  }
  return 0;
}

std::optional<double> find_figure(const BenchReport& report, const BenchBudget& budget,
                                  const std::string& name) {
  const auto path = std::ranges::find(report.paths, name, &BenchedPath::name);
  if (path == report.paths.end()) return std::nullopt;
  const auto point = std::ranges::find(path->points, budget.size, &BenchPoint::size);
  if (point == path->points.end()) return std::nullopt;
  const double value = figure_of(*point, budget.figure);
  return value > 0 ? std::optional(value) : std::nullopt;
}

BenchOutcome check(const BenchReport& report, const BenchBudget& budget) {
  std::string wanted =
      fmt::format("{} of {}, {} over {}", name_of(budget.figure), bytes_in_words(budget.size),
                  escape_untrusted(budget.path), escape_untrusted(budget.over));
  if (budget.at_least) wanted += fmt::format(", at least {}", *budget.at_least);
  if (budget.at_most) wanted += fmt::format(", at most {}", *budget.at_most);
  const auto one = find_figure(report, budget, budget.path);
  const auto other = find_figure(report, budget, budget.over);
  if (!one || !other) return {wanted + ": was not measured", false};
  const double ratio = *one / *other;
  const bool kept = ratio >= budget.at_least.value_or(0) &&
                    ratio <= budget.at_most.value_or(std::numeric_limits<double>::max());
  return {fmt::format("{}: {:.2f}", wanted, ratio), kept};
}

}  // namespace

BenchBudgets parse_budgets(std::string_view text, const std::string& name) {
  BenchBudgets out;
  const std::string shown = escape_untrusted(name, 200);
  toml::parse_result parsed = [&] {
    try {
      return toml::parse_result(toml::parse(text));
    } catch (const toml::parse_error& error) {
      out.errors.push_back(fmt::format("{}:{}: {}", shown, error.source().begin.line,
                                       escape_untrusted(error.description(), 200)));
      return toml::parse_result();
    }
  }();
  BudgetReader reader(shown, out.errors);
  for (const auto& [key, node] : parsed) {
    const toml::array* const tables = key.str() == "budget" ? node.as_array() : nullptr;
    if (tables == nullptr) {
      reader.fail(node, "there is only [[budget]] here");
      continue;
    }
    for (const toml::node& entry : *tables) {
      const toml::table* const table = entry.as_table();
      if (table == nullptr) {
        reader.fail(entry, "there is only [[budget]] here");
      } else if (auto budget = reader.read(*table)) {
        out.budgets.push_back(std::move(*budget));
      }
    }
  }
  if (out.budgets.empty() && out.errors.empty()) {
    out.errors.push_back(shown + ": there is no [[budget]]");
  }
  return out;
}

std::vector<BenchOutcome> check_budgets(const BenchReport& report,
                                        const std::vector<BenchBudget>& budgets) {
  std::vector<BenchOutcome> out;
  for (const BenchBudget& budget : budgets) out.push_back(check(report, budget));
  return out;
}

}  // namespace xenlane::bridge::cli

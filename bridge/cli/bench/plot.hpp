// A report as a picture, drawn by gnuplot.
#pragma once

#include <string>

#include "bridge/cli/bench/report.hpp"

namespace xenlane::bridge::cli {

/// What gnuplot is given: throughput and round trips over message size, both axes logarithmic, all
/// paths, with the rounds' spread. `file` ends in .svg or .png. No I/O.
std::string plot_script(const BenchReport& report, const std::string& file);

/// Draws it. Throws std::runtime_error with one line, also when there is no gnuplot.
void draw_plot(const BenchReport& report, const std::string& file);

}  // namespace xenlane::bridge::cli

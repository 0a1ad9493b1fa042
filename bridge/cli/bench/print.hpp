// A report for people: a table for each path, bars, and what follows in words.
#pragma once

#include <cstdio>

#include "bridge/cli/bench/report.hpp"

namespace xenlane::bridge::cli {

void print_report(std::FILE* out, const BenchReport& report, bool with_colours);

}  // namespace xenlane::bridge::cli

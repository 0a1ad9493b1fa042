#include "bridge/cli/bench/plot.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/units.hpp"

namespace xenlane::bridge::cli {
namespace {

constexpr int width = 800;
constexpr int height = 1300;

/// For gnuplot's single quotes.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : escape_untrusted(text, 200)) {
    if (c == '\'') out += '\'';
    out += c;
  }
  return out + "'";
}

/// The figures of a path by message size, and how its round trips of the smallest were spread.
std::string data_blocks(const BenchedPath& path, std::size_t number) {
  std::string out = fmt::format("$path{} << END\n", number);
  for (const BenchPoint& point : path.points) {
    out += fmt::format("{} {} {} {} {} {} {}\n", point.size, point.to.median / 1e6,
                       point.to.low / 1e6, point.to.high / 1e6, point.round_trips.p50_us.median,
                       point.round_trips.p50_us.low, point.round_trips.p50_us.high);
  }
  out += fmt::format("END\n$spread{} << END\n", number);
  const auto& histogram = path.points.front().round_trips.histogram;
  double all = 0;
  for (const auto& [up_to_us, count] : histogram) all += static_cast<double>(count);
  double drawn_to = 0;
  for (const auto& [up_to_us, count] : histogram) {
    const double from_us = up_to_us / std::exp2(1 / histogram_steps_per_doubling);
    const bool is_gap = drawn_to > 0 && from_us > drawn_to * 1.001;
    if (is_gap) out += fmt::format("{} 0\n", drawn_to);
    if (is_gap || drawn_to == 0) out += fmt::format("{} 0\n", from_us);
    out += fmt::format("{} {}\n", up_to_us, 100 * static_cast<double>(count) / all);
    drawn_to = up_to_us;
  }
  return out + fmt::format("{} 0\nEND\n", drawn_to);
}

/// A curve for each path: of its block so named, by these columns and in this way.
std::string curves(const BenchReport& report, const char* block, const char* how) {
  std::string out = "plot ";
  for (std::size_t i = 0; i < report.paths.size(); ++i) {
    if (i > 0) out += ", \\\n     ";
    out += fmt::format("${}{} using {} linestyle {} title {}", block, i, how, i + 1,
                       quoted(report.paths[i].name));
  }
  return out + "\n";
}

std::string styles(std::size_t count) {
  // Of Okabe and Ito's colours, which everybody can tell apart.
  constexpr std::array colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                               "#e69f00", "#56b4e9", "#000000"};
  constexpr std::array points{7, 5, 9, 11, 13, 6, 4};
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += fmt::format("set style line {} linewidth 2 pointtype {} pointsize 0.7 linecolor '{}'\n",
                       i + 1, points[i % points.size()], colours[i % colours.size()]);
  }
  return out;
}

}  // namespace

std::string plot_script(const BenchReport& report, const std::string& file) {
  const bool is_png = file.ends_with(".png");
  std::string out = fmt::format(
      "set terminal {} size {},{} {}\nset output {}\n", is_png ? "pngcairo" : "svg", width, height,
      is_png ? "font 'sans,11'" : "font 'sans,13' background '#ffffff'", quoted(file));
  for (std::size_t i = 0; i < report.paths.size(); ++i) out += data_blocks(report.paths[i], i);
  out += styles(report.paths.size());
  out += fmt::format(
      "set multiplot layout 3,1 title {}\n"
      "set logscale xy\nset grid\nset key outside bottom center horizontal\n"
      "set lmargin 10\nset bmargin 6\n"
      "set format y '%g'\n"
      "set xtics ('16' 16, '64' 64, '256' 256, '1 KiB' 1024, '4 KiB' 4096, '16 KiB' 16384, "
      "'64 KiB' 65536, '256 KiB' 262144, '1 MiB' 1048576)\n",
      quoted(fmt::format("xenlane bench: {}, Linux {}, {}: medians and spread of {} rounds",
                         report.hypervisor, report.kernel, report.data, report.rounds)));
  out += "set xlabel 'message size'\nset ylabel 'throughput to the service, MB/s'\n" +
         curves(report, "path", "1:2:3:4 with yerrorlines");
  out += "set ylabel 'round trip, median, microseconds'\n" +
         curves(report, "path", "1:5:6:7 with yerrorlines");
  out += fmt::format(
      "unset logscale y\nset xtics auto\nset format x '%g'\nset yrange [0:*]\n"
      "set xlabel 'round trip of {}, microseconds'\nset ylabel 'share of all, %'\n",
      bytes_in_words(report.paths.front().points.front().size));
  out += curves(report, "spread", "1:2 with fsteps");
  return out + "unset multiplot\n";
}

void draw_plot(const BenchReport& report, const std::string& file) {
  if (report.paths.empty() || report.paths.front().points.empty()) {
    throw std::runtime_error(file + ": the report has no figures to draw");
  }
  const std::string script = plot_script(report, file);
  std::FILE* const gnuplot = ::popen("gnuplot", "w");
  if (gnuplot == nullptr) throw std::runtime_error("gnuplot cannot be started");
  std::fwrite(script.data(), 1, script.size(), gnuplot);
  const int status = ::pclose(gnuplot);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    throw std::runtime_error(file + ": there is no gnuplot; install gnuplot-nox");
  }
  if (status != 0) throw std::runtime_error(file + ": gnuplot has failed");
}

}  // namespace xenlane::bridge::cli

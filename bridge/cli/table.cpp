#include "bridge/cli/table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace xenlane::bridge::cli {
namespace {

std::string padded(const Cell& cell, std::size_t width, bool is_last) {
  if (cell.right) return fmt::format("{:>{}}", cell.text, width);
  // Nothing follows the last column, and blanks at a line's end help nobody.
  return is_last ? cell.text : fmt::format("{:<{}}", cell.text, width);
}

void print_row(std::FILE* out, const std::vector<Cell>& row, const std::vector<std::size_t>& widths,
               bool with_colours, const char* style) {
  std::string line;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (i > 0) line += "  ";
    const char* colour = row[i].colour == Colour::good  ? "\033[32m"
                         : row[i].colour == Colour::bad ? "\033[31m"
                                                        : style;
    const bool coloured = with_colours && *colour != '\0';
    if (coloured) line += colour;
    line += padded(row[i], widths[i], i + 1 == row.size());
    if (coloured) line += "\033[0m";
  }
  fmt::print(out, "{}\n", line);
}

}  // namespace

void print_table(std::FILE* out, const std::vector<Cell>& head,
                 const std::vector<std::vector<Cell>>& rows, bool with_colours) {
  std::vector<std::size_t> widths;
  for (const Cell& cell : head) widths.push_back(cell.text.size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].text.size());
    }
  }
  print_row(out, head, widths, with_colours, "\033[1m");
  for (const auto& row : rows) print_row(out, row, widths, with_colours, "");
}

}  // namespace xenlane::bridge::cli

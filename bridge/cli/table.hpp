// A plain table: aligned columns, the widest cell decides, bold head on request.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace xenlane::bridge::cli {

enum class Colour { none, good, bad };

struct Cell {
  std::string text;  ///< printable ASCII, one line
  Colour colour = Colour::none;
  bool right = false;  ///< align to the right, for numbers
};

/// Prints `rows` under `head`. Colours are escape sequences around the padded cell.
void print_table(std::FILE* out, const std::vector<Cell>& head,
                 const std::vector<std::vector<Cell>>& rows, bool with_colours);

}  // namespace xenlane::bridge::cli

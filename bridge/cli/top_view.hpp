// What `xenlane top` shows, made of two looks at the daemons and the forwards. No terminal in here.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <string>
#include <vector>

namespace xenlane::bridge::cli {

/// One look. Texts in it are other processes' words.
struct TopSample {
  std::chrono::steady_clock::time_point at{};
  boost::json::array guests;    ///< "guest", "state" and, if its bridge answers, its "status"
  boost::json::array forwards;  ///< as of forwards_here()
  std::string trouble;          ///< why there is nothing to see, for the user
};

/// Counts of one thing, and bytes a second between two looks.
struct TopRow {
  std::string guest;
  std::string name;   ///< of a channel, or a forward as it was written
  std::string state;  ///< of a guest's session, or of a forward
  std::string lane;
  std::uint64_t open = 0;
  std::uint64_t opened = 0;
  double in_per_second = 0;
  double out_per_second = 0;
};

struct TopView {
  std::vector<TopRow> guests;
  std::vector<TopRow> channels;  ///< that are in use, the busiest first
  std::vector<TopRow> forwards;
  std::string trouble;
};

/// A counter that is less than it was has begun anew.
TopView top_view(const TopSample& before, const TopSample& now);

/// At most `rows_max` lines of at most `columns_max`, escaped; 0: all there is.
std::vector<std::string> top_lines(const TopView& view, std::size_t rows_max,
                                   std::size_t columns_max);

boost::json::object top_json(const TopView& view);

/// "12.3 MiB/s"
std::string format_rate(double bytes_per_second);

}  // namespace xenlane::bridge::cli

// A guest's lane, held for as long as an object lives (docs/control.md, hold-lane).
#pragma once

#include <chrono>
#include <string>

#include "bridge/cli/query.hpp"

namespace xenlane::bridge::cli {

struct LaneHold {
  transport::UniqueFd connection;

  /// The daemon has let go of it.
  bool was_let_go() const;
};

/// `lane` is auto, vchan or console. Returns when `guest` has it, or with a failure when it has not
/// after so long.
Answer<LaneHold> hold_lane(const Guest& guest, const std::string& lane,
                           std::chrono::seconds longest_wait);

}  // namespace xenlane::bridge::cli

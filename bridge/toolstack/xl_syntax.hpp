// The settings of an xl domain configuration, by the grammar of libxlutil
// (tools/libs/util/libxlu_cfg_y.y in Xen): `name = value` and `name += value`, a value being a
// text, a number or a list. What the settings mean is not known here.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/toolstack/findings.hpp"
#include "bridge/toolstack/xl_lexer.hpp"

namespace xenlane::bridge {

/// Most lists within lists; xl has no setting that needs more than two.
inline constexpr std::size_t xl_list_depth_max = 16;

struct XlValue {
  bool is_list = false;
  XlText text;                 ///< unless a list; else only the place
  std::vector<XlValue> items;  ///< of a list
};

/// A later setting replaces an earlier one of its name, `+=` adds to it.
using XlSettings = std::map<std::string, XlValue, std::less<>>;

/// Every fault is in `findings`; what could be read of the rest is returned.
XlSettings parse_xl(std::string_view untrusted, Findings& findings);

}  // namespace xenlane::bridge

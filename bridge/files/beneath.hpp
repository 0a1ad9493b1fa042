// Opens folders below another one without following a single link, whatever others do to the tree
// meanwhile.
#pragma once

#include <string>
#include <vector>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// The folder that these names lead to; `folder` itself, opened anew, if there are none. Each name
/// is one component, not "..". None with errno set: ELOOP or ENOTDIR where a link is in the way.
transport::UniqueFd open_beneath(int folder, const std::vector<std::string>& names);

}  // namespace xenlane::bridge::files

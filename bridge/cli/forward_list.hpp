// The forwards that run, found by their control sockets: listed, shown in `xenlane status`,
// stopped.
#pragma once

#include <boost/json.hpp>
#include <string>

#include "bridge/cli/context.hpp"

namespace xenlane::bridge::cli {

/// One object for each forward, as its process describes it, with that one's "id". Asks every
/// process, and so takes a while when one hangs.
boost::json::array forwards_here(const Context& context);

/// A table of them, or nothing when there are none and not `always`.
void print_forwards(const boost::json::array& forwards, bool always);

/// `xenlane forward --list` and `--stop`; exit codes.
int list_forwards(const Context& context, bool as_json);
int stop_forwards(const Context& context, const std::string& id);

}  // namespace xenlane::bridge::cli

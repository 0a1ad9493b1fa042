// Asks the daemons' control sockets who is here. In a guest, RUN_DIR/control answers for the one
// bridge; on the host it is the broker's, which knows each guest's own control socket. Replies are
// another process's words: every member is read by type, and shown only escaped.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bridge/cli/context.hpp"
#include "bridge/control/client.hpp"

namespace xenlane::bridge::cli {

/// One guest as the broker lists it, or the guest this is.
struct Guest {
  std::string name;
  std::uint64_t domid = 0;
  std::string state;
  std::string run_dir;  ///< where its named sockets are
  std::string control;
};

/// The answer of RUN_DIR/control.
struct Here {
  bool is_host = false;
  boost::json::object reply;
  std::vector<Guest> guests;  ///< in a guest: this one
};

/// A failed question, as a verb would end with it.
struct Failure {
  ExitCode code = exit_broken;
  std::string message;
};

/// A value or a failure; `failure` decides.
template <typename T>
struct Answer {
  T value{};
  std::optional<Failure> failure{};
};

/// The failure to report when the control socket at `path` did not answer.
Failure control_failure(const std::string& path, const ControlError& error);

/// Asks RUN_DIR/control.
Answer<Here> ask_here(const Context& context);

/// The guest of that name, or of that domain id. The failure names the guests there are.
Answer<Guest> find_guest(const Here& here, const std::string& name);

/// The status of the bridge that serves `guest`; in a guest without asking again.
Answer<boost::json::object> ask_bridge(const Here& here, const Guest& guest);

/// What was found out about one guest: its bridge's status, or why there is none.
struct GuestAnswer {
  Guest guest;
  Answer<boost::json::object> bridge;
};

struct Asked {
  bool is_host = false;
  std::vector<GuestAnswer> guests;
};

/// The status of every guest's bridge or, unless `only` is empty, of that guest's, which must
/// answer then.
Answer<Asked> ask_guests(const Context& context, const std::string& only);

/// For `--json`: the guests whose bridge did not answer, with `guest`, `state` and `error`.
boost::json::array unreachable(const Asked& asked);

/// The channels of a bridge's status that are objects.
std::vector<const boost::json::object*> channels_of(const boost::json::object& bridge);

}  // namespace xenlane::bridge::cli

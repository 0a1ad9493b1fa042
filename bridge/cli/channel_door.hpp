// Opens a channel's socket for a verb, and says well what went wrong. The control socket is asked
// before and after, when it may be, only for that: whoever may open a channel's socket need not be
// allowed to see the daemon's status.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bridge/cli/query.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {

/// A checked name, and a guest on the host.
struct Wanted {
  std::string name;
  std::string guest;
  std::string shown;  ///< GUEST/NAME or NAME, for messages
};

/// What the daemons said before the connection is made.
struct Known {
  std::string socket;
  std::string control;  ///< of the bridge; empty: it was not to be asked
  std::uint64_t bridge_pid = 0;
  transport::UniqueFd bridge_process;  ///< a pidfd; none where the kernel or a namespace denies it
  std::optional<Failure> unasked;      ///< why no daemon could be asked
};

/// A failure whose message begins with the channel's name.
Failure failure_about(const Wanted& wanted, ExitCode code, const std::string& text);

/// Asks who is here; a daemon that cannot be asked is no failure yet, a wrong name is.
Answer<Known> look_up(const Context& context, const Wanted& wanted);

/// The connected socket.
Answer<transport::UniqueFd> open_channel(const Known& known, const Wanted& wanted);

/// How this process's own connection ended, if the bridge says that it ended badly. The socket
/// alone cannot tell: to its reader a refusal and a broken stream look like the end of the data.
std::optional<Failure> bad_ending(const Known& known, const Wanted& wanted);

}  // namespace xenlane::bridge::cli

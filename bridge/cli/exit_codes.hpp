// The exit codes of xenlane and of both daemons. docs/cli.md documents them; scripts rely on them.
#pragma once

namespace xenlane::bridge {

enum ExitCode : int {
  exit_ok = 0,
  exit_broken = 1,          ///< a connection broke, or another failure while running
  exit_usage = 2,           ///< wrong arguments, invalid name
  exit_configuration = 3,   ///< configuration errors
  exit_unknown = 4,         ///< unknown channel or guest
  exit_refused = 5,         ///< the other side refused: target not there, or policy
  exit_no_daemon = 6,       ///< no daemon is running
  exit_not_permitted = 7,   ///< permission denied
  exit_no_xen = 8,          ///< there is no Xen here
  exit_too_few_grants = 9,  ///< not enough grants for even the smallest ring
  // Of `xenlane cp`, where the rest was copied all the same; of several the highest.
  exit_source = 10,         ///< something could not be read
  exit_changed = 11,        ///< something changed or vanished while it was being copied
  exit_destination = 12,    ///< something could not be written
  exit_no_space = 13,       ///< no space, or a quota is used up
  exit_refused_entry = 14,  ///< the receiver's rules did not let something in
  exit_mismatch = 15,       ///< something arrived with another digest
};

}  // namespace xenlane::bridge

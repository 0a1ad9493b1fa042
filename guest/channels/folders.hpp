// What xen-console-setup reads and makes in the file system: the consoles in sysfs, the placement
// of the last run, the links of the channels, and the marks that keep gettys away.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "guest/channels/placement.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::guest {

struct Folders {
  std::filesystem::path dev = "/dev";
  std::filesystem::path sys = "/sys";
  std::filesystem::path state = "/run/xen-channel";

  std::filesystem::path links() const { return dev / "xen-channel"; }
  std::filesystem::path tty(int number) const { return dev / ("hvc" + std::to_string(number)); }
};

/// The tty of a channel for who knows the number of its console: the channel's link where there is
/// one, because the numbers are only the same until something is unplugged.
std::filesystem::path tty_of_channel(const Folders& folders, const std::string& channel,
                                     int console_number);

/// One line to somebody who can read it, in whatever log there is.
using Tell = std::function<void(const std::string&)>;

/// The consoles that the kernel has a tty for, without their names. Those that are about to get one
/// or have lost theirs are not among them. Throws std::system_error.
std::vector<Console> find_consoles(const Folders& folders);

/// One run at a time. Throws std::system_error when the folder cannot be made or when others have
/// kept it for two minutes. Uses SIGALRM.
transport::UniqueFd lock_state(const Folders& folders);

/// What the last run kept; empty, after telling, when it cannot be understood. Who calls these two
/// has the lock. Both throw std::system_error.
Memory load_memory(const Folders& folders, const Tell& tell);
void save_memory(const Folders& folders, const Memory& memory);

/// Makes the links and marks of `now`, and removes those of `before` that are not in it. A link is
/// there with its target or not at all, and appears in one step: who watches the folder sees one
/// event. Whatever stands in the way and is not a link is left alone and told of. A link that was
/// made to point elsewhere is not removed. Throws std::system_error.
void update_links(const Folders& folders, const Placement& before, const Placement& now,
                  const Tell& tell);

}  // namespace xenlane::guest

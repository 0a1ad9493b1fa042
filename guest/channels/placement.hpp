// Which PV console of this guest is which tty, and which of them has which channel's link.
//
// The kernel does not tell: its hvc driver gives a new console the first index that no console has
// (hvc_alloc in drivers/tty/hvc/hvc_console.c), and no file names the two together. At boot the
// index is the number in xenstore, as xen-pv-channel(7) has it; after a console was unplugged and
// another plugged in, it need not be. So each run follows the kernel's rule from where the last
// one ended. There is no I/O here.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/name.hpp"
#include "transport/base/domid.hpp"

namespace xenlane::guest {

/// Console 0 is the kernel's own. The driver reads the last digit of a node only, so that a console
/// 10 gets no tty and a console 11 another one's (hvc_xen.c).
inline constexpr int console_number_min = 1;
inline constexpr int console_number_max = 9;

/// A PV console that the kernel has a tty for.
struct Console {
  int number;          ///< of its node, device/console/NUMBER
  std::uint64_t born;  ///< greater than that of every console that came before it
  /// What the host wrote; empty for a console that is not a channel.
  std::string untrusted_name;
};

/// A console with its tty.
struct Placed {
  int number;
  std::uint64_t born;
  int tty;  ///< N of /dev/hvcN
  /// The channel whose link it has.
  std::optional<bridge::ChannelName> channel;
  bool refused;  ///< it has a name that it may not have, and the log was told

  friend bool operator==(const Placed&, const Placed&) = default;
};

using Placement = std::vector<Placed>;

struct NextPlacement {
  Placement consoles;                   ///< in the order in which they came
  std::vector<std::string> complaints;  ///< a line for each name newly refused
};

/// What follows from the consoles that are there now, in any order, and the last placement. Of two
/// with one name the one that came first has it, until it goes.
NextPlacement place(std::vector<Console> consoles, const Placement& before);

/// Where the kernel has put the consoles after the domain was saved and restored, or migrated: it
/// gives each one up and takes it again, one after the other (xencons_resume in hvc_xen.c), so that
/// they move up into what was free.
Placement after_resume(Placement placement);

/// What one run keeps for the next.
struct Memory {
  /// The domain at that time, which is another one after a resume; unknown without consoles.
  std::optional<transport::Domid> domid;
  Placement consoles;

  friend bool operator==(const Memory&, const Memory&) = default;
};

/// A line "domain N" if that is known, then for each console "NUMBER BORN TTY CHANNEL"; the last
/// word is "-" without a channel and "!" when refused.
std::string to_text(const Memory& memory);

/// The error is one line. A file that somebody else wrote into is not trusted.
boost::system::result<Memory, bridge::ParseError> parse_memory(std::string_view text);

/// The number in "console-3", as sysfs names the device; nothing for any other word.
std::optional<int> parse_console_device(std::string_view word);

}  // namespace xenlane::guest

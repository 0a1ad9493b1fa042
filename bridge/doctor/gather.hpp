// Looks at this domain for the doctor: files, devices, xenstore and the daemons' control sockets.
// Nothing is changed: what is tried (grants, nodes, watches) is given back before anyone sees it.
// Everything that could wait has a deadline.
#pragma once

#include <optional>
#include <string>

#include "bridge/doctor/facts.hpp"

namespace xenlane::bridge::doctor {

/// How long one answer of xenstore may take.
inline constexpr std::chrono::milliseconds xenstore_patience{2000};

/// Where to look.
struct Places {
  /// In front of the paths of the system's own files (/dev/xen, /sys, /proc, /lib/modules,
  /// /var/lib/xen): a test's folder, else empty.
  std::string root;
  /// The folder of the hvc devices; empty: $XENLANE_DEV_DIR, else ROOT/dev.
  std::string dev_dir;
  std::string xenstore;  ///< empty: where the daemons find it
  std::string run_dir;
  std::optional<std::string> config;  ///< empty: the side's default file
  std::optional<Side> side;           ///< empty: found out
  std::string guest;                  ///< host: only this one, by name or domain id
  std::string version;                ///< of this program
};

Facts gather(const Places& places);

}  // namespace xenlane::bridge::doctor

// The parts of gather(), each of which looks at one kind of thing. Internal to the doctor.
#pragma once

#include <boost/json.hpp>

#include "bridge/doctor/gather.hpp"

namespace xenlane::bridge::doctor {

/// A file, links followed.
FileFact look_at(const std::string& path);
/// A link itself.
FileFact look_at_link(const std::string& path);
/// The whole of a small file, as those of /proc and /sys are; empty when it cannot be read.
std::string text_of(const std::string& path);

/// Devices, modules, limits, kernel.
void look_at_system(const Places& places, Facts& facts);
/// What a lane needs, taken and given back. Not more than the smallest ring while a daemon runs.
void try_lanes(Facts& facts);
/// The configuration, the run folder and the sockets in it.
void look_at_files(const Places& places, Facts& facts);
/// Host: each guest's socket of QEMU's, and who is connected.
void look_at_console_sockets(const Places& places, Facts& facts);
/// Guest: the hvc device, who has it open, the link to it.
void look_at_console_device(const Places& places, Facts& facts);

/// What the reply of a control socket says of a bridge.
BridgeFact bridge_from(const boost::json::object& status);
/// Asks RUN_DIR/control; `facts.guests` and `facts.bridge` are what it knows.
void ask_daemon(const Places& places, Facts& facts);
/// Host: asks the workers of those guests that are known.
void ask_workers(Facts& facts);

/// The domain's own number, and how long that took.
void ask_xenstore(const Places& places, Facts& facts);
/// What the side needs of xenstore: keys, quotas, guests, consoles.
void read_xenstore(const Places& places, Facts& facts);

}  // namespace xenlane::bridge::doctor

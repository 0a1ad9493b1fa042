// Worlds with something wrong about Xen: devices, grants, xenstore.
#include <cerrno>

#include "tests/bridge/doctor/story.hpp"
#include "tests/bridge/doctor/worlds.hpp"

namespace xenlane::bridge::doctor {

using transport::LaneFailure;
using transport::LaneFailureKind;

void without_device(Facts& facts, ModuleState state) {
  facts.devices[1].file.kind = FileKind::missing;
  facts.devices[1].state = state;
  const LaneFailure failure{LaneFailureKind::no_xen, "no device"};
  facts.client.failure = facts.smallest.failure = failure;
}

const std::vector<Story> xen_stories{
    {"NoXen", guest,
     [](Facts& f) {
       without_device(f, ModuleState::unknown);
       f.is_xen = false;
       f.xenstore.error = ENOENT;
     },
     check::xen, error, 8, "no Xen domain", "xensim"},
    {"ModuleNotLoaded", guest, [](Facts& f) { without_device(f, ModuleState::available); },
     check::module, error, 8, "not loaded", "modprobe xen-gntalloc"},
    {"ModuleNotLoadedOnTheHost", host, [](Facts& f) { without_device(f, ModuleState::available); },
     check::module, error, 8, "xen-gntdev", "/etc/modules-load.d/xen-gntdev.conf"},
    {"ModuleNotInstalled", host, [](Facts& f) { without_device(f, ModuleState::absent); },
     check::module, error, 8, "does not have it", "linux-image-amd64"},
    {"ModuleUnknown", host, [](Facts& f) { without_device(f, ModuleState::unknown); },
     check::device, error, 8, "/dev/xen/gntdev", "modprobe xen-gntdev"},
    {"DeviceForbiddenToRoot", guest,
     [](Facts& f) {
       f.devices[1].file.usable = false;
       f.smallest.failure = LaneFailure{LaneFailureKind::no_permission, "denied"};
     },
     check::device, error, 7, "/dev/xen/gntalloc", "udev"},
    {"DeviceForbiddenToSomebody", guest,
     [](Facts& f) {
       f.user = 1000;
       f.devices[1].file.usable = false;
       f.smallest.failure = LaneFailure{LaneFailureKind::no_permission, "denied"};
     },
     check::device, note, 0, "not tried", "root"},
    {"NoEventChannels", guest,
     [](Facts& f) {
       f.smallest.failure = LaneFailure{LaneFailureKind::no_event_channel, "no port left"};
     },
     check::device, error, 8, "no port left", "xl dmesg"},
    {"LimitBelowTheSmallestRings", guest, [](Facts& f) { f.gntalloc_limit = 2; },
     check::grant_limit, error, 9, "takes 3", "xen_gntalloc limit=1024"},
    {"LimitBelowTheLargestRings", guest, [](Facts& f) { f.gntalloc_limit = 300; },
     check::grant_limit, warning, 1, "512 KiB at most", "/etc/modprobe.d/xenlane.conf"},
    {"LimitOfAnOldHost", host,
     [](Facts& f) {
       f.kernel_major = 4;
       f.kernel_minor = 19;
       f.gntdev_limit = 600;
       f.guests.push_back(f.guests[0]);
     },
     check::grant_limit, warning, 1, "2 guests take up to 1026", "xen_gntdev limit=65536"},
    {"LimitOfOneRequest", host, [](Facts& f) { f.gntdev_limit = 255; }, check::grant_limit, warning,
     1, "a ring takes up to 256", "/sys/module/xen_gntdev/parameters/limit"},
    {"RingsInUseAreSmall", guest, [](Facts& f) { f.bridge->ring_bytes = 64 * 1024; },
     check::grant_rings, warning, 1, "64 KiB", "ring_bytes_max"},
    {"NoRingsAtAll", guest,
     [](Facts& f) {
       f.bridge.reset();
       f.smallest.failure = LaneFailure{LaneFailureKind::no_grants, "no 3 pages"};
     },
     check::grant_rings, error, 9, "no 3 pages", "limit"},
    {"NoLargeRings", guest,
     [](Facts& f) {
       without_daemon(f);
       f.daemon.answer = DaemonFact::Answer::forbidden;
       f.largest = {true, LaneFailure{LaneFailureKind::no_grants, "no 513 pages"}};
     },
     check::grant_rings, warning, 1, "no 513 pages", "limit"},
    {"RingsNotTried", guest, [](Facts& f) { f.bridge->ring_bytes = 0; }, check::grant_rings, note,
     0, "not tried", ""},
    {"XenstoreGone", guest, [](Facts& f) { f.xenstore.error = ECONNREFUSED; },
     check::xenstore_answer, error, 8, "refused", "on the host"},
    {"XenstoreGoneOnTheHost", host, [](Facts& f) { f.xenstore.error = ETIMEDOUT; },
     check::xenstore_answer, error, 8, "does not answer", "systemctl start xenstored"},
    {"XenstoreForbiddenToSomebody", host,
     [](Facts& f) {
       f.user = 1000;
       f.xenstore.error = EACCES;
     },
     check::xenstore_answer, note, 0, "may not use it", "root"},
    {"XenstoreForbiddenToRoot", host, [](Facts& f) { f.xenstore.error = EACCES; },
     check::xenstore_answer, error, 7, "root may not", "permissions"},
    {"XenstoreSlow", host,
     [](Facts& f) { f.xenstore.answer_time = std::chrono::milliseconds(100); },
     check::xenstore_answer, note, 0, "100 ms", ""},
    {"XenstoreVerySlow", host,
     [](Facts& f) { f.xenstore.answer_time = std::chrono::milliseconds(1000); },
     check::xenstore_answer, warning, 1, "1000 ms", "xenstore-control"},
    {"NoRoomForNodes", guest, [](Facts& f) { f.xenstore.write_error = ENOSPC; },
     check::xenstore_room, warning, 1, "No space", "quota 5"},
    {"NoRoomForWatches", guest, [](Facts& f) { f.xenstore.watch_error = E2BIG; },
     check::xenstore_room, warning, 1, "watch", "quota 5"},
    {"DataFolderRemoved", guest, [](Facts& f) { f.xenstore.write_error = EACCES; },
     check::xenstore_room, error, 7, "data", "xl reboot"},
    {"NotServedByTheHost", guest, [](Facts& f) { f.host_node.error = ENOENT; },
     check::xenstore_nodes, warning, 1, "does not serve", "[daemon] guests"},
    {"NothingAskedFor", guest, [](Facts& f) { f.wanted_node.error = ENOENT; },
     check::xenstore_nodes, warning, 1, "no lane yet", "xenlane-host"},
    {"JunkForAHost", host, [](Facts& f) { f.guests[0].host_node.value = "zero"; },
     check::xenstore_nodes, warning, 1, "no domain id", "restart xenlane-host"},
    {"JunkForAnEpoch", host, [](Facts& f) { f.guests[0].wanted_node.value = "-1"; },
     check::xenstore_nodes, warning, 1, "no usable wish", "restart xenlane-host"},
    {"KeysThatCannotBeRead", guest, [](Facts& f) { f.host_node.error = EACCES; },
     check::xenstore_nodes, warning, 1, "may not be read", "xenlane-host"},
    {"KeysWithoutAnAnswer", host, [](Facts& f) { f.guests[0].host_node.error = ETIMEDOUT; },
     check::xenstore_nodes, note, 0, "could not be read", ""},
    {"EpochWithoutAnAnswer", guest, [](Facts& f) { f.wanted_node.error = ETIMEDOUT; },
     check::xenstore_nodes, note, 0, "could not be read", ""},
    {"GuestOwnsTheHostsNode", host,
     [](Facts& f) {
       f.guests[0].wanted_node.permissions = {"n5", "r0"};
     },
     check::xenstore_permissions, error, 3, "n5,r0", "restart xenlane-host"},
    {"GuestMayWriteTheHostsNode", guest,
     [](Facts& f) {
       f.host_node.permissions = {"n0", "b5"};
     },
     check::xenstore_permissions, error, 3, "n0,b5", "restart xenlane-host"},
    {"EveryoneMayWriteTheHostsNode", guest, [](Facts& f) { f.host_node.permissions = {"w0"}; },
     check::xenstore_permissions, error, 3, "w0", "restart xenlane-host"},
    {"PermissionsUnseen", guest, [](Facts& f) { f.host_node.permissions_error = EACCES; },
     check::xenstore_permissions, note, 0, "cannot be seen", ""},
};

}  // namespace xenlane::bridge::doctor

// Judges what Xen gives to this domain: devices, the kernel's modules, grants.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "bridge/doctor/examine.hpp"

namespace xenlane::bridge::doctor {
namespace {

using transport::LaneFailureKind;

constexpr std::uint64_t page_bytes = 4096;
/// From this version of Linux on, gntdev's limit is for one request and not for all of them.
constexpr unsigned per_request_major = 5;
constexpr unsigned per_request_minor = 5;

/// "xen_gntdev" as modprobe's users write it.
std::string spelt(std::string module) {
  std::ranges::replace(module, '_', '-');
  return module;
}

/// Whether this user is one who should have access: root, or whoever runs the daemon.
bool is_daemons_user(const Facts& facts) {
  return facts.user == 0 ||
         (facts.run_folder.kind == FileKind::folder && facts.run_folder.owner == facts.user);
}

const Trial& trial_of_devices(const Facts& facts) {
  return facts.side == Side::host ? facts.client : facts.smallest;
}

bool devices_work(const Facts& facts) {
  const Trial& trial = trial_of_devices(facts);
  if (!trial.made) return false;
  return !trial.failure || (trial.failure->kind != LaneFailureKind::no_xen &&
                            trial.failure->kind != LaneFailureKind::no_permission);
}

void examine_module(const DeviceFact& device, bool works, Findings& findings) {
  const std::string name = spelt(device.module);
  switch (device.state) {
    case ModuleState::loaded:
      return findings.ok(check::module, name, "loaded");
    case ModuleState::built_in:
      return findings.ok(check::module, name, "built into the kernel");
    case ModuleState::available:
      if (works) return;
      return findings.error(
          check::module, exit_no_xen, name, "not loaded",
          fmt::format("modprobe {0} && echo {0} > /etc/modules-load.d/{0}.conf", name));
    case ModuleState::absent:
      if (works) return;
      return findings.error(
          check::module, exit_no_xen, name, "the running kernel does not have it",
          "install a kernel with Xen's grant and event channel devices, on Debian "
          "linux-image-amd64");
    case ModuleState::unknown:
      if (works) return;
      return findings.note(check::module, name,
                           "not loaded, and the kernel's lists of modules cannot be read");
  }
}

void examine_device(const Facts& facts, const DeviceFact& device, Findings& findings) {
  const FileFact& file = device.file;
  if (devices_work(facts)) return findings.ok(check::device, file.path, "can be used");
  const bool missing = file.kind == FileKind::missing;
  if (missing && (device.state == ModuleState::available || device.state == ModuleState::absent)) {
    return;  // the module's finding says what to do
  }
  if (missing) {
    findings.error(check::device, exit_no_xen, file.path, "there is no such device",
                   fmt::format("modprobe {}", spelt(device.module)));
  } else if (!file.usable && is_daemons_user(facts)) {
    findings.error(
        check::device, exit_not_permitted, file.path,
        fmt::format("this user may not open it (mode {:04o}, user {})", file.mode, file.owner),
        "run as root, or give this user access by a rule of udev");
  } else if (!file.usable) {
    findings.note(check::device, file.path, "this user may not open it, so it was not tried",
                  "run xenlane doctor as root");
  } else {
    findings.ok(check::device, file.path, "is there, and this user may open it");
  }
}

/// What the trial met that the files do not show.
void examine_trial(const Facts& facts, Findings& findings) {
  const Trial& trial = trial_of_devices(facts);
  if (!trial.made || !trial.failure) return;
  const bool is_told = std::ranges::any_of(
      findings.all(), [](const Finding& finding) { return finding.severity != Severity::ok; });
  const auto kind = trial.failure->kind;
  if (kind == LaneFailureKind::no_grants) return;  // examine_rings() has it
  if (is_told && kind != LaneFailureKind::no_event_channel) return;
  const bool denied = kind == LaneFailureKind::no_permission;
  findings.error(
      check::device, denied ? exit_not_permitted : exit_no_xen, "/dev/xen", trial.failure->text,
      denied ? "run as root" : "xl dmesg, on the host: it may say what Xen denied this domain");
}

std::string limit_line(const std::string& module, std::uint64_t pages) {
  return fmt::format(
      "echo {0} > /sys/module/{1}/parameters/limit && echo options {1} limit={0} > "
      "/etc/modprobe.d/xenlane.conf",
      pages, module);
}

constexpr const char* gntalloc_limit_file = "/sys/module/xen_gntalloc/parameters/limit";
constexpr const char* gntdev_limit_file = "/sys/module/xen_gntdev/parameters/limit";

void examine_gntalloc_limit(const Facts& facts, Findings& findings) {
  if (!facts.gntalloc_limit) return;
  const std::uint64_t limit = *facts.gntalloc_limit;
  const VchanConfig& vchan = facts.config.config.vchan;
  const std::uint64_t wanted = grants_of_lane(vchan.ring_bytes_max);
  const std::uint64_t least = grants_of_lane(vchan.ring_bytes_min);
  const std::string have = fmt::format("{} pages for all programs of this domain", limit);
  if (limit < least) {
    findings.error(check::grant_limit, exit_too_few_grants, gntalloc_limit_file,
                   fmt::format("{}; a lane with the smallest rings takes {}", have, least),
                   limit_line("xen_gntalloc", 1024));
  } else if (limit < wanted) {
    const std::uint64_t fitting = std::bit_floor((limit - 1) / 2);
    findings.warn(
        check::grant_limit, gntalloc_limit_file,
        fmt::format("{}; rings of {} KiB take {}, so that they will have {} KiB at most", have,
                    vchan.ring_bytes_max / 1024, wanted, fitting * page_bytes / 1024),
        limit_line("xen_gntalloc", std::max<std::uint64_t>(1024, 2 * wanted)));
  } else {
    findings.ok(check::grant_limit, gntalloc_limit_file,
                fmt::format("{}; a lane takes {}", have, wanted));
  }
}

void examine_gntdev_limit(const Facts& facts, Findings& findings) {
  if (!facts.gntdev_limit) return;
  const std::uint64_t limit = *facts.gntdev_limit;
  // A guest chooses the size of its rings, up to libxenvchan's largest.
  const std::uint64_t ring = transport::vchan_ring_bytes_max / page_bytes;
  const bool per_request =
      facts.kernel_major > per_request_major ||
      (facts.kernel_major == per_request_major && facts.kernel_minor >= per_request_minor);
  const auto guests = static_cast<std::uint64_t>(
      std::ranges::count_if(facts.guests, [](const GuestFact& g) { return g.runs && g.matches; }));
  const std::uint64_t need =
      per_request ? ring : guests * grants_of_lane(transport::vchan_ring_bytes_max);
  const std::string have = fmt::format(
      "{} pages {}", limit, per_request ? "for one request" : "for all mappings of this domain");
  const std::string takes = per_request ? fmt::format("a ring takes up to {}", need)
                                        : fmt::format("{} guests take up to {}", guests, need);
  if (limit < need) {
    findings.warn(check::grant_limit, gntdev_limit_file,
                  fmt::format("{}; {}: guests beyond it stay on the console", have, takes),
                  limit_line("xen_gntdev", std::max<std::uint64_t>(64 * 1024, 2 * need)));
  } else {
    findings.ok(check::grant_limit, gntdev_limit_file, fmt::format("{}; {}", have, takes));
  }
}

/// Guest: what can be had now, which the limit alone does not tell.
void examine_rings(const Facts& facts, Findings& findings) {
  const VchanConfig& vchan = facts.config.config.vchan;
  const std::string wanted = fmt::format("rings of {} KiB", vchan.ring_bytes_max / 1024);
  const std::string remedy =
      "end what else holds grants, or raise /sys/module/xen_gntalloc/parameters/limit; "
      "[vchan] ring_bytes_max asks for less";
  const std::uint64_t in_use = facts.bridge ? facts.bridge->ring_bytes : 0;
  if (in_use >= vchan.ring_bytes_max) {
    findings.ok(check::grant_rings, wanted, "in use");
  } else if (in_use > 0) {
    findings.warn(
        check::grant_rings, wanted,
        fmt::format("there were not enough grants: those in use have {} KiB", in_use / 1024),
        remedy);
  } else if (facts.smallest.failure && facts.smallest.failure->kind == LaneFailureKind::no_grants) {
    findings.error(check::grant_rings, exit_too_few_grants, wanted, facts.smallest.failure->text,
                   remedy);
  } else if (facts.largest.failure && facts.largest.failure->kind == LaneFailureKind::no_grants) {
    findings.warn(check::grant_rings, wanted, facts.largest.failure->text, remedy);
  } else if (facts.largest.made && !facts.largest.failure) {
    findings.ok(check::grant_rings, wanted, "can be had");
  } else if (devices_work(facts)) {
    findings.note(check::grant_rings, wanted,
                  "not tried, to take nothing away from the daemon that runs");
  }
}

}  // namespace

void examine_devices(const Facts& facts, Findings& findings) {
  const bool works = devices_work(facts);
  if (!works && facts.is_xen == false && facts.xenstore.error != 0) {
    findings.error(check::xen, exit_no_xen, "this machine",
                   "it is no Xen domain, or its kernel does not know",
                   "start it under Xen; to try xenlane without, use xensim (docs/xensim.md)");
    return;
  }
  for (const DeviceFact& device : facts.devices) {
    examine_module(device, works, findings);
    examine_device(facts, device, findings);
  }
  examine_trial(facts, findings);
  if (facts.side == Side::guest) {
    examine_gntalloc_limit(facts, findings);
    examine_rings(facts, findings);
  } else {
    examine_gntdev_limit(facts, findings);
  }
}

}  // namespace xenlane::bridge::doctor

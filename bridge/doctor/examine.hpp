// Judges what the doctor has seen. No I/O, no clock: the same facts give the same findings.
#pragma once

#include <cstdint>

#include "bridge/doctor/facts.hpp"
#include "bridge/doctor/finding.hpp"

namespace xenlane::bridge::doctor {

/// An answer of xenstore that takes longer is worth a note, and a warning: each lane takes some
/// ten.
inline constexpr std::chrono::milliseconds xenstore_slow{100};
inline constexpr std::chrono::milliseconds xenstore_very_slow{1000};
/// So many restarts of one guest's worker are no accident any more.
inline constexpr std::uint64_t worker_restarts_many = 3;
/// A connection that was refused within this many seconds is a warning, earlier ones are a note.
inline constexpr std::uint64_t refused_recently_s = 600;
/// Grants that one lane with rings of `ring_bytes` takes: the rings' pages and the shared one.
constexpr std::uint64_t grants_of_lane(std::uint64_t ring_bytes) {
  return 2 * (ring_bytes / 4096) + 1;
}

std::vector<Finding> examine(const Facts& facts);

// The parts of it, in their order.
void examine_devices(const Facts& facts, Findings& findings);
void examine_xenstore(const Facts& facts, Findings& findings);
void examine_files(const Facts& facts, Findings& findings);
void examine_daemon(const Facts& facts, Findings& findings);
void examine_consoles(const Facts& facts, Findings& findings);

}  // namespace xenlane::bridge::doctor

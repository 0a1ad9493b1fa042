// What the doctor has to say: one finding for each thing that it looked at. The ids are stable and
// docs/doctor.md explains each; a test holds the two lists against each other.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bridge/cli/exit_codes.hpp"

namespace xenlane::bridge::doctor {

enum class Severity : std::uint8_t {
  ok,       ///< looked at, and as it should be
  note,     ///< worth knowing, or could not be looked at
  warning,  ///< xenlane works, but less well than it could
  error     ///< xenlane does not work, or not safely
};

std::string_view to_string(Severity severity);

/// The ids of the checks.
namespace check {
inline constexpr std::string_view xen = "xen";
inline constexpr std::string_view device = "device";
inline constexpr std::string_view module = "module";
inline constexpr std::string_view grant_limit = "grant.limit";
inline constexpr std::string_view grant_rings = "grant.rings";
inline constexpr std::string_view xenstore_answer = "xenstore.answer";
inline constexpr std::string_view xenstore_room = "xenstore.room";
inline constexpr std::string_view xenstore_nodes = "xenstore.nodes";
inline constexpr std::string_view xenstore_permissions = "xenstore.permissions";
inline constexpr std::string_view config_fault = "config.fault";
inline constexpr std::string_view config_permissions = "config.permissions";
inline constexpr std::string_view run_folder = "run.folder";
inline constexpr std::string_view run_control = "run.control";
inline constexpr std::string_view run_stale = "run.stale";
inline constexpr std::string_view run_path = "run.path";
inline constexpr std::string_view daemon_answer = "daemon.answer";
inline constexpr std::string_view daemon_version = "daemon.version";
inline constexpr std::string_view guest_served = "guest.served";
inline constexpr std::string_view guest_worker = "guest.worker";
inline constexpr std::string_view session_state = "session.state";
inline constexpr std::string_view session_version = "session.version";
inline constexpr std::string_view lane_carrier = "lane.carrier";
inline constexpr std::string_view channel_disabled = "channel.disabled";
inline constexpr std::string_view channel_refused = "channel.refused";
inline constexpr std::string_view console_socket = "console.socket";
inline constexpr std::string_view console_client = "console.client";
inline constexpr std::string_view console_channel = "console.channel";
inline constexpr std::string_view console_device = "console.device";
inline constexpr std::string_view console_reader = "console.reader";
inline constexpr std::string_view console_link = "console.link";

inline constexpr std::array all{xen,
                                device,
                                module,
                                grant_limit,
                                grant_rings,
                                xenstore_answer,
                                xenstore_room,
                                xenstore_nodes,
                                xenstore_permissions,
                                config_fault,
                                config_permissions,
                                run_folder,
                                run_control,
                                run_stale,
                                run_path,
                                daemon_answer,
                                daemon_version,
                                guest_served,
                                guest_worker,
                                session_state,
                                session_version,
                                lane_carrier,
                                channel_disabled,
                                channel_refused,
                                console_socket,
                                console_client,
                                console_channel,
                                console_device,
                                console_reader,
                                console_link};
}  // namespace check

struct Finding {
  std::string_view id;  ///< one of check::all
  Severity severity = Severity::ok;
  std::string thing;        ///< a path, a name: what was looked at. Untrusted: escape to show
  std::string problem;      ///< what is wrong with it or, when nothing is, what was seen. Likewise
  std::string remedy;       ///< a command or a line of configuration; empty when there is none
  ExitCode code = exit_ok;  ///< of an error
};

/// Findings in the order in which they are made: causes before what follows from them.
class Findings {
 public:
  void ok(std::string_view id, std::string thing, std::string seen) {
    add({id, Severity::ok, std::move(thing), std::move(seen), {}, exit_ok});
  }
  void note(std::string_view id, std::string thing, std::string problem, std::string remedy = {}) {
    add({id, Severity::note, std::move(thing), std::move(problem), std::move(remedy), exit_ok});
  }
  void warn(std::string_view id, std::string thing, std::string problem, std::string remedy) {
    add({id, Severity::warning, std::move(thing), std::move(problem), std::move(remedy),
         exit_broken});
  }
  void error(std::string_view id, ExitCode code, std::string thing, std::string problem,
             std::string remedy) {
    add({id, Severity::error, std::move(thing), std::move(problem), std::move(remedy), code});
  }

  const std::vector<Finding>& all() const { return findings_; }

 private:
  void add(Finding finding) { findings_.push_back(std::move(finding)); }

  std::vector<Finding> findings_;
};

/// exit_ok when nothing is worse than a note, exit_broken when nothing is worse than a warning,
/// else the code of the first error.
ExitCode exit_code_of(const std::vector<Finding>& findings);

}  // namespace xenlane::bridge::doctor

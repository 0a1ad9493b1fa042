// The far end of `xenlane cp`: `xenlane serve-files`, started for each connection (target "exec:").
#pragma once

#include <string>
#include <variant>

#include "bridge/files/receiver.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::files {

/// What the service's own configuration allows.
struct ServiceRules {
  transport::UniqueFd receive;  ///< the folder that files may be put into; none: none are taken
  transport::UniqueFd send;     ///< the folder that files may be read in; none: none are given
  std::string incoming_of;      ///< not empty: this guest's files go to incoming/GUEST
  NameRule names = NameRule::printable;
  bool allow_owner = false;
  Quota quota;  ///< of all that is in the folder, with incoming_of; else of a transfer
  bool has_quota = false;
};

/// Serves one connection to its end. False if it broke; then the client knows as much as we do.
bool serve_files(int socket, ServiceRules rules);

/// The client's side of the beginning: greets, asks, and waits until the service is ready, or says
/// why it refuses.
std::variant<Ready, Refuse> open_service(WireReader& in, WireWriter& out, const Request& request);

}  // namespace xenlane::bridge::files

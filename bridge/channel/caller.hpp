// Who asks for a connection, as the dialled target is told: in the environment of a program that is
// started for it, or in a PROXY header.
//
// On the host everything but the user comes from Xen and the host's own configuration and can be
// relied on. The user is what the other side says: of a guest it is worth what the guest is worth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bridge/wire/frame.hpp"
#include "transport/base/domid.hpp"

namespace xenlane::bridge {

struct Caller {
  std::string channel;
  std::string peer;                       ///< the guest's name, or "host"
  std::optional<transport::Domid> domid;  ///< of the guest; in guests nothing
  std::string uuid;                       ///< of the guest; in guests, or if unknown, empty
  std::uint32_t peer_uid = uid_unknown;   ///< as the peer says
  std::string connection;                 ///< names this connection among all there ever are
};

/// NAME=VALUE for each thing that is known: XENLANE_CHANNEL, XENLANE_PEER, XENLANE_DOMID,
/// XENLANE_UUID, XENLANE_PEER_UID.
std::vector<std::string> environment_of(const Caller& caller);

}  // namespace xenlane::bridge

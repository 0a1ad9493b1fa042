#include "bridge/channel/caller.hpp"

namespace xenlane::bridge {

std::vector<std::string> environment_of(const Caller& caller) {
  std::vector<std::string> out{"XENLANE_CHANNEL=" + caller.channel, "XENLANE_PEER=" + caller.peer};
  if (caller.domid) out.push_back("XENLANE_DOMID=" + std::to_string(*caller.domid));
  if (!caller.uuid.empty()) out.push_back("XENLANE_UUID=" + caller.uuid);
  if (caller.peer_uid != uid_unknown) {
    out.push_back("XENLANE_PEER_UID=" + std::to_string(caller.peer_uid));
  }
  return out;
}

}  // namespace xenlane::bridge

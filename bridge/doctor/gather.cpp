#include "bridge/doctor/gather.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "bridge/doctor/gather_parts.hpp"

namespace xenlane::bridge::doctor {
namespace {

bool is_there(const std::string& path) {
  struct stat found = {};
  return ::stat(path.c_str(), &found) == 0;
}

/// The daemon that runs knows best; then Xen; in a driver domain, which is a guest to Xen, the
/// configuration that was put there.
Side find_side(const Places& places, const Facts& facts) {
  if (places.side) return *places.side;
  if (facts.daemon.role == "broker") return Side::host;
  if (facts.daemon.role == "guest") return Side::guest;
  if (text_of(places.root + "/proc/xen/capabilities").find("control_d") != std::string::npos) {
    return Side::host;
  }
  if (facts.xenstore.domid == Domid{0}) return Side::host;
  const bool has_host = is_there(places.root + default_config_path(Side::host));
  const bool has_guest = is_there(places.root + default_config_path(Side::guest));
  return has_host && !has_guest ? Side::host : Side::guest;
}

/// The broker's guests may be asked about by number as well as by name.
void keep_only(const std::string& wanted, std::vector<GuestFact>& guests) {
  std::erase_if(guests, [&](const GuestFact& guest) {
    return guest.name != wanted && std::to_string(guest.domid) != wanted;
  });
}

}  // namespace

Facts gather(const Places& places) {
  Facts facts;
  facts.user = ::geteuid();
  facts.version = places.version;
  facts.run_dir = places.run_dir;
  ask_daemon(places, facts);
  ask_xenstore(places, facts);
  facts.side = find_side(places, facts);
  look_at_system(places, facts);
  look_at_files(places, facts);
  read_xenstore(places, facts);
  if (facts.side == Side::host) {
    if (!places.guest.empty()) keep_only(places.guest, facts.guests);
    for (GuestFact& guest : facts.guests) {
      guest.matches = guest_is_served(facts.config.config, guest.name);
    }
    ask_workers(facts);
    look_at_console_sockets(places, facts);
  } else {
    facts.guests.clear();
    look_at_console_device(places, facts);
  }
  try_lanes(facts);
  return facts;
}

}  // namespace xenlane::bridge::doctor

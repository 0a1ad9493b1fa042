// What one side reads of the other's keys in xenstore (docs/xenstore.md): epochs, domids, and a
// domain's name, which decides whether it is served and becomes a folder's name.
#include "bridge/channel/name.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/daemon/negotiation.hpp"
#include "tests/fuzz/input.hpp"
#include "transport/base/domid.hpp"
#include "transport/vchan/vchan_lane.hpp"

namespace xenlane::fuzz {

void fuzz_xenstore_values(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

void check_epoch(const std::string& text) {
  const auto epoch = parse_epoch(text);
  // The decimal digits, and no other way to write a number, are an epoch.
  const std::string digits = text.substr(std::min(text.find_first_not_of('0'), text.size()));
  FUZZ_CHECK(epoch.has_value() == (is_number(text) && digits.size() <= 12));
  if (!epoch) return;
  FUZZ_CHECK(std::to_string(*epoch) == (digits.empty() ? "0" : digits));
  const std::string path =
      domain_path(transport::domid_first_reserved - 1) + '/' + ring_path(*epoch);
  FUZZ_CHECK(path.size() <= transport::vchan_path_bytes_max);
}

void check_domid(const std::string& text) {
  const auto domid = transport::parse_domid(text);
  if (!domid) return;
  FUZZ_CHECK(is_number(text) && *domid < transport::domid_first_reserved);
  FUZZ_CHECK(domain_path(*domid) == "/local/domain/" + std::to_string(*domid));
}

void check_guest_name(const std::string& name, const std::string& glob) {
  BridgeConfig config;
  FUZZ_CHECK(guest_is_served(config, name));
  config.guests = {name.substr(0, name.size() / 2) + '*'};
  FUZZ_CHECK(guest_is_served(config, name));
  config.guests = {glob};
  FUZZ_CHECK(guest_is_served(config, name) == glob_matches(glob, name));
  const auto folder = ChannelName::parse(name);
  if (folder) FUZZ_CHECK(name.find('/') == std::string::npos && name != "." && name != "..");
}

}  // namespace

void fuzz_xenstore_values(Bytes input) {
  Input choices(input);
  const std::string glob = choices.text(choices.below(24));
  const std::string value = text_of(choices.rest()).substr(0, 4096);
  check_epoch(value);
  check_domid(value);
  check_guest_name(value, glob);
}

}  // namespace xenlane::fuzz

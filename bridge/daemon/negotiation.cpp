#include "bridge/daemon/negotiation.hpp"

#include <fmt/format.h>

#include <charconv>

#include "transport/vchan/vchan_lane.hpp"

namespace xenlane::bridge {

// "/local/domain/32751/data/xenlane/" is 33 bytes, epoch_max has 12 digits.
static_assert(33 + 12 <= transport::vchan_path_bytes_max);

std::string domain_path(transport::Domid domid) {
  return fmt::format("/local/domain/{}", domid);
}

std::string ring_path(std::uint64_t epoch) {
  return fmt::format("{}/{}", guest_folder, epoch);
}

std::optional<std::uint64_t> parse_epoch(std::string_view untrusted_text) {
  std::uint64_t epoch = 0;
  const char* end = untrusted_text.data() + untrusted_text.size();
  const auto [stop, error] = std::from_chars(untrusted_text.data(), end, epoch);
  if (error != std::errc{} || stop != end || epoch > epoch_max) return std::nullopt;
  return epoch;
}

}  // namespace xenlane::bridge

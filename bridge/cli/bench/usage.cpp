#include "bridge/cli/bench/usage.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

namespace {

constexpr double gb = 1e9;
constexpr double mb = 1e6;
constexpr double us_per_s = 1e6;

double number(const json::object& object, std::string_view key) {
  return static_cast<double>(json_number(object, key));
}

}  // namespace

json::object near_status(const Guest& guest) {
  auto status = control_request(guest.control, "status");
  if (status) return std::move(*status);
  const Failure failure = control_failure(guest.control, status.error());
  throw BenchFailure(failure.message, failure.code);
}

BridgeUsage usage_of(const json::object& status) {
  BridgeUsage out;
  if (const json::object* counters = json_object(status, "counters")) {
    out.cpu_us = number(*counters, "cpu_us");
    out.wake_ups = number(*counters, "wake_ups");
    out.notifications = number(*counters, "notifications");
    out.data_bytes = number(*counters, "data_bytes_in") + number(*counters, "data_bytes_out");
  }
  if (const json::object* console = json_object(status, "console")) {
    out.raw_bytes = number(*console, "raw_bytes_out");
    out.packed_bytes = number(*console, "packed_bytes_out");
  }
  return out;
}

BridgeUsage far_usage(const BenchPath& path) {
  boost::system::error_code error;
  const auto counters = json::parse(ask_usage(path), error);
  if (error || !counters.is_object()) {
    throw BenchFailure(path.name + ": what the far bridge has used is no JSON object");
  }
  return usage_of({{"counters", counters}});
}

std::optional<Cost> cost_between(const BothUsages& before, const BothUsages& after) {
  const double bytes = after.near.data_bytes - before.near.data_bytes;
  if (bytes <= 0) return std::nullopt;
  const double wake_ups = after.near.wake_ups - before.near.wake_ups +  //
                          after.far.wake_ups - before.far.wake_ups;
  const double notifications = after.near.notifications - before.near.notifications +
                               after.far.notifications - before.far.notifications;
  return Cost{(after.near.cpu_us - before.near.cpu_us) / us_per_s / (bytes / gb),
              (after.far.cpu_us - before.far.cpu_us) / us_per_s / (bytes / gb),
              wake_ups / (bytes / mb), notifications / (bytes / mb)};
}

std::optional<double> packing_between(const BothUsages& before, const BothUsages& after) {
  const double raw = after.near.raw_bytes - before.near.raw_bytes;
  if (raw <= 0) return std::nullopt;
  return (after.near.packed_bytes - before.near.packed_bytes) / raw;
}

std::optional<Failure> bad_ending_of(const json::object& status, const std::string& channel_name) {
  for (const json::object* channel : channels_of(status)) {
    const json::array* const endings = json_array(*channel, "bad_endings");
    if (json_text(*channel, "name") != channel_name || endings == nullptr) continue;
    for (const json::value& value : *endings) {
      const json::object* const ending = value.if_object();
      if (ending == nullptr || json_number(*ending, "pid") != std::uint64_t(::getpid())) continue;
      const bool refused = json_text(*ending, "what") == "refused";
      return Failure{
          refused ? exit_refused : exit_broken,
          fmt::format("{}: {}: {}", channel_name, refused ? "refused" : "broken",
                      escape_untrusted(json_text(*ending, "message", "no reason"), 256))};
    }
  }
  return std::nullopt;
}

}  // namespace xenlane::bridge::cli

#include "bridge/cli/bench/units.hpp"

#include <fmt/format.h>

#include <charconv>

namespace xenlane::bridge::cli {
namespace {

/// Three digits that say something.
std::string digits(double value) {
  if (value < 9.995) return fmt::format("{:.2f}", value);
  return value < 99.95 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

}  // namespace

std::string bytes_in_words(std::uint64_t bytes) {
  constexpr std::uint64_t kib = 1024;
  if (bytes >= kib * kib && bytes % (kib * kib) == 0) {
    return fmt::format("{} MiB", bytes / (kib * kib));
  }
  if (bytes >= kib && bytes % kib == 0) return fmt::format("{} KiB", bytes / kib);
  return fmt::format("{} {}", bytes, bytes == 1 ? "byte" : "bytes");
}

std::string rate_in_words(double bytes_per_second) {
  if (bytes_per_second >= 1e9) return digits(bytes_per_second / 1e9) + " GB/s";
  if (bytes_per_second >= 1e6) return digits(bytes_per_second / 1e6) + " MB/s";
  return digits(bytes_per_second / 1e3) + " KB/s";
}

std::string time_in_words(double us) {
  if (us >= 1e6) return digits(us / 1e6) + " s";
  if (us >= 1e3) return digits(us / 1e3) + " ms";
  return digits(us) + " us";
}

boost::system::result<std::uint64_t, ParseError> parse_bytes(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  unsigned shift = 0;
  if (unit == "K" || unit == "KiB") shift = 10;
  if (unit == "M" || unit == "MiB") shift = 20;
  const bool known = unit.empty() || shift != 0;
  if (error != std::errc() || !known || value == 0 || value > (std::uint64_t{1} << 40)) {
    return ParseError{
        fmt::format("'{}' is no size; write 16, 4K or 1M", escape_untrusted(text, 40))};
  }
  return value << shift;
}

}  // namespace xenlane::bridge::cli

// One measurement of one path at a time: how fast messages of one size go to a bench service
// (bridge/bench), come from it, do both at once, and go there and back. Knows nothing of lanes:
// whatever leads to a service can be measured, so that all are measured alike.
//
// Rates are taken where the bytes arrive, between two moments well within the transfer: what
// buffers swallow at its beginning, and hold at its end, does not count.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "bridge/cli/exit_codes.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {

/// A measurement that came to nothing: one line that names the path.
struct BenchFailure : std::runtime_error {
  explicit BenchFailure(const std::string& message, ExitCode exit_code = exit_broken)
      : std::runtime_error(message), code(exit_code) {}
  ExitCode code;
};

struct BenchPath {
  std::string name;
  /// A blocking connection to a service of its own; throws a BenchFailure.
  std::function<transport::UniqueFd()> connect;
  /// What is made for one connection at a time cannot be measured both ways at once.
  bool one_at_a_time = false;
};

struct BenchTimes {
  std::chrono::milliseconds warm{50};
  std::chrono::milliseconds time{200};
};

/// What arrived within a time.
struct Arrived {
  std::uint64_t bytes = 0;
  double seconds = 0;

  double per_second() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

/// Messages of `size` bytes are taken from `data` (not empty) again and again, in writes of their
/// own.
Arrived measure_to(const BenchPath& path, std::size_t size, const BenchTimes& times,
                   std::span<const char> data);
/// The same in the other direction; `data` is sent to the service first, up to
/// bench_data_bytes_max. Empty: the service makes up random bytes.
Arrived measure_from(const BenchPath& path, std::size_t size, const BenchTimes& times,
                     std::span<const char> data);
/// Both ways at once, by a connection each; bytes a second together. The other data as above.
double measure_both(const BenchPath& path, std::size_t size, const BenchTimes& times,
                    std::span<const char> data, std::span<const char> data_back);
/// Each message is sent when the one before is back. In nanoseconds, one at least, however long it
/// takes.
std::vector<std::uint64_t> measure_round_trips(const BenchPath& path, std::size_t size,
                                               const BenchTimes& times, std::span<const char> data);
/// What the far daemon has used until now, as it says it.
std::string ask_usage(const BenchPath& path);

}  // namespace xenlane::bridge::cli

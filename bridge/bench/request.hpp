// What `xenlane bench` asks the built-in service for: one line, then bytes. No I/O, no clock.
//
//   echo                      what comes goes back, until the end
//   sink WARM_MS TIME_MS      what comes is discarded; of it, so much time's worth is counted, from
//                             WARM_MS after the first byte on, and told as one line of JSON
//   source BYTES N            writes of BYTES each, of the N bytes behind this line again and
//   again,
//                             or of random ones when N is 0, until whoever asked sends no more
//   usage                     what the daemon has used until now, as one line of JSON
#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

/// With its newline.
inline constexpr std::size_t bench_request_bytes_max = 64;
/// Both ends read so much at most at a time, as most programs do.
inline constexpr std::size_t bench_read_bytes = 64 * 1024;
/// Random bytes that messages are made of, again and again: they fit a processor's cache, as what
/// programs write mostly does, and are more than zstd looks back over (transport/console/packer).
inline constexpr std::size_t bench_random_bytes = 256 * 1024;
inline constexpr std::size_t bench_message_bytes_max = 1024 * 1024;
inline constexpr std::size_t bench_data_bytes_max = 4 * 1024 * 1024;
inline constexpr std::chrono::milliseconds bench_time_max{60'000};

struct BenchRequest {
  enum class Kind { echo, sink, source, usage };
  Kind kind = Kind::echo;
  std::chrono::milliseconds warm{0};  ///< sink
  std::chrono::milliseconds time{0};  ///< sink
  std::size_t message_bytes = 0;      ///< source
  std::size_t data_bytes = 0;         ///< source

  friend bool operator==(const BenchRequest&, const BenchRequest&) = default;
};

/// With a newline at its end.
std::string format_bench_request(const BenchRequest& request);

/// Without it. Numbers within the limits above; a message has at least a byte.
boost::system::result<BenchRequest, ParseError> parse_bench_request(
    std::string_view untrusted_line);

}  // namespace xenlane::bridge

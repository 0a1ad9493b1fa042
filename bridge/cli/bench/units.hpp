// Sizes, rates and times as people write them. No I/O.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge::cli {

/// "16 bytes", "4 KiB", "1 MiB".
std::string bytes_in_words(std::uint64_t bytes);
/// "512 KB/s", "1.3 GB/s": decimal, as throughput is told.
std::string rate_in_words(double bytes_per_second);
/// "12.3 us", "4.56 ms".
std::string time_in_words(double us);
/// "16", "4K", "1M": binary multiples.
boost::system::result<std::uint64_t, ParseError> parse_bytes(std::string_view text);

}  // namespace xenlane::bridge::cli

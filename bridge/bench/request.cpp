#include "bridge/bench/request.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <vector>

namespace xenlane::bridge {
namespace {

using Kind = BenchRequest::Kind;

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (;;) {
    const std::size_t space = line.find(' ');
    words.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return words;
    line.remove_prefix(space + 1);
  }
}

/// A number from `min` to `max`; false when it is none.
bool read_number(std::string_view word, std::uint64_t min, std::uint64_t max, std::uint64_t& out) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), out);
  return error == std::errc() && end == word.data() + word.size() && out >= min && out <= max;
}

}  // namespace

std::string format_bench_request(const BenchRequest& request) {
  switch (request.kind) {
    case Kind::echo:
      return "echo\n";
    case Kind::sink:
      return fmt::format("sink {} {}\n", request.warm.count(), request.time.count());
    case Kind::source:
      return fmt::format("source {} {}\n", request.message_bytes, request.data_bytes);
    case Kind::usage:
      return "usage\n";
  }
  return {};
}

boost::system::result<BenchRequest, ParseError> parse_bench_request(
    std::string_view untrusted_line) {
  const auto words = words_of(untrusted_line);
  const auto time_max = static_cast<std::uint64_t>(bench_time_max.count());
  BenchRequest request;
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  if (words[0] == "echo" && words.size() == 1) return request;
  if (words[0] == "usage" && words.size() == 1) {
    request.kind = Kind::usage;
    return request;
  }
  if (words[0] == "sink" && words.size() == 3 && read_number(words[1], 0, time_max, first) &&
      read_number(words[2], 1, time_max, second)) {
    request.kind = Kind::sink;
    request.warm = std::chrono::milliseconds(first);
    request.time = std::chrono::milliseconds(second);
    return request;
  }
  if (words[0] == "source" && words.size() == 3 &&
      read_number(words[1], 1, bench_message_bytes_max, first) &&
      read_number(words[2], 0, bench_data_bytes_max, second)) {
    request.kind = Kind::source;
    request.message_bytes = first;
    request.data_bytes = second;
    return request;
  }
  return ParseError{fmt::format("'{}' is no request of xenlane bench",
                                escape_untrusted(untrusted_line, bench_request_bytes_max))};
}

}  // namespace xenlane::bridge

// Where a bench service is, or is to be, without xenlane in between: "unix:/PATH" or
// "tcp:HOST:PORT". So a path by other means can be measured beside the lanes.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge::cli {

struct BenchAddress {
  std::string path;  ///< of a Unix socket; empty: TCP
  std::string host;
  std::string port;

  friend bool operator==(const BenchAddress&, const BenchAddress&) = default;
};

/// An IPv6 address stands in brackets. Names are not looked up yet.
boost::system::result<BenchAddress, ParseError> parse_bench_address(std::string_view text);

/// A connected, blocking socket, without delay for small messages. Throws a BenchFailure.
transport::UniqueFd connect_to(const BenchAddress& address);
/// A listening, non-blocking one. Throws a BenchFailure, also when a Unix socket's path is there
/// already.
transport::UniqueFd listen_at(const BenchAddress& address);
/// Serves whoever connects to `listener`, in a process for each, until SIGINT, SIGTERM or SIGHUP;
/// which of them.
int serve_until_signal(const transport::UniqueFd& listener);

}  // namespace xenlane::bridge::cli

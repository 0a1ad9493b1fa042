// The control socket: one line of JSON asks, one line of JSON answers. {"verb": "...", ...} is
// answered by {"ok": true, ...} or {"ok": false, "error": "one line that names the remedy"}.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

namespace xensim::hv {

/// Longest request line, in bytes.
inline constexpr std::size_t max_control_line = 4096;

class ControlServer {
 public:
  /// Answers a request that the process `peer` made. To be told when the answer has been sent, set
  /// `after`.
  using Handler = std::function<boost::json::object(const boost::json::object& untrusted_request,
                                                    pid_t peer, std::function<void()>& after)>;

  /// Throws boost::system::system_error if it cannot listen at `path` (mode 0600).
  ControlServer(boost::asio::io_context& io, const std::string& path, Handler handler);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

/// The client's side; blocking. Throws boost::system::system_error if there is no broker at `path`
/// or it dies, and Refused with the broker's error text if it refuses.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};
boost::json::object ask_broker(const std::string& path, const boost::json::object& request);

}  // namespace xensim::hv

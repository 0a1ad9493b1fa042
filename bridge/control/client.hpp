// A blocking client of the control protocol for the tool: one request, one reply, one deadline.
#pragma once

#include <boost/json.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <string>
#include <string_view>

#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

/// How long one request may take from connecting to the reply's last byte.
inline constexpr std::chrono::milliseconds control_request_deadline{2000};

struct ControlError {
  enum class Kind {
    no_daemon,      ///< no socket there, or nobody listens on it
    not_permitted,  ///< EACCES or EPERM
    failed          ///< deadline, broken connection, malformed reply, "ok":false
  };
  Kind kind = Kind::failed;
  std::string text;  ///< one line, without the path
  std::string code = {};  ///< the daemon's, of an "ok":false (docs/control.md); else empty
};

[[noreturn]] void throw_exception_from_error(const ControlError& error,
                                             const boost::source_location& where);

/// Connects to a Unix stream socket within the deadline; the descriptor is blocking and
/// close-on-exec.
boost::system::result<transport::UniqueFd, ControlError> connect_unix(
    const std::string& path, std::chrono::milliseconds deadline = control_request_deadline);

/// Sends {"v":1,"op":op} to the control socket at `path` and returns the reply, which has
/// "ok":true.
boost::system::result<boost::json::object, ControlError> control_request(
    const std::string& path, const std::string& op,
    std::chrono::milliseconds deadline = control_request_deadline);

/// The same for a request with more members than "op".
boost::system::result<boost::json::object, ControlError> control_request(
    const std::string& path, boost::json::object request,
    std::chrono::milliseconds deadline = control_request_deadline);

struct ControlConversation {
  boost::json::object reply;
  /// Open, for what lasts as long as it is; readable when the daemon has ended it.
  transport::UniqueFd connection;
};

/// The same, and the connection stays open.
boost::system::result<ControlConversation, ControlError> control_converse(
    const std::string& path, boost::json::object request,
    std::chrono::milliseconds deadline = control_request_deadline);

/// Checks one reply line (without its newline): an object with "v":1 and "ok":true.
boost::system::result<boost::json::object, ControlError> parse_control_reply(
    std::string_view untrusted_line);

}  // namespace xenlane::bridge

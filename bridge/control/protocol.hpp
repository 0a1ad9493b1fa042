// The control protocol: one JSON object per line, a reply line for each request line, on a Unix
// stream socket. docs/control.md is its description; the numbers here are its limits.
#pragma once

#include <boost/json.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

inline constexpr int control_version = 1;
/// Longest request line, its newline included.
inline constexpr std::size_t control_request_bytes_max = 4096;
/// Longest reply line, its newline included.
inline constexpr std::size_t control_reply_bytes_max = 4 * 1024 * 1024;
inline constexpr std::size_t control_connections_max = 32;
/// So much of an error's message is shown.
inline constexpr std::size_t control_error_bytes_max = 1024;
/// A connection on which nothing moves for this long is closed.
inline constexpr std::chrono::seconds control_idle_deadline{30};

/// {"v":1,"ok":false,"error":{"code":code,"message":message}}
boost::json::object control_error(std::string_view code, std::string_view message);

/// Why a request is answered with an error.
struct RequestError {
  std::string code;
  std::string message;
};

[[noreturn]] inline void throw_exception_from_error(const RequestError& error,
                                                    const boost::source_location& /*where*/) {
  throw std::invalid_argument(error.message);
}

/// Checks one request line (without its newline): an object with "v":1 and a text "op".
boost::system::result<boost::json::object, RequestError> parse_control_request(
    std::string_view untrusted_line);

/// The reply line for a handler's answer: "v" and, unless it says otherwise, "ok":true are added;
/// a reply above control_reply_bytes_max becomes an error.
std::string format_control_reply(boost::json::object reply);

/// Members of a JSON object by name and type, with an answer for whatever is missing or of another
/// type: for replies, which another process wrote.
std::string json_text(const boost::json::object& object, std::string_view key,
                      std::string_view otherwise = {});
std::uint64_t json_number(const boost::json::object& object, std::string_view key,
                          std::uint64_t otherwise = 0);
const boost::json::object* json_object(const boost::json::object& object, std::string_view key);
const boost::json::array* json_array(const boost::json::object& object, std::string_view key);

}  // namespace xenlane::bridge

// What is said on a forward's streams before they are connections, and on its control stream: lines
// of text (docs/forward.md). No I/O, no clock.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "bridge/channel/text.hpp"
#include "bridge/forward/address.hpp"

namespace xenlane::bridge {

/// With its newline. The longest there is names a host of 253 bytes.
inline constexpr std::size_t forward_line_bytes_max = 512;
/// 128 bits in hex: nobody guesses the token of another's connection.
inline constexpr std::size_t forward_token_bytes = 32;
inline constexpr std::uint32_t forward_listener_number_max = 65535;

/// Connects the stream to the address.
struct ForwardConnect {
  ForwardAddress address;
  friend bool operator==(const ForwardConnect&, const ForwardConnect&) = default;
};
/// Has the connection that was announced on a control stream.
struct ForwardTake {
  std::string token;
  friend bool operator==(const ForwardTake&, const ForwardTake&) = default;
};
/// The stream carries the orders and announcements below.
struct ForwardControl {
  friend bool operator==(const ForwardControl&, const ForwardControl&) = default;
};
using ForwardRequest = std::variant<ForwardConnect, ForwardTake, ForwardControl>;

/// A refused request or order: an errno value and words.
struct ForwardError {
  int error = 0;
  std::string text;
  friend bool operator==(const ForwardError&, const ForwardError&) = default;
};
/// The answer to a request. A connection has a token, by which its end can be asked for.
struct ForwardAnswer {
  std::string token = {};                  ///< empty for a control stream
  std::optional<ForwardError> error = {};  ///< if it was refused
  friend bool operator==(const ForwardAnswer&, const ForwardAnswer&) = default;
};

// Orders, from the near side to the far side.
struct ForwardListen {
  std::uint32_t number = 0;  ///< chosen by the near side, for the announcements
  ForwardAddress address;
  friend bool operator==(const ForwardListen&, const ForwardListen&) = default;
};
/// One of its listeners is wanted no more.
struct ForwardUnlisten {
  std::uint32_t number = 0;
  friend bool operator==(const ForwardUnlisten&, const ForwardUnlisten&) = default;
};
/// A connection's near end was reset: the far end is to be too.
struct ForwardReset {
  std::string token;
  friend bool operator==(const ForwardReset&, const ForwardReset&) = default;
};
/// Asks how a connection ended, which a Unix socket cannot tell.
struct ForwardHowEnded {
  std::string token;
  friend bool operator==(const ForwardHowEnded&, const ForwardHowEnded&) = default;
};
using ForwardOrder = std::variant<ForwardListen, ForwardUnlisten, ForwardReset, ForwardHowEnded>;

// Announcements, the other way.
struct ForwardListening {
  std::uint32_t number = 0;
  std::optional<ForwardError> error = {};  ///< it does not
  friend bool operator==(const ForwardListening&, const ForwardListening&) = default;
};
struct ForwardAccepted {
  std::uint32_t number = 0;
  std::string token;
  friend bool operator==(const ForwardAccepted&, const ForwardAccepted&) = default;
};
struct ForwardEnded {
  std::string token;
  bool reset = false;
  friend bool operator==(const ForwardEnded&, const ForwardEnded&) = default;
};
using ForwardNews = std::variant<ForwardListening, ForwardAccepted, ForwardEnded>;

// All with a newline at the end.
std::string format_forward(const ForwardRequest& request);
std::string format_forward(const ForwardAnswer& answer);
std::string format_forward(const ForwardOrder& order);
std::string format_forward(const ForwardNews& news);

// Without it. What cannot be understood is an error, never a guess.
boost::system::result<ForwardRequest, ForwardError> parse_forward_request(
    std::string_view untrusted_line);
boost::system::result<ForwardAnswer, ParseError> parse_forward_answer(
    std::string_view untrusted_line);
boost::system::result<ForwardOrder, ParseError> parse_forward_order(
    std::string_view untrusted_line);
boost::system::result<ForwardNews, ParseError> parse_forward_news(std::string_view untrusted_line);

[[noreturn]] inline void throw_exception_from_error(const ForwardError& error,
                                                    const boost::source_location& /*where*/) {
  throw std::invalid_argument(error.text);
}

/// Lines out of what arrives in pieces.
class LineQueue {
 public:
  /// False when there is a line that is longer than forward_line_bytes_max; nothing more comes out.
  bool add(std::string_view untrusted_bytes);
  /// The next whole line, without its newline.
  std::optional<std::string> next();
  /// What no line has been made of.
  std::string take_rest();

 private:
  bool too_long() const;
  std::string bytes_;
  std::size_t begin_ = 0;
};

}  // namespace xenlane::bridge

// Small text tools shared by names, configuration and the tool: showing untrusted bytes in one
// line, suggesting near names, and matching globs.
#pragma once

#include <boost/assert/source_location.hpp>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace xenlane::bridge {

/// Why a text was refused, ready to follow "thing: " in a one-line message.
struct ParseError {
  std::string text;
};

/// Lets boost::system::result<T, ParseError>::value() report the reason.
[[noreturn]] inline void throw_exception_from_error(const ParseError& error,
                                                    const boost::source_location& /*where*/) {
  throw std::invalid_argument(error.text);
}

/// Longest text, in source bytes, that escape_untrusted() shows unless told otherwise.
inline constexpr std::size_t escaped_bytes_max = 128;

/// `untrusted` with every byte outside printable ASCII, and the backslash, as \xNN; at most
/// `bytes_max` bytes of it, then "...". The result is always one line.
std::string escape_untrusted(std::string_view untrusted, std::size_t bytes_max = escaped_bytes_max);

/// The known names that are likely meant by `wanted`, nearest first, at most three.
std::vector<std::string> near_names(std::string_view wanted, std::span<const std::string> known);

/// True when all of `text` matches `glob`, where * stands for any bytes and ? for any one byte;
/// every other byte stands for itself. Takes at most |glob| * |text| steps.
bool glob_matches(std::string_view glob, std::string_view text);

}  // namespace xenlane::bridge

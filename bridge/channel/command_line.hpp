// Splitting the text of an exec target into a program and its arguments. No shell has a hand in
// it: there are quotes and nothing else, so that no byte of a configuration means more than itself.
#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

/// Longest command line, and most words in it, the program included.
inline constexpr std::size_t command_line_bytes_max = 1024;
inline constexpr std::size_t command_words_max = 64;

/// Words are separated by blanks and tabs. '...' keeps everything as it is; "..." does too, but for
/// a backslash in front of '"' or another backslash, which goes; outside of quotes a backslash
/// keeps the next byte. Quoted and plain parts without a blank between them are one word; '' is an
/// empty one. The first word must be an absolute path. Other control bytes than tab are refused.
boost::system::result<std::vector<std::string>, ParseError> parse_command_line(
    std::string_view text);

}  // namespace xenlane::bridge

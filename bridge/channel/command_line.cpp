#include "bridge/channel/command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace xenlane::bridge {

namespace {

constexpr std::string_view blanks = " \t";

bool is_control(char byte) {
  return (static_cast<unsigned char>(byte) < 0x20 && byte != '\t') || byte == 0x7f;
}

class WordReader {
 public:
  explicit WordReader(std::string_view rest) : rest_(rest) {}

  bool skip_blanks() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(blanks), rest_.size()));
    return !rest_.empty();
  }

  /// Takes one word from the front; returns what is wrong with it, or nothing.
  std::string take(std::string& word) {
    while (!rest_.empty() && blanks.find(rest_.front()) == std::string_view::npos) {
      const char byte = take_byte();
      if (byte == '\'' || byte == '"') {
        if (!take_quoted(byte, word)) {
          return fmt::format("a {} is not closed", byte);
        }
      } else if (byte == '\\') {
        if (rest_.empty()) return "a backslash is the last byte";
        word += take_byte();
      } else {
        word += byte;
      }
    }
    return {};
  }

 private:
  char take_byte() {
    const char byte = rest_.front();
    rest_.remove_prefix(1);
    return byte;
  }
  bool take_quoted(char quote, std::string& word) {
    while (!rest_.empty()) {
      const char byte = take_byte();
      if (byte == quote) return true;
      const bool escapes = quote == '"' && byte == '\\' && !rest_.empty() &&
                           (rest_.front() == '"' || rest_.front() == '\\');
      word += escapes ? take_byte() : byte;
    }
    return false;
  }

  std::string_view rest_;
};

}  // namespace

boost::system::result<std::vector<std::string>, ParseError> parse_command_line(
    std::string_view text) {
  if (text.size() > command_line_bytes_max) {
    return ParseError{fmt::format("the command has {} bytes, {} are allowed", text.size(),
                                  command_line_bytes_max)};
  }
  const auto bad = std::find_if(text.begin(), text.end(), is_control);
  if (bad != text.end()) {
    return ParseError{fmt::format("'{}' cannot be in a command", escape_untrusted({&*bad, 1}))};
  }
  std::vector<std::string> words;
  WordReader reader(text);
  while (reader.skip_blanks()) {
    std::string word;
    std::string wrong = reader.take(word);
    if (!wrong.empty()) return ParseError{std::move(wrong)};
    if (words.size() == command_words_max) {
      return ParseError{fmt::format("the command has more than {} words", command_words_max)};
    }
    words.push_back(std::move(word));
  }
  if (words.empty() || words.front().empty() || words.front().front() != '/') {
    return ParseError{"the program must be an absolute path, as in \"exec:/usr/sbin/sshd -i\""};
  }
  return words;
}

}  // namespace xenlane::bridge

#include "bridge/toolstack/xl_lexer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {
namespace {

bool is_lower(char byte) {
  return byte >= 'a' && byte <= 'z';
}

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

bool is_identifier(char byte) {
  return is_lower(byte) || is_digit(byte) || byte == '.' || byte == '_';
}

bool is_number(char byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'f') || byte == 'x';
}

}  // namespace

XlToken XlLexer::take(XlWord word, std::size_t bytes) {
  XlToken token{word, {here(), {}, {}}};
  if (word == XlWord::identifier || word == XlWord::number) {
    token.text.text = input_.substr(at_, bytes);
    for (std::size_t i = 0; i <= bytes; ++i) token.text.columns.push_back(column_of(at_ + i));
  }
  at_ += bytes;
  return token;
}

XlToken XlLexer::take_newline() {
  XlToken token = take(XlWord::newline, 1);
  ++line_;
  line_begin_ = at_;
  return token;
}

/// True when the comment is followed by the newline that makes it one.
bool XlLexer::skip_comment() {
  const Place begin = here();
  const std::size_t newline = input_.find('\n', at_);
  at_ = newline == std::string_view::npos ? input_.size() : newline;
  if (!at_end()) return true;
  findings_.error(begin,
                  "the comment on the last line has no newline behind it, and xl refuses it");
  return false;
}

void XlLexer::skip_unknown(std::string reason) {
  findings_.error(here(), std::move(reason));
  while (!at_end() && peek() != ' ' && peek() != '\t' && peek() != '\n') ++at_;
}

/// Takes a backslash and what it escapes, which is lost if it is none that xl knows. xl's scanner
/// takes \x and octal escapes too, but what they stand for never gets into the text.
void XlLexer::take_escape(XlText& text) {
  static constexpr std::string_view letters = "\"'\\abfnrtv";
  static constexpr std::string_view meanings = "\"'\\\a\b\f\n\r\t\v";
  const auto known = letters.find(peek(1));
  if (known == std::string_view::npos || at_ + 1 >= input_.size()) {
    findings_.error(here(), fmt::format("xl has no escape '\\{}'; write the character itself",
                                        escape_untrusted(input_.substr(at_ + 1, 1))));
    at_ = std::min(at_ + 2, input_.size());
    return;
  }
  text.columns.push_back(column_of(at_));
  text.text += meanings[known];
  at_ += 2;
}

bool XlLexer::take_string(XlToken& token) {
  token = {XlWord::string, {here(), {}, {}}};
  const std::size_t begin = at_;
  const char quote = input_[at_++];
  while (!at_end() && peek() != quote && peek() != '\n') {
    if (peek() == '\\' && peek(1) != '\n') {
      take_escape(token.text);
    } else if (peek() == '\\') {
      break;
    } else {
      token.text.columns.push_back(column_of(at_));
      token.text.text += input_[at_++];
    }
  }
  if (peek() != quote || at_end()) {
    at_ = begin;
    skip_unknown(fmt::format("the text has no closing {} on its line", quote));
    return false;
  }
  token.text.columns.push_back(column_of(at_));
  ++at_;
  return true;
}

XlToken XlLexer::next() {
  while (!at_end()) {
    const char byte = peek();
    if (byte == ' ' || byte == '\t') {
      ++at_;
    } else if (byte == '\n') {
      return take_newline();
    } else if (byte == '#') {
      if (skip_comment()) return take_newline();
    } else if (is_lower(byte)) {
      std::size_t bytes = 1;
      while (is_identifier(peek(bytes))) ++bytes;
      return take(XlWord::identifier, bytes);
    } else if (is_digit(byte)) {
      std::size_t bytes = 1;
      while (is_number(peek(bytes))) ++bytes;
      return take(XlWord::number, bytes);
    } else if (byte == '\'' || byte == '"') {
      XlToken token;
      if (take_string(token)) return token;
    } else if (byte == '+' && peek(1) == '=') {
      return take(XlWord::append, 2);
    } else if (const auto mark = std::string_view(",[]=;").find(byte);
               mark != std::string_view::npos) {
      constexpr XlWord words[] = {XlWord::comma, XlWord::open, XlWord::close, XlWord::assign,
                                  XlWord::semicolon};
      return take(words[mark], 1);
    } else {
      skip_unknown(fmt::format("'{}' cannot stand here", escape_untrusted({&byte, 1})));
    }
  }
  return take(XlWord::end, 0);
}

}  // namespace xenlane::bridge

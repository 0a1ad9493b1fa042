#include "bridge/toolstack/xl_syntax.hpp"

#include <fmt/format.h>

#include <iterator>
#include <utility>

namespace xenlane::bridge {
namespace {

const char* name_of(XlWord word) {
  switch (word) {
    case XlWord::identifier:
      return "a name";
    case XlWord::number:
      return "a number";
    case XlWord::string:
      return "a text";
    case XlWord::comma:
      return "','";
    case XlWord::open:
      return "'['";
    case XlWord::close:
      return "']'";
    case XlWord::assign:
      return "'='";
    case XlWord::append:
      return "'+='";
    case XlWord::semicolon:
      return "';'";
    case XlWord::newline:
      return "the end of the line";
    case XlWord::end:
      return "the end of the file";
  }
  return "";
}

class Parser {
 public:
  Parser(std::string_view untrusted, Findings& findings)
      : lexer_(untrusted, findings), findings_(findings) {
    advance();
  }

  XlSettings run() {
    while (token_.word != XlWord::end) {
      if (is(XlWord::newline) || is(XlWord::semicolon)) {
        advance();
      } else if (!setting()) {
        recover();
      }
    }
    return std::move(settings_);
  }

 private:
  bool is(XlWord word) const { return token_.word == word; }

  XlToken advance() {
    last_ = token_.word;
    return std::exchange(token_, lexer_.next());
  }

  void skip_newlines() {
    while (is(XlWord::newline)) advance();
  }

  bool expected(const char* what) {
    findings_.error(token_.text.where, fmt::format("{} instead of {}", name_of(token_.word), what));
    return false;
  }

  /// To the next line that begins as a setting does. No line within a list begins so, and so a list
  /// that is broken, or is never closed, is left with the least loss.
  void recover() {
    while (!is(XlWord::end) && !(last_ == XlWord::newline && is(XlWord::identifier))) advance();
  }

  bool setting() {
    if (!is(XlWord::identifier)) return expected("the name of a setting");
    const XlToken name = advance();
    if (!is(XlWord::assign) && !is(XlWord::append)) return expected("'=' or '+='");
    const bool is_addition = advance().word == XlWord::append;
    XlValue read;
    if (!value(read, 0)) return false;
    if (!is(XlWord::newline) && !is(XlWord::semicolon) && !is(XlWord::end)) {
      return expected("the end of the line");
    }
    store(name.text, std::move(read), is_addition);
    return true;
  }

  void store(const XlText& name, XlValue&& read, bool is_addition) {
    const auto found = settings_.find(name.text);
    if (!is_addition || found == settings_.end()) {
      settings_.insert_or_assign(name.text, std::move(read));
      return;
    }
    XlValue& before = found->second;
    if (before.is_list != read.is_list) {
      findings_.error(name.where, "'+=' adds a list to a text, or a text to a list");
    } else if (read.is_list) {
      before.items.insert(before.items.end(), std::make_move_iterator(read.items.begin()),
                          std::make_move_iterator(read.items.end()));
    } else {
      // The places of the first part would not do for the second: all of it is where that begins.
      before.text.text += read.text.text;
      before.text.columns.assign(before.text.text.size() + 1, before.text.where.column);
    }
  }

  bool value(XlValue& out, std::size_t depth) {
    if (is(XlWord::string) || is(XlWord::number)) {
      out.text = advance().text;
      return true;
    }
    if (!is(XlWord::open)) return expected("a value");
    if (depth == xl_list_depth_max) {
      findings_.error(token_.text.where,
                      fmt::format("more than {} lists within each other", xl_list_depth_max));
      return false;
    }
    out.is_list = true;
    out.text.where = advance().text.where;
    return list(out, depth + 1);
  }

  /// Behind the '['. A comma may follow the last item, but none the '['.
  bool list(XlValue& out, std::size_t depth) {
    skip_newlines();
    while (!is(XlWord::close)) {
      if (!value(out.items.emplace_back(), depth)) return false;
      skip_newlines();
      if (is(XlWord::comma)) {
        advance();
        skip_newlines();
      } else if (is(XlWord::string)) {
        // The commonest slip; the items behind it deserve to be looked at too.
        expected("',' or ']'");
      } else if (!is(XlWord::close)) {
        return expected("',' or ']'");
      }
    }
    advance();
    return true;
  }

  XlLexer lexer_;
  Findings& findings_;
  XlToken token_;
  XlWord last_ = XlWord::newline;
  XlSettings settings_;
};

}  // namespace

XlSettings parse_xl(std::string_view untrusted, Findings& findings) {
  return Parser(untrusted, findings).run();
}

}  // namespace xenlane::bridge

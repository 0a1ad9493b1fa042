// The words of an xl domain configuration, by the rules of libxlutil's scanner
// (tools/libs/util/libxlu_cfg_l.l in Xen): lower-case identifiers, numbers, texts in either quote,
// comments to the end of the line. What the scanner refuses is refused here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/toolstack/findings.hpp"

namespace xenlane::bridge {

/// A text without its quotes and escapes, and where in the file each of its bytes stands.
struct XlText {
  Place where;
  std::string text;
  std::vector<std::uint32_t> columns;  ///< one more than `text` has bytes: where it ends

  Place place_of(std::size_t index) const { return {where.line, columns[index]}; }
};

enum class XlWord {
  identifier,
  number,
  string,
  comma,
  open,    ///< [
  close,   ///< ]
  assign,  ///< =
  append,  ///< +=
  semicolon,
  newline,
  end
};

struct XlToken {
  XlWord word = XlWord::end;
  XlText text;  ///< of identifier, number and string; else only the place
};

class XlLexer {
 public:
  XlLexer(std::string_view untrusted, Findings& findings)
      : input_(untrusted), findings_(findings) {}

  /// After the end, `end` again and again. What is no word is an error and skipped.
  XlToken next();

 private:
  bool at_end() const { return at_ == input_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < input_.size() ? input_[at_ + ahead] : '\0';
  }
  Place here() const { return {line_, column_of(at_)}; }
  std::uint32_t column_of(std::size_t at) const {
    return static_cast<std::uint32_t>(at - line_begin_ + 1);
  }
  XlToken take(XlWord word, std::size_t bytes);
  XlToken take_newline();
  bool skip_comment();
  void skip_unknown(std::string reason);
  bool take_string(XlToken& token);
  void take_escape(XlText& text);

  std::string_view input_;
  Findings& findings_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
  std::uint32_t line_ = 1;
};

}  // namespace xenlane::bridge

// The small texts that become paths, lookups or log lines: channel names, targets, domids, globs of
// guests' names, and the escaping of whatever is shown. Held against a second, plainer statement of
// each rule.
#include "bridge/channel/name.hpp"
#include "bridge/channel/target.hpp"
#include "bridge/channel/text.hpp"
#include "tests/fuzz/input.hpp"
#include "transport/base/domid.hpp"

namespace xenlane::fuzz {

void fuzz_names(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

void check_error(const ParseError& error) {
  FUZZ_CHECK(!error.text.empty() && is_printable(error.text));
}

void check_name(const std::string& text) {
  constexpr const char* allowed =
      "._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const bool follows_rule = !text.empty() && text.size() <= 63 &&
                            text.find_first_not_of(allowed) == std::string::npos &&
                            text.find_first_of("._-") != 0;
  const auto name = ChannelName::parse(text);
  FUZZ_CHECK(name.has_value() == follows_rule);
  if (!name) return check_error(name.error());
  FUZZ_CHECK(name->text() == text);
  FUZZ_CHECK(name->is_reserved() == (text.find('.') == std::string::npos));
}

void check_target(const std::string& text) {
  const auto target = Target::parse(text);
  if (!target) return check_error(target.error());
  FUZZ_CHECK(target->uri() == text);
  switch (target->kind()) {
    case TargetKind::bench:
    case TargetKind::forward:
      return FUZZ_CHECK(target->path().empty());
    case TargetKind::tcp:
      FUZZ_CHECK(!target->host().empty() && target->host().size() <= 253);
      FUZZ_CHECK(is_printable(target->host()) && target->port() > 0);
      return;
    case TargetKind::exec:
      FUZZ_CHECK(!target->command().empty() && target->command().size() <= 64);
      FUZZ_CHECK(target->command().front().starts_with('/'));
      for (const auto& word : target->command()) {
        FUZZ_CHECK(word.find('\0') == std::string::npos && word.size() <= 1024);
      }
      return;
    case TargetKind::unix_socket:
      break;
  }
  FUZZ_CHECK(target->path().size() <= 107 && target->path().starts_with('/'));
  FUZZ_CHECK(target->path().find('\0') == std::string::npos && !target->path().ends_with('/'));
}

void check_domid(const std::string& text) {
  const auto domid = transport::parse_domid(text);
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  const std::string number = text.substr(std::min(text.find_first_not_of('0'), text.size()));
  const bool domain = digits && number.size() <= 5 && std::stoi('0' + number) < 0x7FF0;
  FUZZ_CHECK(domid.has_value() == domain);
  if (domid) FUZZ_CHECK(*domid == std::stoi('0' + number));
}

int hex_digit(char digit) {
  return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}

void check_escape(const std::string& text, std::size_t bytes_max) {
  std::string shown = escape_untrusted(text, bytes_max);
  FUZZ_CHECK(is_printable(shown));
  if (text.size() > bytes_max) {
    FUZZ_CHECK(shown.ends_with("..."));
    shown.resize(shown.size() - 3);
  }
  std::string back;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (shown[i] != '\\') {
      back += shown[i];
      continue;
    }
    FUZZ_CHECK(i + 3 < shown.size() && shown[i + 1] == 'x');
    back += static_cast<char>(hex_digit(shown[i + 2]) * 16 + hex_digit(shown[i + 3]));
    i += 3;
  }
  FUZZ_CHECK(back == text.substr(0, bytes_max));
}

bool matches_plainly(std::string_view glob, std::string_view text) {
  if (glob.empty()) return text.empty();
  if (glob[0] == '*') {
    return matches_plainly(glob.substr(1), text) ||
           (!text.empty() && matches_plainly(glob, text.substr(1)));
  }
  if (text.empty() || (glob[0] != '?' && glob[0] != text[0])) return false;
  return matches_plainly(glob.substr(1), text.substr(1));
}

void check_glob(std::string_view glob, std::string_view text) {
  const bool matches = glob_matches(glob, text);
  // The plain way takes exponential time.
  if (glob.size() <= 8 && text.size() <= 12) FUZZ_CHECK(matches == matches_plainly(glob, text));
}

void check_near_names(const std::string& wanted, const std::vector<std::string>& known) {
  const auto near = near_names(wanted, known);
  FUZZ_CHECK(near.size() <= 3);
  for (const auto& name : near) {
    FUZZ_CHECK(std::find(known.begin(), known.end(), name) != known.end());
  }
}

}  // namespace

void fuzz_names(Bytes input) {
  Input choices(input);
  const auto shown_bytes_max = choices.below(256);
  const std::string first = choices.text(choices.below(256));
  const std::string second = text_of(choices.rest()).substr(0, 300);
  for (const std::string& text : {first, second}) {
    check_name(text);
    check_target(text);
    check_target("unix:/" + text);
    check_domid(text);
    check_escape(text, shown_bytes_max);
  }
  check_glob(first, second);
  check_near_names(first, {second, "daemon", "limits", first + "x"});
}

}  // namespace xenlane::fuzz

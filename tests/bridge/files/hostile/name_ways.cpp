// Names that must not become a file's, whoever sends them: paths, folders of their own, writing
// that deceives, and what xenlane keeps for itself.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

using std::string_literals::operator""s;

/// A file of that name, refused by itself; the next is copied all the same.
SenderWay file_named(std::string_view way, std::string_view what, std::string name,
                     std::string_view reason) {
  return {way, what, Verdict::refused, reason, [name](HostileSender& sender) {
            sender.announce(file_entry(name, 3));
            sender.whole("next", "the next file");
            sender.finish();
          }};
}

void folder_named_dot_dot(HostileSender& sender) {
  const auto folder = sender.announce(folder_entry(".."));
  sender.announce(file_entry("beside", 3, folder));
  sender.finish();
}

void link_named_as_a_path(HostileSender& sender) {
  sender.announce(link_entry("../beside", "old"));
  sender.finish();
}

void hard_link_named_as_a_path(HostileSender& sender) {
  const auto file = sender.whole("file", "a file with links", 0, true);
  sender.announce(hard_link_entry("../beside", file));
  sender.finish();
}

void partial_of_another(HostileSender& sender) {
  sender.announce(link_entry(".large.xenlane-part", "here/kept"));
  sender.finish();
}

void longest(HostileSender& sender) {
  sender.whole(std::string(name_bytes_max, 'n'), "a file with the longest name");
  sender.finish();
}

void too_long(HostileSender& sender) {
  sender.announce(file_entry(std::string(name_bytes_max + 1, 'n'), 3));
  sender.await_end();
}

void size_lies(HostileSender& sender) {
  Entry entry = file_entry("name", 3);
  sender.announce_raw(entry, 44, 0xffff, 2);  // the length of the name
  sender.await_end();
}

}  // namespace

std::vector<SenderWay> name_ways() {
  constexpr std::string_view own = "the name is a folder's own";
  constexpr std::string_view path = "the name is a path";
  constexpr std::string_view control = "there is a control character in the name";
  constexpr std::string_view turned = "the name turns its writing about";
  constexpr std::string_view no_text = "the name is not UTF-8";
  constexpr std::string_view partial = "the name is for files that are not whole";
  return {
      file_named("name-empty", "a file without a name", "", "the name is empty"),
      file_named("name-dot", "a file \".\"", ".", own),
      file_named("name-dot-dot", "a file \"..\"", "..", own),
      file_named("name-with-slash", "a file in a folder, by its name", "here/new", path),
      file_named("name-absolute", "a file at the top of everything", "/xenlane-evil", path),
      file_named("name-climbs", "a file one folder up", "../beside", path),
      file_named("name-through-door", "a file through a link that is there", "door/secret", path),
      file_named("name-slash-at-end", "a name with a slash behind it", "old/", path),
      file_named("name-with-nul", "a name that C ends early", "old\0.txt"s, "there is a NUL"),
      file_named("name-with-newline", "a name of two lines", "one\nerror: two", control),
      file_named("name-with-escape", "a name that talks to the terminal", "\x1b[2J\x1b]0;x\x07",
                 control),
      file_named("name-with-c1", "the same in one character, U+009B",
                 "\xc2\x9b"
                 "2J",
                 control),
      file_named("name-with-delete", "a name with DEL", "a\x7f", control),
      file_named("name-with-line-separator", "a name with U+2028",
                 "a\xe2\x80\xa8"
                 "b",
                 control),
      file_named("name-right-to-left", "a name with U+202E, so that exe looks like txt",
                 "gpj.\xe2\x80\xaetxt.exe", turned),
      file_named("name-isolate", "a name with U+2067",
                 "a\xe2\x81\xa7"
                 "b",
                 turned),
      file_named("name-mark", "a name with U+200F", "a\xe2\x80\x8f", turned),
      file_named("name-not-utf-8", "a name with a byte FF", "a\xff", no_text),
      file_named("name-overlong", "\"..\" in two bytes each", "\xc0\xae\xc0\xae", no_text),
      file_named("name-surrogate", "half of a UTF-16 pair", "\xed\xa0\x80", no_text),
      file_named("name-beyond-unicode", "U+110000", "\xf4\x90\x80\x80", no_text),
      file_named("name-cut-utf-8", "a name that ends within a character", "a\xe2\x82", no_text),
      file_named("name-of-partial", "a name that ends as that of a file that is not whole",
                 "x.xenlane-part", partial),
      {"name-of-partial-link", "a link where a large file will be kept", Verdict::refused, partial,
       partial_of_another},
      {"name-folder-dot-dot", "a folder \"..\" and a file in it", Verdict::refused, own,
       folder_named_dot_dot},
      {"name-link-climbs", "a link one folder up", Verdict::refused, path, link_named_as_a_path},
      {"name-hard-link-climbs", "a hard link one folder up", Verdict::refused, path,
       hard_link_named_as_a_path},
      {"name-of-255", "a name of 255 bytes", Verdict::harmless, {}, longest},
      {"name-of-256", "a name of 256 bytes", Verdict::gives_up, "too long a name", too_long},
      {"name-size-lies", "a name longer than its message", Verdict::gives_up, "too long a name",
       size_lies},
  };
}

}  // namespace xenlane::bridge::files::hostile

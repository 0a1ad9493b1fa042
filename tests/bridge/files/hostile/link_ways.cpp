// Links: those that lead out, and files sent through links that stay inside.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

using std::string_literals::operator""s;

SenderWay link_to(std::string_view way, std::string_view what, std::string target,
                  std::string_view reason) {
  return {way, what, Verdict::refused, reason, [target](HostileSender& sender) {
            sender.announce(link_entry("leads", target));
            sender.whole("next", "the next file");
            sender.finish();
          }};
}

void link_below_climbs_too_far(HostileSender& sender) {
  const auto one = sender.announce(folder_entry("one"));
  const auto two = sender.announce(folder_entry("two", one));
  sender.announce(link_entry("leads", "../../../beside", two));
  sender.announce(link_entry("stays", "../../old", two));
  sender.finish();
}

/// `entry` in a folder that is a link, made by this sender or there before.
template <EntryKind kind>
void through(HostileSender& sender, std::string_view name, std::string_view target) {
  if (!target.empty()) sender.announce(link_entry(name, target));
  const auto folder = sender.announce(folder_entry(name));
  Entry entry = file_entry("secret", 4, folder);
  entry.kind = kind;
  entry.target = "x";
  sender.announce(entry);
  sender.finish();
}

void folder_through_door(HostileSender& sender) {
  through<EntryKind::file>(sender, "door", {});
}
void link_through_door(HostileSender& sender) {
  through<EntryKind::symlink>(sender, "door", {});
}
void folder_through_own_link(HostileSender& sender) {
  through<EntryKind::file>(sender, "leads", "here");
}
void folder_through_chain(HostileSender& sender) {
  sender.announce(link_entry("second", "third"));
  sender.announce(link_entry("third", "here"));
  through<EntryKind::file>(sender, "first", "second");
}
void folder_through_loop(HostileSender& sender) {
  sender.announce(link_entry("two", "one"));
  through<EntryKind::file>(sender, "one", "two");
}

void file_over_link(HostileSender& sender) {
  sender.announce(link_entry("leads", "here/kept"));
  sender.whole("leads", "a file where a link was");
  sender.whole("window", "a file where a link out was");
  sender.finish();
}

/// Large enough to be kept beside itself meanwhile.
void large_file_over_link(HostileSender& sender) {
  sender.whole("window", std::string(300'000, 'l'));
  sender.finish();
}

void longest_target(HostileSender& sender) {
  std::string target;
  while (target.size() + 2 <= path_bytes_max) target += "a/";
  sender.announce(link_entry("leads", target + "b"));
  sender.finish();
}

void target_too_long(HostileSender& sender) {
  sender.announce(link_entry("leads", std::string(path_bytes_max + 1, 'a')));
  sender.await_end();
}

void file_with_target(HostileSender& sender) {
  Entry entry = file_entry("file", 6);
  entry.target = "/etc/passwd";
  const auto id = sender.announce(entry);
  sender.content(id, "a file");
  sender.finish();
}

void hard_link_to_link(HostileSender& sender) {
  const auto link = sender.announce(link_entry("leads", "old"));
  sender.announce(hard_link_entry("hard", link));
  sender.finish();
}

template <typename Target>
SenderWay hard_link(std::string_view way, std::string_view what, Target target) {
  return {way, what, Verdict::unwritable, "the file that it is a link to was not copied",
          [target](HostileSender& sender) {
            sender.announce(hard_link_entry("hard", target(sender)));
            sender.finish();
          }};
}

/// The first file is replaced by another before a link to it is made.
void hard_link_to_replaced(HostileSender& sender) {
  const auto first = sender.whole("file", "the first of that name", 0, true);
  sender.whole("file", "the second of that name");
  sender.announce(hard_link_entry("hard", first));
  sender.finish();
}

void hard_link_to_replaced_by_link(HostileSender& sender) {
  const auto file = sender.whole("file", "the first of that name", 0, true);
  sender.announce(link_entry("file", "old"));
  sender.announce(hard_link_entry("hard", file));
  sender.finish();
}

void hard_link_over_folder(HostileSender& sender) {
  const auto file = sender.whole("file", "a file with links", 0, true);
  sender.announce(hard_link_entry("here", file));
  sender.finish();
}

void hard_link_through_door(HostileSender& sender) {
  const auto file = sender.whole("file", "a file with links", 0, true);
  const auto folder = sender.announce(folder_entry("door"));
  sender.announce(hard_link_entry("hard", file, folder));
  sender.finish();
}

}  // namespace

std::vector<SenderWay> link_ways() {
  constexpr std::string_view out = "the link leads out of the destination";
  constexpr std::string_view late = "the link climbs after it went down";
  constexpr std::string_view other = "there is something else of that name, and no folder";
  return {
      link_to("link-absolute", "a link to /etc", "/etc", "the link's target is absolute"),
      link_to("link-slashes", "a link to //etc", "//etc", "the link's target is absolute"),
      link_to("link-out", "a link one folder up", "../beside", out),
      link_to("link-up", "a link to the folder above", "..", out),
      link_to("link-up-after-dots", "the same behind dots", "././/../beside", out),
      link_to("link-climbs-late", "a link that climbs behind another link's name",
              "door/../top/beside", late),
      link_to("link-climbs-late-inside", "the same behind a folder's", "here/..", late),
      link_to("link-empty", "a link without a target", "", "the link leads nowhere"),
      link_to("link-with-nul", "a target that C ends early", "old\0/../.."s, "there is a NUL"),
      link_to("link-with-escape", "a target that talks to the terminal", "\x1b[2J",
              "there is a control character in the link's target"),
      link_to("link-right-to-left", "a target that turns its writing about", "\xe2\x80\xaetxt",
              "the link's target turns its writing about"),
      {"link-out-from-below", "links in folders, one of which climbs too far", Verdict::refused,
       out, link_below_climbs_too_far},
      {"link-of-4095", "a target of 4095 bytes", Verdict::any, {}, longest_target},
      {"link-of-4096", "a target of 4096 bytes", Verdict::gives_up, "too long a target of a link",
       target_too_long},
      {"file-through-door", "a file in a folder that is a link out", Verdict::unwritable, other,
       folder_through_door},
      {"link-through-door", "a link in a folder that is a link out", Verdict::unwritable, other,
       link_through_door},
      {"file-through-own-link", "a link, then a folder of its name and a file in it",
       Verdict::unwritable, other, folder_through_own_link},
      {"file-through-chain", "the same over three links", Verdict::unwritable, other,
       folder_through_chain},
      {"file-through-loop", "the same over links in a circle", Verdict::unwritable, other,
       folder_through_loop},
      {"file-over-link",
       "files of the names of links: they replace them",
       Verdict::harmless,
       {},
       file_over_link},
      {"large-file-over-link", "a large one", Verdict::harmless, {}, large_file_over_link},
      {"file-with-target",
       "a file that has a link's target too",
       Verdict::harmless,
       {},
       file_with_target},
      hard_link("hard-link-to-nothing", "a hard link to id 0",
                [](HostileSender&) { return std::uint32_t{0}; }),
      hard_link("hard-link-to-itself", "a hard link to its own id",
                [](HostileSender&) { return std::uint32_t{1}; }),
      hard_link("hard-link-to-later", "a hard link to an id that does not come",
                [](HostileSender&) { return std::uint32_t{9}; }),
      hard_link("hard-link-to-folder", "a hard link to a folder",
                [](HostileSender& sender) { return sender.announce(folder_entry("folder")); }),
      hard_link("hard-link-to-plain", "a hard link to a file that said it had none",
                [](HostileSender& sender) { return sender.whole("file", "no links"); }),
      {"hard-link-to-link", "a hard link to a symbolic one", Verdict::unwritable,
       "the file that it is a link to was not copied", hard_link_to_link},
      {"hard-link-to-replaced", "a hard link to a file that the sender itself has replaced",
       Verdict::unwritable, "hard: cannot be written", hard_link_to_replaced},
      {"hard-link-to-replaced-by-link", "the same, replaced by a link", Verdict::unwritable,
       "hard: cannot be written", hard_link_to_replaced_by_link},
      {"hard-link-over-folder", "a hard link of a folder's name", Verdict::unwritable,
       "here: cannot be written", hard_link_over_folder},
      {"hard-link-through-door", "a hard link in a folder that is a link out", Verdict::unwritable,
       other, hard_link_through_door},
  };
}

}  // namespace xenlane::bridge::files::hostile

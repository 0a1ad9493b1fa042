// Entries that cannot be: their numbers, parents, kinds, modes, times, sizes and attributes, and
// several of one name.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

using Act = void (*)(HostileSender&);

// Where a field stands in an entry's body (docs/files.md).
constexpr std::size_t id_at = 0;
constexpr std::size_t kind_at = 8;
constexpr std::size_t flags_at = 9;
constexpr std::size_t mode_at = 10;
constexpr std::size_t nanoseconds_at = 20;
constexpr std::size_t size_at = 24;

/// One entry with a field that cannot be; the other side gives up.
template <std::size_t at, std::uint64_t value, std::size_t size>
void with(HostileSender& sender) {
  sender.announce_raw(file_entry("file", 3), at, value, size);
  sender.await_end();
}

template <std::uint32_t parent>
void in_folder(HostileSender& sender) {
  sender.announce(file_entry("file", 3, parent));
  sender.await_end();
}

void id_twice(HostileSender& sender) {
  sender.announce(folder_entry("one"));
  sender.announce_raw(folder_entry("two"), id_at, 1, 4);
  sender.await_end();
}

void parent_is_a_file(HostileSender& sender) {
  const auto file = sender.whole("file", "a file");
  sender.announce(file_entry("within", 3, file));
  sender.await_end();
}

void parent_is_a_link(HostileSender& sender) {
  const auto link = sender.announce(link_entry("leads", "here"));
  sender.announce(file_entry("within", 3, link));
  sender.await_end();
}

template <std::int64_t seconds>
void at_time(HostileSender& sender) {
  const std::string content = "a file of another time";
  Entry entry = file_entry("file", content.size());
  entry.mtime_s = seconds;
  entry.mtime_ns = 999'999'999;
  sender.content(sender.announce(entry), content);
  sender.finish();
}

void without_rights(HostileSender& sender) {
  Entry folder = folder_entry("folder");
  folder.mode = 0;
  const auto id = sender.announce(folder);
  sender.whole("file", "a file in a folder without rights", id);
  sender.finish();
}

/// Announced, wanted, and then given up: nothing of that size was ever meant to come.
void as_large_as_can_be(HostileSender& sender) {
  const auto id = sender.announce(file_entry("file", INT64_MAX));
  sender.await(MessageType::want);
  sender.say(FileFailed{id, Trouble::source, 5});
  sender.finish();
}

void all_sizes_together_overflow(HostileSender& sender) {
  for (int i = 0; i < 2; ++i) {
    const auto id = sender.announce(file_entry("file" + std::to_string(i), INT64_MAX));
    sender.say(FileFailed{id, Trouble::source, 5});
  }
  sender.announce(file_entry("file", INT64_MAX));
  sender.finish();
}

/// Names that are the system's are left out; the file is copied.
void system_xattrs(HostileSender& sender) {
  const std::string content = "a file with attributes of the system";
  Entry entry = file_entry("file", content.size());
  for (const char* name : {"security.xenlane", "trusted.xenlane", "security.capability",
                           "system.posix_acl_access", "user", ""}) {
    entry.xattrs.push_back({name, "x"});
  }
  sender.content(sender.announce(entry), content);
  sender.finish();
}

void odd_xattrs(HostileSender& sender) {
  const std::string content = "a file with odd attributes";
  for (const std::string& name :
       {std::string("user."), std::string("user.a\0b", 8), "user." + std::string(250, 'n')}) {
    Entry entry = file_entry("file", content.size());
    entry.xattrs.push_back({name, std::string(xattr_bytes_max, 'v')});
    sender.content(sender.announce(entry), content);
  }
  sender.finish();
}

void too_many_xattrs(HostileSender& sender) {
  Entry entry = file_entry("file", 3);
  for (std::size_t i = 0; i <= xattrs_max; ++i) entry.xattrs.push_back({"user.a", ""});
  sender.announce(entry);
  sender.await_end();
}

void too_long_xattr(HostileSender& sender) {
  Entry entry = file_entry("file", 3);
  entry.xattrs.push_back({"user.a", std::string(xattr_bytes_max + 1, 'v')});
  sender.announce(entry);
  sender.await_end();
}

void cut(HostileSender& sender) {
  Bytes bytes;
  Entry entry = file_entry("file", 3);
  entry.id = 1;
  encode(bytes, entry);
  bytes[0] = static_cast<std::byte>(std::to_integer<int>(bytes[0]) - 1);  // its length
  sender.send(bytes);
  sender.await_end();
}

void padded(HostileSender& sender) {
  Bytes bytes;
  Entry entry = file_entry("file", 3);
  entry.id = 1;
  encode(bytes, entry);
  bytes[0] = static_cast<std::byte>(std::to_integer<int>(bytes[0]) + 1);
  bytes.push_back({});
  sender.send(bytes);
  sender.await_end();
}

void file_where_folder_was(HostileSender& sender) {
  sender.announce(folder_entry("same"));
  sender.whole("same", "a file where a folder is");
  sender.whole("here", std::string(300'000, 'h'));
  sender.finish();
}

void folder_where_file_was(HostileSender& sender) {
  sender.whole("same", "a file");
  const auto folder = sender.announce(folder_entry("same"));
  sender.announce(file_entry("within", 3, folder));
  sender.finish();
}

void link_where_folder_was(HostileSender& sender) {
  sender.announce(folder_entry("same"));
  sender.announce(link_entry("same", "old"));
  sender.finish();
}

void same_name_twice(HostileSender& sender) {
  sender.whole("same", "the first");
  sender.whole("same", "the second");
  const auto one = sender.announce(file_entry("same", 5));
  const auto two = sender.announce(file_entry("same", 5));
  sender.content(two, "12345");
  sender.content(one, "54321");
  sender.finish();
}

void same_folder_twice(HostileSender& sender) {
  const auto one = sender.announce(folder_entry("same"));
  const auto two = sender.announce(folder_entry("same"));
  sender.whole("file", "in the first", one);
  sender.whole("file", "in the second", two);
  sender.finish();
}

}  // namespace

std::vector<SenderWay> entry_ways() {
  constexpr std::string_view counts = "counts its entries otherwise";
  constexpr std::string_view none = "names a folder that is none";
  constexpr std::string_view bits = "more than permissions in a mode";
  using enum Verdict;
  return {
      {"id-0", "an entry of id 0", gives_up, counts, with<id_at, 0, 4>},
      {"id-2-first", "ids that begin at 2", gives_up, counts, with<id_at, 2, 4>},
      {"id-highest", "an entry of the highest id", gives_up, counts, with<id_at, 0xffffffff, 4>},
      {"id-twice", "two entries of one id", gives_up, counts, id_twice},
      {"parent-unknown", "an entry in a folder that never came", gives_up, none, in_folder<77>},
      {"parent-itself", "an entry in itself", gives_up, none, in_folder<1>},
      {"parent-a-file", "an entry in a file", gives_up, none, parent_is_a_file},
      {"parent-a-link", "an entry in a link to a folder", gives_up, none, parent_is_a_link},
      {"kind-0", "an entry of no kind", gives_up, "neither file nor folder", with<kind_at, 0, 1>},
      {"kind-5", "a kind that does not exist", gives_up, "neither file nor folder",
       with<kind_at, 5, 1>},
      {"flags-of-entry", "flags that do not exist", gives_up, "a flag that is none",
       with<flags_at, 0xff, 1>},
      {"mode-setuid", "a program that runs as its owner", gives_up, bits, with<mode_at, 04755, 2>},
      {"mode-setgid", "one that runs as its group", gives_up, bits, with<mode_at, 02755, 2>},
      {"mode-sticky", "a sticky file", gives_up, bits, with<mode_at, 01777, 2>},
      {"mode-of-device", "the type of a device in a mode", gives_up, bits,
       with<mode_at, 060644, 2>},
      {"mode-0", "a folder without rights, and a file in it", harmless, {}, without_rights},
      {"nanoseconds-now", "nanoseconds that mean now to the kernel", gives_up,
       "a time that is none", with<nanoseconds_at, (1U << 30U) - 1, 4>},
      {"nanoseconds-1e9", "a second of nanoseconds", gives_up, "a time that is none",
       with<nanoseconds_at, 1'000'000'000, 4>},
      {"time-lowest", "a file from before there was anything", harmless, {}, at_time<INT64_MIN>},
      {"time-highest", "a file from after everything", harmless, {}, at_time<INT64_MAX>},
      {"size-2-63", "a size beyond the highest", gives_up, "a size that no file has",
       with<size_at, 1ULL << 63U, 8>},
      {"size-highest", "the highest size, and then nothing", unreadable, "file: cannot be read",
       as_large_as_can_be},
      {"sizes-overflow", "sizes whose sum is beyond 64 bits", no_room, "no room for it",
       all_sizes_together_overflow},
      {"xattrs-of-system", "attributes that give rights", harmless, {}, system_xattrs},
      {"xattrs-odd", "attributes that no file system takes", any, {}, odd_xattrs},
      {"xattrs-65", "one attribute too many", gives_up, "too many extended attributes",
       too_many_xattrs},
      {"xattr-of-16385", "an attribute one byte too long", gives_up, "too long a value",
       too_long_xattr},
      {"entry-cut", "an entry shorter than its fields", gives_up, "it is cut short", cut},
      {"entry-padded", "an entry longer than its fields", gives_up, "more follows", padded},
      {"file-over-folder", "files of the names of folders", unwritable, "cannot be written",
       file_where_folder_was},
      {"folder-over-file", "a folder of a file's name, and a file in it", unwritable,
       "there is something else of that name", folder_where_file_was},
      {"link-over-folder", "a link of a folder's name", unwritable, "cannot be written",
       link_where_folder_was},
      {"same-file-twice",
       "files of one name, one within the other's turn",
       harmless,
       {},
       same_name_twice},
      {"same-folder-twice", "one folder with two ids", harmless, {}, same_folder_twice},
  };
}

}  // namespace xenlane::bridge::files::hostile

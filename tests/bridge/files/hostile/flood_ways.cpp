// Much of what is harmless in small numbers: the other side's memory must not grow with it.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

constexpr int many = 20'000;

void refused_files(HostileSender& sender) {
  for (int i = 0; i < many; ++i) sender.announce(file_entry("../" + std::to_string(i), 3));
  sender.finish();
}

void refused_folders(HostileSender& sender) {
  std::uint32_t parent = 0;
  for (int i = 0; i < many; ++i) parent = sender.announce(folder_entry("..", parent));
  sender.finish();
}

void folders_in_folders(HostileSender& sender) {
  std::uint32_t parent = 0;
  for (int i = 0; i < 300; ++i) parent = sender.announce(folder_entry("d", parent));
  sender.announce(file_entry("deep", 3, parent));
  sender.finish();
}

/// Each as large as an entry may be: together more than 100 MB.
void folders_with_xattrs(HostileSender& sender) {
  for (int i = 0; i < 2000; ++i) {
    Entry folder = folder_entry("folder");
    for (int part = 0; part < 4; ++part) {
      folder.xattrs.push_back({"user." + std::to_string(part), std::string(15'000, 'v')});
    }
    sender.announce(folder);
  }
  sender.finish();
}

void files_never_sent(HostileSender& sender) {
  for (int i = 0; i < many; ++i) sender.announce(file_entry(std::to_string(i), 3));
  sender.await_end();
}

void hard_links(HostileSender& sender) {
  for (int i = 0; i < many; ++i) sender.announce(hard_link_entry("hard", 1));
  sender.finish();
}

void unreadable_storm(HostileSender& sender) {
  for (int i = 0; i < many; ++i) sender.say(Unreadable{Trouble::source, 13, "a"});
  sender.finish();
}

/// What it answers is never read.
void deaf(HostileSender& sender) {
  Bytes bytes;
  for (std::uint32_t id = 1; id <= 200'000; ++id) {
    Entry entry = file_entry("../x", 3);
    entry.id = id;
    encode(bytes, entry);
  }
  sender.send_deaf(bytes);
  sender.close();
}

void byte_by_byte(HostileSender& sender) {
  const std::string content = "a file that comes byte by byte";
  Bytes bytes;
  Entry entry = file_entry("file", content.size());
  entry.id = 1;
  encode(bytes, entry);
  for (std::size_t i = 0; i < bytes.size(); ++i) sender.send(BytesView(bytes).subspan(i, 1));
  sender.content(1, content);
  sender.finish();
}

}  // namespace

std::vector<SenderWay> sender_flood_ways() {
  using enum Verdict;
  return {
      {"refused-files", "20,000 files that are refused", refused, "the name is a path",
       refused_files},
      {"refused-folders", "20,000 folders that are refused, each in the one before", refused,
       "the name is a folder's own", refused_folders},
      {"folders-in-folders", "300 folders within each other", no_room, "the quota is used up",
       folders_in_folders},
      {"folders-with-xattrs",
       "2,000 folders with 60 KB of attributes each",
       any,
       {},
       folders_with_xattrs},
      {"files-never-sent", "20,000 files announced and none sent", gives_up,
       "has too much under way", files_never_sent},
      {"hard-links", "20,000 hard links to nothing", unwritable,
       "the file that it is a link to was not copied", hard_links},
      {"unreadable-storm", "20,000 files that could not be read", Verdict::unreadable,
       "10000 further troubles are not shown", unreadable_storm},
      {"sender-never-reads", "200,000 entries, and the answers are never read", gives_up, {}, deaf},
      {"entry-byte-by-byte", "an entry in messages of one byte", harmless, {}, byte_by_byte},
  };
}

}  // namespace xenlane::bridge::files::hostile

// Content that was not asked for, is not as long as was said, has another digest, or does not end;
// and messages that have no place where they come.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

constexpr std::string_view content = "the content of a file";

/// A file that is wanted, begun.
std::uint32_t begun(HostileSender& sender, std::uint64_t size = content.size()) {
  const auto id = sender.announce(file_entry("file", size));
  sender.say(FileBegin{id, 0});
  return id;
}

void not_wanted(HostileSender& sender) {
  sender.say(FileBegin{1, 0});
  sender.await_end();
}

void of_a_folder(HostileSender& sender) {
  sender.say(FileBegin{sender.announce(folder_entry("folder")), 0});
  sender.await_end();
}

void of_a_refused_file(HostileSender& sender) {
  sender.say(FileBegin{sender.announce(file_entry("../file", 3)), 0});
  sender.await_end();
}

void twice(HostileSender& sender) {
  const auto id = sender.whole("file", content);
  sender.say(FileBegin{id, 0});
  sender.await_end();
}

void within_another(HostileSender& sender) {
  const auto other = sender.announce(file_entry("other", 3));
  begun(sender);
  sender.say(FileBegin{other, 0});
  sender.await_end();
}

void data_of_nothing(HostileSender& sender) {
  sender.say_data(content);
  sender.await_end();
}

void hole_in_nothing(HostileSender& sender) {
  sender.say_hole(1);
  sender.await_end();
}

void end_of_nothing(HostileSender& sender) {
  sender.say(FileEnd{digest_of("")});
  sender.await_end();
}

void in_the_middle(HostileSender& sender) {
  const auto id = sender.announce(file_entry("file", content.size()));
  sender.say(FileBegin{id, 5});
  sender.await_end();
}

void in_the_middle_of_all(HostileSender& sender) {
  const auto id = sender.announce(file_entry("file", INT64_MAX));
  sender.say(FileBegin{id, UINT64_MAX});
  sender.await_end();
}

void more_than_said(HostileSender& sender) {
  begun(sender, content.size() - 1);
  sender.say_data(content);
  sender.await_end();
}

void more_in_pieces(HostileSender& sender) {
  begun(sender, 1000);
  for (int i = 0; i < 1001; ++i) sender.say_data("x");
  sender.await_end();
}

void more_than_kept(HostileSender& sender) {
  begun(sender, 300'000);
  sender.say_data(std::string(300'001, 'x'));
  sender.await_end();
}

void less_than_said(HostileSender& sender) {
  begun(sender, content.size() + 1);
  sender.say_data(content);
  sender.say(FileEnd{digest_of(content)});
  sender.await_end();
}

template <std::uint64_t length>
void hole_of(HostileSender& sender) {
  begun(sender, 10);
  sender.say_hole(length);
  sender.await_end();
}

/// The sum of both is beyond 64 bits.
void holes_overflow(HostileSender& sender) {
  begun(sender, 10);
  sender.say_data("123456789");
  sender.say_hole(INT64_MAX);
  sender.await_end();
}

/// More than could be looked at in years; the sender does not wait for it.
void endless_hole(HostileSender& sender) {
  const auto id = sender.announce(file_entry("file", INT64_MAX));
  sender.await(MessageType::want);
  sender.say(FileBegin{id, 0});
  sender.say_hole(INT64_MAX - 1);
}

void endless_hole_of_unknown_size(HostileSender& sender) {
  Entry entry = file_entry("file", 0);
  entry.size_known = false;
  const auto id = sender.announce(entry);
  sender.await(MessageType::want);
  sender.say(FileBegin{id, 0});
  for (int i = 0; i < 3; ++i) sender.say_hole(INT64_MAX);
}

template <std::size_t size>
void wrong_digest(HostileSender& sender, std::string_view text) {
  begun(sender, text.size());
  sender.say_data(text);
  Digest digest;
  digest.size = size;
  sender.say(FileEnd{digest});
  sender.whole("next", "the next file");
  sender.finish();
}

void digest_of_zeros(HostileSender& sender) {
  wrong_digest<16>(sender, content);
}
void digest_of_zeros_large(HostileSender& sender) {
  wrong_digest<16>(sender, std::string(300'000, 'x'));
}
void no_digest(HostileSender& sender) {
  wrong_digest<0>(sender, content);
}

void digest_of_other_kind(HostileSender& sender) {
  begun(sender);
  sender.say_data(content);
  sender.say(FileEnd{digest_of(content, DigestKind::sha256)});
  sender.finish();
}

void digest_of_7_bytes(HostileSender& sender) {
  begun(sender);
  sender.say_data(content);
  Bytes bytes;
  encode_header(bytes, MessageType::file_end, 8);
  bytes.resize(bytes.size() + 8, std::byte{7});
  sender.send(bytes);
  sender.await_end();
}

void hard_link_to_mismatch(HostileSender& sender) {
  Entry entry = file_entry("file", 3);
  entry.has_links = true;
  const auto id = sender.announce(entry);
  sender.say(FileBegin{id, 0});
  sender.say_data("abc");
  sender.say(FileEnd{digest_of("abd")});
  sender.announce(hard_link_entry("hard", id));
  sender.finish();
}

void sent_early(HostileSender& sender) {
  sender.announce(file_entry("file", 3));
  sender.say_zeros(MessageType::sent, 0);
  sender.await_end();
}

void sent_within_file(HostileSender& sender) {
  begun(sender);
  sender.say_zeros(MessageType::sent, 0);
  sender.await_end();
}

void gives_up_another(HostileSender& sender) {
  const auto other = sender.announce(file_entry("other", 3));
  begun(sender);
  sender.say(FileFailed{other, Trouble::changed, 116});
  sender.await_end();
}

void gives_up_nothing(HostileSender& sender) {
  sender.say(FileFailed{3, Trouble::changed, 116});
  sender.await_end();
}

void gives_up_in_the_middle(HostileSender& sender) {
  const auto id = begun(sender, 300'000);
  sender.say_data(std::string(299'999, 'x'));
  sender.say(FileFailed{id, Trouble::changed, 116});
  sender.finish();
}

template <MessageType type>
void receivers_word(HostileSender& sender) {
  sender.say_id(type, 1);
  sender.await_end();
}

void header_of(HostileSender& sender, std::uint32_t type, std::uint64_t size,
               std::uint8_t reserved) {
  Bytes bytes(header_bytes);
  for (std::size_t i = 0; i < 4; ++i) bytes[i] = static_cast<std::byte>(size >> (8 * i));
  bytes[4] = static_cast<std::byte>(type);
  bytes[7] = static_cast<std::byte>(reserved);
  sender.send(bytes);
  sender.await_end();
}
template <std::uint32_t type, std::uint64_t size, std::uint8_t reserved>
void header(HostileSender& sender) {
  header_of(sender, type, size, reserved);
}

void empty_data(HostileSender& sender) {
  begun(sender);
  for (int i = 0; i < 1000; ++i) sender.say_data("");
  for (int i = 0; i < 1000; ++i) sender.say_hole(0);
  sender.rest_of(content);
  sender.finish();
}

void unreadable_with_escapes(HostileSender& sender) {
  sender.say(Unreadable{Trouble::source, 13, "\x1b[2J\xe2\x80\xae\nerror: root"});
  sender.finish();
}

void ends_in_the_middle(HostileSender& sender) {
  sender.whole("before", "a file before");
  begun(sender);
  sender.say_data(content.substr(0, 5));
  sender.finish_writing();
  sender.await_end();
}

void ends_within_a_message(HostileSender& sender) {
  begun(sender);
  Bytes bytes;
  encode_header(bytes, MessageType::data, content.size());
  bytes.resize(bytes.size() + 3);
  sender.send(bytes);
  sender.finish_writing();
  sender.await_end();
}

void listed_twice(HostileSender& sender) {
  sender.say(Listed{UINT64_MAX});
  sender.whole("file", content);
  sender.say(Listed{0});
  sender.finish();
}

}  // namespace

std::vector<SenderWay> content_ways() {
  constexpr std::string_view unasked = "sends a file that nobody asked for";
  constexpr std::string_view of_none = "sends content of no file";
  constexpr std::string_view more = "sends more of a file than it has";
  constexpr std::string_view digest = "arrived with another digest";
  using enum Verdict;
  return {
      {"content-unasked", "a file that was never announced", gives_up, unasked, not_wanted},
      {"content-of-folder", "the content of a folder", gives_up, unasked, of_a_folder},
      {"content-of-refused", "a file that was refused", gives_up, unasked, of_a_refused_file},
      {"content-twice", "a file again", gives_up, unasked, twice},
      {"content-within-another", "a file begun within another", gives_up,
       "begins a file within another", within_another},
      {"data-of-nothing", "data before any file", gives_up, of_none, data_of_nothing},
      {"hole-in-nothing", "a hole before any file", gives_up, of_none, hole_in_nothing},
      {"end-of-nothing", "an end before any file", gives_up, "ends a file that it did not begin",
       end_of_nothing},
      {"begin-in-middle", "a file from its middle on", gives_up, "begins a file in its middle",
       in_the_middle},
      {"begin-at-2-64", "a file from behind its end on", gives_up, "begins a file in its middle",
       in_the_middle_of_all},
      {"more-than-said", "one byte more than was said", gives_up, more, more_than_said},
      {"more-in-pieces", "the same in pieces", gives_up, more, more_in_pieces},
      {"more-than-kept", "the same of a large file", gives_up, more, more_than_kept},
      {"less-than-said", "one byte less, with its right digest", gives_up,
       "ends a file before its end", less_than_said},
      {"hole-of-11", "a hole beyond the file's size", gives_up, more, hole_of<11>},
      {"hole-of-2-63", "a hole that no file has", gives_up, "sends a hole that no file has",
       hole_of<1ULL << 63U>},
      {"hole-of-2-64", "a hole of all ones", gives_up, "sends a hole that no file has",
       hole_of<UINT64_MAX>},
      {"holes-overflow", "data and a hole, together beyond all", gives_up, more, holes_overflow},
      {"hole-endless", "a hole of 8 EiB, and then nobody waits", gives_up, {}, endless_hole},
      {"hole-endless-unknown",
       "the same in a file of unknown size",
       gives_up,
       {},
       endless_hole_of_unknown_size},
      {"digest-wrong", "another digest", mismatch, digest, digest_of_zeros},
      {"digest-wrong-large", "another digest of a file that is kept meanwhile", mismatch, digest,
       digest_of_zeros_large},
      {"digest-empty", "no digest", mismatch, digest, no_digest},
      {"digest-of-other-kind", "the right SHA-256 where XXH3 is agreed", mismatch, digest,
       digest_of_other_kind},
      {"digest-of-7", "a digest of 7 bytes", gives_up, "a digest of no known size",
       digest_of_7_bytes},
      {"hard-link-to-mismatch", "a hard link to a file that was left out", mismatch, digest,
       hard_link_to_mismatch},
      {"sent-early", "the end before what was asked for", gives_up,
       "ends before it has sent what was asked for", sent_early},
      {"sent-within-file", "the end within a file", gives_up,
       "ends before it has sent what was asked for", sent_within_file},
      {"gives-up-another", "another file given up than the one that comes", gives_up,
       "gives up another file", gives_up_another},
      {"gives-up-nothing", "a file given up that nobody asked for", gives_up,
       "gives up a file it does not send", gives_up_nothing},
      {"gives-up-at-last-byte", "a file given up one byte before its end", changed,
       "changed while it was being copied", gives_up_in_the_middle},
  };
}

std::vector<SenderWay> message_ways() {
  constexpr std::string_view receivers = "sends what only a receiver says";
  using enum Verdict;
  return {
      {"done-from-sender", "a receiver's word from a sender", gives_up, receivers,
       receivers_word<MessageType::done>},
      {"have-from-sender", "another", gives_up, receivers, receivers_word<MessageType::have>},
      {"type-0-message", "a message of type 0", gives_up, "a message of no known type",
       header<0, 0, 0>},
      {"type-255-message", "a message of all ones", gives_up, "a message of no known type",
       header<255, 0xffffffff, 255>},
      {"message-of-65537", "an entry of 65537 bytes", gives_up, "too long a message",
       header<16, 65537, 0>},
      {"data-of-1048577", "data of 1 MiB and a byte", gives_up, "too long a message",
       header<18, 1048577, 0>},
      {"header-reserved", "a header with a byte that is reserved", gives_up,
       "a header that is none", header<16, 0, 1>},
      {"data-empty-message",
       "thousands of messages with nothing in them",
       harmless,
       {},
       empty_data},
      {"unreadable-with-escapes", "an unreadable file whose name talks to the terminal", unreadable,
       R"(\x1b[2J\xe2\x80\xae\x0aerror: root: cannot be read)", unreadable_with_escapes},
      {"ends-in-file", "the connection ends within a file", gives_up,
       "ended before all had been sent", ends_in_the_middle},
      {"ends-in-message", "the connection ends within a message", gives_up,
       "ended within a message", ends_within_a_message},
      {"listed-twice", "numbers of entries that are not so", harmless, {}, listed_twice},
  };
}

}  // namespace xenlane::bridge::files::hostile

// Answers that a sender must not believe: for what it has not sent, twice, too early, too many.
// Whatever is asked for, nothing is read but what its own user named.
#include "tests/bridge/files/hostile/ways.hpp"

namespace xenlane::bridge::files::hostile {

namespace {

template <const char* name>
void want_of(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of(name));
  receiver.await_end();
}
constexpr char a_folder[] = "folder";
constexpr char a_link[] = "door";
constexpr char nothing[] = "nothing";

void want_of_later(HostileReceiver& receiver) {
  receiver.want(4'000'000);
  receiver.await_end();
}

void want_of_all_ids(HostileReceiver& receiver) {
  receiver.await_listed();
  for (std::uint32_t id = 1; id < 1000; ++id) receiver.want(id);
  receiver.await_end();
}

void want_twice(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("within"));
  receiver.want(receiver.id_of("within"));
  receiver.await_end();
}

void want_after_content(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("within"));
  receiver.take_file();
  receiver.want(receiver.id_of("within"));
  receiver.await_end();
}

/// What it claims to have is not so; it gets the whole file, and then says so.
void have(HostileReceiver& receiver, std::uint64_t bytes, const Digest& digest) {
  receiver.await_listed();
  receiver.want(receiver.id_of("within"), bytes, digest);
  if (receiver.take_file() == "a file in a folder") {
    receiver.say_id(MessageType::failed, 0);  // too short to be one: ends it
  }
  receiver.await_end();
}
void have_more_than_there_is(HostileReceiver& receiver) {
  have(receiver, UINT64_MAX, digest_of("x"));
}
void have_with_wrong_digest(HostileReceiver& receiver) {
  have(receiver, 5, digest_of("A fil"));
}
void have_without_digest(HostileReceiver& receiver) {
  have(receiver, 5, {});
}

void want_with_odd_digest(HostileReceiver& receiver) {
  Bytes bytes;
  encode_header(bytes, MessageType::want, 4 + 8 + 1 + 9);
  bytes.resize(bytes.size() + 4 + 8);
  bytes.resize(bytes.size() + 1 + 9, std::byte{9});
  receiver.send(bytes);
  receiver.await_end();
}

template <MessageType type, std::uint32_t id>
void answer(HostileReceiver& receiver) {
  receiver.say_id(type, id);
  receiver.await_end();
}

void failed_for_nothing(HostileReceiver& receiver) {
  receiver.say(Failed{4'000'000, Trouble::destination, 5, "no"});
  receiver.await_end();
}

/// As if all had arrived, though nothing was asked for.
void done_unsent(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.say_id(MessageType::done, receiver.id_of("within"));
  receiver.await_end();
}

void done_half_sent(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("large"));
  receiver.say_id(MessageType::done, receiver.id_of("large"));
  receiver.await_end();
}

void result_at_once(HostileReceiver& receiver) {
  receiver.say(Result{1, 1});
  receiver.await_end();
}

void result_before_sent(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.say(Result{1, 1});
  receiver.await_end();
}

void result_unconfirmed(HostileReceiver& receiver) {
  receiver.await_listed();
  for (const char* name : {"small", "small-too", "within", "large"}) {
    receiver.say_id(MessageType::have, receiver.id_of(name));
  }
  receiver.say_id(MessageType::done, receiver.id_of("link"));
  receiver.say_id(MessageType::done, receiver.id_of("door"));
  receiver.say(Result{1, 1});  // the folder is not confirmed
  receiver.await_end();
}

template <MessageType type>
void senders_word(HostileReceiver& receiver) {
  receiver.say_zeros(type, 4);
  receiver.await_end();
}

void type_200(HostileReceiver& receiver) {
  receiver.say_zeros(static_cast<MessageType>(200), 4);
  receiver.await_end();
}

void too_long(HostileReceiver& receiver) {
  receiver.say_zeros(MessageType::failed, body_bytes_max + 1);
  receiver.await_end();
}

template <std::uint8_t trouble, std::uint16_t error>
void failed_of(HostileReceiver& receiver) {
  receiver.await_listed();
  Bytes bytes;
  encode(bytes, Failed{receiver.id_of("within"), Trouble::destination, 5, ""});
  bytes[header_bytes + 4] = static_cast<std::byte>(trouble);
  bytes[header_bytes + 5] = static_cast<std::byte>(error & 0xffU);
  bytes[header_bytes + 6] = static_cast<std::byte>(error >> 8U);
  receiver.send(bytes);
  receiver.await_end();
}

/// The last word about everything: the transfer ends, and the texts are shown.
void failed_with_escapes(HostileReceiver& receiver) {
  receiver.await_listed();
  const std::string text = "\x1b]0;owned\x07\nerror: trust me" + std::string(4000, 'x');
  for (const char* name : {"small", "small-too", "within", "large", "link", "door", "folder"}) {
    receiver.say(Failed{receiver.id_of(name), Trouble::destination, 4095, text});
  }
  receiver.await(MessageType::sent);
  receiver.say(Result{0, 0});
  receiver.await_end();
}

/// While the sender writes and nobody reads: it may keep only so many, and none of the text.
void answers_storm(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("large"));
  Bytes bytes;
  for (int i = 0; i < 100; ++i) {
    encode(bytes, Failed{receiver.id_of("folder"), Trouble::refused, 1, std::string(4000, 'x')});
  }
  for (int i = 0; i < 800; ++i) receiver.send_deaf(bytes);
}

void receiver_never_reads(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("large"));
  receiver.close();
}

void half_an_answer(HostileReceiver& receiver) {
  receiver.await_listed();
  Bytes bytes;
  encode(bytes, Want{1, 0, {}});
  receiver.send(BytesView(bytes).first(header_bytes + 2));
  receiver.finish_writing();
  receiver.await_end();
}

void goes_at_once(HostileReceiver& receiver) {
  receiver.close();
}

void goes_unconfirmed(HostileReceiver& receiver) {
  receiver.await_listed();
  receiver.want(receiver.id_of("within"));
  receiver.take_file();
  receiver.finish_writing();
  receiver.await_end();
}

void wants_all_and_more(HostileReceiver& receiver) {
  receiver.answer_honestly();
  receiver.want(1);
  receiver.want(4'000'000);
  receiver.say_zeros(MessageType::entry, 40);
}

}  // namespace

std::vector<ReceiverWay> receiver_ways() {
  constexpr std::string_view no_entry = "answers for an entry that there is not";
  constexpr std::string_view had = "wants what it cannot have, or has had";
  constexpr std::string_view unsent = "confirms a file that it has not been sent";
  constexpr std::string_view early = "ends before it has confirmed all";
  constexpr std::string_view ended = "ended before all was confirmed";
  constexpr std::string_view senders = "says what only a sender sends";
  using enum Verdict;
  return {
      {"want-of-folder", "a folder's content", gives_up, had, want_of<a_folder>},
      {"want-of-link", "what a link leads to", gives_up, had, want_of<a_link>},
      {"want-of-0", "the content of id 0", gives_up, no_entry, want_of<nothing>},
      {"want-of-later", "an id that does not come", gives_up, no_entry, want_of_later},
      {"want-of-all-ids", "a thousand ids, one after another", gives_up, {}, want_of_all_ids},
      {"want-twice", "one file twice", gives_up, had, want_twice},
      {"want-after-content", "one file again", gives_up, had, want_after_content},
      {"have-more-than-there-is",
       "more bytes at hand than the file has",
       gives_up,
       {},
       have_more_than_there_is},
      {"have-with-wrong-digest",
       "bytes at hand that are others",
       gives_up,
       {},
       have_with_wrong_digest},
      {"have-without-digest", "bytes at hand, and no digest", gives_up, {}, have_without_digest},
      {"want-with-odd-digest", "a digest of 9 bytes", gives_up, "a digest of no known size",
       want_with_odd_digest},
      {"have-of-0", "id 0 was there", gives_up, no_entry, answer<MessageType::have, 0>},
      {"done-of-later", "an id that does not come is done", gives_up, no_entry,
       answer<MessageType::done, 4'000'000>},
      {"failed-of-later", "an id that does not come failed", gives_up, no_entry,
       failed_for_nothing},
      {"done-unsent", "a file confirmed that was never asked for", gives_up, unsent, done_unsent},
      {"done-half-sent", "a file confirmed before it is sent", gives_up, unsent, done_half_sent},
      {"result-at-once", "the end before the beginning", gives_up, early, result_at_once},
      {"result-before-sent", "the end before anything is confirmed", gives_up, early,
       result_before_sent},
      {"result-unconfirmed", "the end with one folder not confirmed", gives_up, early,
       result_unconfirmed},
      {"data-from-receiver", "content from a receiver", gives_up, "sends content back",
       senders_word<MessageType::data>},
      {"entry-from-receiver", "an entry from a receiver", gives_up, senders,
       senders_word<MessageType::entry>},
      {"sent-from-receiver", "the sender's end from a receiver", gives_up, senders,
       senders_word<MessageType::sent>},
      {"answer-of-type-200", "an answer of no type", gives_up, "a message of no known type",
       type_200},
      {"answer-of-65537", "an answer of 65537 bytes", gives_up, "too long a message", too_long},
      {"failed-of-trouble-0", "no trouble", gives_up, "a trouble that is none", failed_of<0, 5>},
      {"failed-of-trouble-8", "a trouble that does not exist", gives_up, "a trouble that is none",
       failed_of<8, 5>},
      {"failed-of-error-4096", "an error that does not exist", gives_up, "an error that is none",
       failed_of<3, 4096>},
      {"failed-with-escapes", "reasons that talk to the terminal", unwritable,
       R"((\x1b]0;owned\x07\x0aerror: trust mexxx)", failed_with_escapes},
      {"answers-storm",
       "80,000 answers of 4 KB while nothing is read",
       gives_up,
       {},
       answers_storm},
      {"receiver-never-reads",
       "a large file, and nobody reads it",
       gives_up,
       {},
       receiver_never_reads},
      {"answer-cut", "the connection ends within an answer", gives_up, {}, half_an_answer},
      {"goes-at-once", "the connection ends at once", gives_up, {}, goes_at_once},
      {"goes-unconfirmed", "the connection ends before all is confirmed", gives_up, ended,
       goes_unconfirmed},
      {"answers-behind-result", "answers behind the end", harmless, {}, wants_all_and_more},
  };
}

}  // namespace xenlane::bridge::files::hostile

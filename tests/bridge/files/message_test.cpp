// The messages of the file service: what is said is what is heard, and nothing else is: no prefix,
// no byte more, no value beyond its limits (docs/files.md).
#include "bridge/files/message.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace xenlane::bridge::files {
namespace {

using testing::HasSubstr;

/// A message's body, and whether it is taken for one of its type.
struct Sample {
  std::string name;
  Bytes body;
  std::function<bool(BytesView)> is_taken;
  /// Encodes what was decoded.
  std::function<Bytes(BytesView)> again;
};

template <typename T>
Bytes encoded(const T& message) {
  Bytes bytes;
  encode(bytes, message);
  return bytes;
}

Bytes body_of(Bytes message) {
  message.erase(message.begin(), message.begin() + header_bytes);
  return message;
}

template <typename T>
Sample sample(std::string name, const T& message) {
  return {std::move(name), body_of(encoded(message)),
          [](BytesView body) { return decode<T>(body).has_value(); },
          [](BytesView body) { return body_of(encoded(decode<T>(body).value())); }};
}

Digest digest_of(DigestKind kind) {
  return Hasher(kind).digest();
}

Entry entry() {
  Entry entry;
  entry.id = 0x01020304;
  entry.parent = 7;
  entry.kind = EntryKind::file;
  entry.has_links = true;
  entry.mode = 0640;
  entry.mtime_s = -5;
  entry.mtime_ns = 999'999'999;
  entry.size = INT64_MAX;
  entry.uid = 1000;
  entry.gid = 100;
  entry.link_to = 3;
  entry.name = std::string(name_bytes_max, 'n');
  entry.target = std::string(path_bytes_max, 't');
  entry.xattrs = {{"user.a", "value"}, {"user.b", std::string("\0\xff", 2)}};
  return entry;
}

Request request() {
  Request request;
  request.pull = true;
  request.checksum = true;
  request.verify = true;
  request.digest = DigestKind::sha256;
  request.bytes_per_second_max = 0x0102030405060708;
  request.paths = {"a", "b/c", ""};
  request.excludes = {"*.o"};
  return request;
}

std::vector<Sample> samples() {
  return {sample("refuse", Refuse{13, "no"}),
          sample("request", request()),
          sample("ready", Ready{true}),
          sample("entry", entry()),
          sample("file", FileBegin{1, UINT64_MAX}),
          sample("file_end", FileEnd{digest_of(DigestKind::xxh3)}),
          sample("file_end of 32", FileEnd{digest_of(DigestKind::sha256)}),
          sample("file_end of none", FileEnd{}),
          sample("file_failed", FileFailed{9, Trouble::changed, 4095}),
          sample("unreadable", Unreadable{Trouble::source, 2, "a path"}),
          sample("listed", Listed{UINT64_MAX}),
          sample("want", Want{5, 6, digest_of(DigestKind::xxh3)}),
          sample("failed", Failed{5, Trouble::folder, 0, "why"}),
          sample("result", Result{1, 2})};
}

TEST(FilesMessage, WhatIsSaidIsWhatIsHeard) {
  for (const Sample& sample : samples()) {
    EXPECT_EQ(sample.again(sample.body), sample.body) << sample.name;
  }
}

TEST(FilesMessage, NoPrefixOfOneAndNothingBehindIsTaken) {
  for (const Sample& sample : samples()) {
    for (std::size_t size = 0; size < sample.body.size(); ++size) {
      EXPECT_FALSE(sample.is_taken(BytesView(sample.body).first(size)))
          << sample.name << ", " << size << " bytes of it";
    }
    Bytes more = sample.body;
    more.push_back({});
    EXPECT_FALSE(sample.is_taken(more)) << sample.name;
  }
}

/// Any byte of any message may be any other: then it is another message, or none, and what is taken
/// is said as it was heard.
TEST(FilesMessage, WhateverIsTakenIsSaidTheSameAgain) {
  for (const Sample& sample : samples()) {
    if (sample.name == "entry") continue;  // long, and its own test
    for (std::size_t at = 0; at < sample.body.size(); ++at) {
      for (int value = 0; value < 256; ++value) {
        Bytes body = sample.body;
        body[at] = static_cast<std::byte>(value);
        if (sample.is_taken(body)) {
          EXPECT_EQ(sample.again(body), body) << sample.name << " " << at;
        }
      }
    }
  }
}

TEST(FilesMessage, FieldsOfAnEntryKeepTheirMeaning) {
  const auto heard = decode<Entry>(body_of(encoded(entry())));
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->id, 0x01020304U);
  EXPECT_EQ(heard->parent, 7U);
  EXPECT_EQ(heard->mtime_s, -5);
  EXPECT_EQ(heard->size, static_cast<std::uint64_t>(INT64_MAX));
  EXPECT_TRUE(heard->size_known && heard->has_links);
  EXPECT_EQ(heard->xattrs.at(1).value, std::string("\0\xff", 2));
}

std::string fault_of(const Entry& wrong) {
  const auto heard = decode<Entry>(body_of(encoded(wrong)));
  return heard ? "" : heard.error().text;
}

TEST(FilesMessage, EntryBeyondItsLimitsIsNone) {
  const auto with = [](const std::function<void(Entry&)>& change) {
    Entry wrong = entry();
    change(wrong);
    return fault_of(wrong);
  };
  EXPECT_EQ(with([](Entry&) {}), "");
  EXPECT_THAT(with([](Entry& e) { e.mode = 01000; }), HasSubstr("mode"));
  EXPECT_THAT(with([](Entry& e) { e.mtime_ns = 1'000'000'000; }), HasSubstr("time"));
  EXPECT_THAT(with([](Entry& e) { e.size = 1ULL << 63U; }), HasSubstr("size"));
  EXPECT_THAT(with([](Entry& e) { e.kind = EntryKind{0}; }), HasSubstr("neither"));
  EXPECT_THAT(with([](Entry& e) { e.kind = EntryKind{5}; }), HasSubstr("neither"));
  EXPECT_THAT(with([](Entry& e) { e.name += 'n'; }), HasSubstr("name"));
  EXPECT_THAT(with([](Entry& e) { e.target += 't'; }), HasSubstr("target"));
  EXPECT_THAT(with([](Entry& e) { e.xattrs.resize(xattrs_max + 1); }), HasSubstr("attributes"));
  EXPECT_THAT(with([](Entry& e) { e.xattrs[0].value.resize(xattr_bytes_max + 1); }),
              HasSubstr("attribute"));
}

Header header_of(std::uint32_t size, std::uint8_t type) {
  return {size, static_cast<MessageType>(type)};
}

bool is_header(const Header& header) {
  Bytes bytes;
  encode_header(bytes, header.type, header.body_bytes);
  return decode_header(std::span(bytes).first<header_bytes>()).has_value();
}

TEST(FilesMessage, HeadersOfNoTypeOrTooLongAreNone) {
  int known = 0;
  for (int type = 0; type < 256; ++type) {
    const auto byte = static_cast<std::uint8_t>(type);
    known += is_header(header_of(0, byte)) ? 1 : 0;
    const bool is_data = static_cast<MessageType>(byte) == MessageType::data;
    EXPECT_FALSE(is_header(header_of(is_data ? data_bytes_max + 1 : body_bytes_max + 1, byte)));
  }
  EXPECT_EQ(known, 18);
  EXPECT_TRUE(is_header(header_of(data_bytes_max, static_cast<std::uint8_t>(MessageType::data))));
  for (std::size_t reserved = 5; reserved < header_bytes; ++reserved) {
    Bytes bytes;
    encode_header(bytes, MessageType::sent, 0);
    bytes[reserved] = std::byte{1};
    EXPECT_FALSE(decode_header(std::span(bytes).first<header_bytes>()));
  }
}

TEST(FilesMessage, GreetingsOfLaterVersionsMayBeLonger) {
  Bytes body = body_of(encoded(Hello{2, 5}));
  body.resize(body.size() + 20);
  const auto heard = decode<Hello>(body);
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->version_min, 2);
  EXPECT_EQ(heard->version_max, 5);
  EXPECT_FALSE(decode<Hello>(body_of(encoded(Hello{3, 2}))));
  body[0] = std::byte{0};
  EXPECT_FALSE(decode<Hello>(body));
}

TEST(FilesMessage, RequestNamesAtLeastOnePathAndToPushOnlyOne) {
  Request none = request();
  none.paths.clear();
  EXPECT_FALSE(decode<Request>(body_of(encoded(none))));
  Request push = request();
  push.pull = false;
  EXPECT_FALSE(decode<Request>(body_of(encoded(push))));
  push.paths.resize(1);
  EXPECT_TRUE(decode<Request>(body_of(encoded(push))));
}

TEST(FilesMessage, NumbersAloneAreTakenWhole) {
  Bytes hole;
  encode_hole(hole, 0x0102030405060708);
  EXPECT_EQ(decode_hole(body_of(hole)).value(), 0x0102030405060708U);
  Bytes id;
  encode_id(id, MessageType::done, 0x01020304);
  EXPECT_EQ(decode_id(body_of(id)).value(), 0x01020304U);
  EXPECT_FALSE(decode_id(body_of(hole)));
  EXPECT_FALSE(decode_hole(body_of(id)));
}

}  // namespace
}  // namespace xenlane::bridge::files

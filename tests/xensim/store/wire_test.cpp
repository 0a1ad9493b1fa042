// Bytes, paths, permission texts and the queue of outgoing messages, each by itself.
#include <cerrno>

#include "tests/xensim/store/world.hpp"
#include "transport/xensim/store/outbox.hpp"
#include "transport/xensim/store/path.hpp"
#include "transport/xensim/store/permissions.hpp"
#include "transport/xensim/store/wire.hpp"

namespace xensim::test {
namespace {

TEST(Decoder, RebuildsMessagesFromSingleBytes) {
  const Message first{XS_READ, 7, 3, strings({"name"})};
  const Message second{XS_WRITE, 8, 0, ""};
  Decoder decoder;
  std::vector<Message> decoded;
  for (const char byte : encode(first) + encode(second)) {
    decoder.feed({&byte, 1});
    while (auto message = decoder.next()) decoded.push_back(*message);
  }
  EXPECT_THAT(decoded, ElementsAre(first, second));
}

TEST(Decoder, FindsSeveralMessagesInOneChunk) {
  const Message message{XS_READ, 1, 0, std::string(payload_bytes_max, 'x')};
  Decoder decoder;
  decoder.feed(encode(message) + encode(message) + "rest");
  EXPECT_EQ(decoder.next(), message);
  EXPECT_EQ(decoder.next(), message);
  EXPECT_EQ(decoder.next(), std::nullopt);
  EXPECT_FALSE(decoder.is_broken());
}

TEST(Decoder, IsBrokenForGoodByAnAnnouncementAboveTheLimit) {
  Message message{XS_READ, 1, 0, std::string(payload_bytes_max + 1, 'x')};
  Decoder decoder;
  decoder.feed(encode(message).substr(0, header_bytes));
  EXPECT_EQ(decoder.next(), std::nullopt);
  EXPECT_TRUE(decoder.is_broken());
  decoder.feed(encode({XS_READ, 1, 0, ""}));
  EXPECT_EQ(decoder.next(), std::nullopt);
}

TEST(Wire, NamesErrorsAsTheProtocolDoes) {
  EXPECT_EQ(error_name(ENOENT), "ENOENT");
  EXPECT_EQ(error_name(E2BIG), "E2BIG");
  EXPECT_EQ(error_name(ENOTTY), "EINVAL");
}

TEST(Wire, SplitsOnlyTerminatedStrings) {
  EXPECT_THAT(split_strings(strings({"a", "", "b"}) + "tail"), ElementsAre("a", "", "b"));
  EXPECT_THAT(split_strings("tail"), IsEmpty());
  EXPECT_TRUE(is_one_string(strings({"a"})));
  EXPECT_FALSE(is_one_string("a"));
  EXPECT_FALSE(is_one_string(""));
  EXPECT_FALSE(is_one_string(strings({"a", "b"})));
}

TEST(Path, AllowsOnlyTheCharactersOfTheProtocol) {
  EXPECT_TRUE(is_valid_path("/", 2048));
  EXPECT_TRUE(is_valid_path("/a-Z_9@x", 2048));
  for (const auto* bad : {"", "a", "/a/", "//", "/a//b", "/a.b", "/a:b", "/a b", "/\xc3\xa9"}) {
    EXPECT_FALSE(is_valid_path(bad, 2048)) << bad;
  }
}

TEST(Path, DoesNotCountTheDomainsHomeAgainstTheLimit) {
  const std::string name(2048, 'x');
  EXPECT_TRUE(is_valid_path("/local/domain/12345/" + name, 2048));
  EXPECT_FALSE(is_valid_path("/local/domain/12345/x" + name, 2048));
  EXPECT_FALSE(is_valid_path("/local/domain/123456/" + name, 2048));
  EXPECT_FALSE(is_valid_path("/" + name, 2048));
  EXPECT_TRUE(is_valid_path("/" + name.substr(1), 2048));
}

TEST(Path, KnowsWhatLiesBelow) {
  EXPECT_TRUE(is_same_or_below("/a", "/a"));
  EXPECT_TRUE(is_same_or_below("/a/b", "/a"));
  EXPECT_TRUE(is_same_or_below("/a", "/"));
  EXPECT_FALSE(is_same_or_below("/ab", "/a"));
  EXPECT_FALSE(is_same_or_below("/a", "/a/b"));
  EXPECT_EQ(parent_path("/a/b"), "/a");
  EXPECT_EQ(parent_path("/a"), "/");
  EXPECT_EQ(parent_path("/"), "/");
}

TEST(Permissions, SurviveTheirTextForm) {
  const std::vector<std::string_view> texts{"n0", "r5", "w6", "b7"};
  const auto permissions = parse_permissions(texts);
  ASSERT_TRUE(permissions);
  EXPECT_EQ(format_permissions(*permissions), strings({"n0", "r5", "w6", "b7"}));
}

TEST(Permissions, RefuseMalformedTexts) {
  for (const std::string_view bad : {"", "r", "x5", "5", "r5x", "rx"}) {
    EXPECT_EQ(parse_permissions(std::vector<std::string_view>{bad}), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_permissions({}), std::nullopt);
}

TEST(Permissions, GiveOthersTheRightsOfTheFirstEntry) {
  const PermissionList list{{5, may_read}, {6, may_write}, {7, 0}};
  EXPECT_EQ(rights_of({5, {}}, list), may_read | may_write | may_own);
  EXPECT_EQ(rights_of({0, {}}, list), may_read | may_write | may_own);
  EXPECT_EQ(rights_of({6, {}}, list), may_write);
  EXPECT_EQ(rights_of({7, {}}, list), 0U);
  EXPECT_EQ(rights_of({8, {}}, list), may_read);
}

TEST(Outbox, MergesAnEventThatWaitsAlready) {
  const Message event{XS_WATCH_EVENT, 0, 0, strings({"/a", "t"})};
  Outbox outbox;
  EXPECT_EQ(outbox.push_event(event, nullptr), Outbox::Pushed::queued);
  EXPECT_EQ(outbox.push_event(event, nullptr), Outbox::Pushed::merged);
  outbox.consume(outbox.front().size());
  EXPECT_TRUE(outbox.is_empty());
  EXPECT_EQ(outbox.push_event(event, nullptr), Outbox::Pushed::queued);
}

TEST(Outbox, NeverMergesDomainEvents) {
  const Message event{XS_WATCH_EVENT, 0, 0, strings({"@releaseDomain", "t"})};
  Outbox outbox;
  EXPECT_EQ(outbox.push_event(event, nullptr), Outbox::Pushed::queued);
  EXPECT_EQ(outbox.push_event(event, nullptr), Outbox::Pushed::queued);
}

TEST(Outbox, TakesNoMoreEventBytesThanItsLimit) {
  Outbox outbox;
  Outbox::Pushed pushed = Outbox::Pushed::queued;
  for (int i = 0; pushed == Outbox::Pushed::queued; ++i) {
    const auto path = "/" + std::string(2000, 'x') + std::to_string(i);
    pushed = outbox.push_event({XS_WATCH_EVENT, 0, 0, strings({path, "t"})}, nullptr);
  }
  EXPECT_EQ(pushed, Outbox::Pushed::full);
  EXPECT_LE(outbox.event_bytes(), Outbox::event_bytes_max);
  EXPECT_GT(outbox.event_bytes(), Outbox::event_bytes_max - 3000);
}

TEST(Outbox, HoldsARequestOutstandingUntilItsLastMessageLeft) {
  auto outstanding = std::make_shared<std::size_t>(0);
  auto ticket = std::make_shared<RequestTicket>(outstanding);
  Outbox requester;
  Outbox watcher;
  watcher.push_event({XS_WATCH_EVENT, 0, 0, strings({"/a", "t"})}, ticket);
  requester.push_reply({XS_WRITE, 1, 0, strings({"OK"})}, std::move(ticket));
  EXPECT_EQ(requester.reply_count(), 1U);
  requester.consume(header_bytes);
  EXPECT_EQ(requester.front(), std::string_view("OK", 3));
  requester.consume(3);
  EXPECT_EQ(requester.reply_count(), 0U);
  EXPECT_EQ(*outstanding, 1U);
  watcher.consume(watcher.front().size());
  EXPECT_EQ(*outstanding, 0U);
  EXPECT_EQ(watcher.event_bytes(), 0U);
}

}  // namespace
}  // namespace xensim::test

// Who hears of what, and how it is named.
#include "tests/xensim/store/world.hpp"

namespace xensim::test {
namespace {

class Watch : public World {};

TEST_F(Watch, FiresOnceWhenItIsMade) {
  EXPECT_EQ(watch(five, "data/none", "t"), ok());
  EXPECT_THAT(new_events(five), ElementsAre("data/none t"));
}

TEST_F(Watch, PutsTheFirstEventAfterTheReply) {
  const auto outcome = store.handle(five, {XS_WATCH, 1, 0, strings({"data", "t"})});
  ASSERT_EQ(outcome.messages.size(), 2U);
  EXPECT_FALSE(outcome.messages[0].is_event);
  EXPECT_TRUE(outcome.messages[1].is_event);
}

TEST_F(Watch, PutsEventsBeforeTheReplyOfWhatCausedThem) {
  watch(five, "data", "t");
  const auto outcome = store.handle(five, {XS_WRITE, 1, 0, strings({"data/key"})});
  ASSERT_EQ(outcome.messages.size(), 2U);
  EXPECT_TRUE(outcome.messages[0].is_event);
  EXPECT_EQ(outcome.messages[0].message,
            (Message{XS_WATCH_EVENT, 0, 0, strings({"data/key", "t"})}));
  EXPECT_FALSE(outcome.messages[1].is_event);
}

TEST_F(Watch, ReportsPathsInTheFormInWhichItWasAskedFor) {
  watch(five, "data", "relative");
  watch(five, "/local/domain/5/data", "absolute");
  new_events(five);
  write(five, "data/a/b", "v");
  EXPECT_THAT(new_events(five),
              ElementsAre("data/a/b relative", "/local/domain/5/data/a/b absolute"));
}

TEST_F(Watch, FiresForTheSubtreeAndForNothingBeside) {
  watch(host, "/a/b", "t");
  new_events(host);
  write(host, "/a/b", "1");
  write(host, "/a/b/c/d", "2");
  write(host, "/a/bb", "3");
  write(host, "/a", "4");
  mkdir(host, "/a/b/e");
  mkdir(host, "/a/b/e");
  EXPECT_THAT(new_events(host), ElementsAre("/a/b t", "/a/b/c/d t", "/a/b/e t"));
}

TEST_F(Watch, FiresOnceAboveARemovalAndExactlyBelowIt) {
  write(host, "/a/b/c", "v");
  write(host, "/a/b/d", "v");
  for (const auto* path : {"/a", "/a/b", "/a/b/c", "/a/b/none"}) watch(host, path, path);
  new_events(host);
  rm(host, "/a/b");
  EXPECT_THAT(new_events(host), ElementsAre("/a/b/c /a/b/c", "/a/b /a", "/a/b /a/b"));
  rm(host, "/a/b");
  EXPECT_THAT(new_events(host), IsEmpty());
}

TEST_F(Watch, OfTheRootHearsEverything) {
  watch(host, "/", "t");
  new_events(host);
  write(five, "data/key", "v");
  EXPECT_THAT(new_events(host), ElementsAre("/local/domain/5/data/key t"));
}

TEST_F(Watch, IsToldApartByPathAndToken) {
  EXPECT_EQ(watch(five, "data", "t"), ok());
  EXPECT_EQ(watch(five, "data", "t"), failure("EEXIST"));
  EXPECT_EQ(watch(five, "/local/domain/5/data", "t"), failure("EEXIST"));
  EXPECT_EQ(watch(five, "data", "u"), ok());
  EXPECT_EQ(watch(store.connect(5), "data", "t"), ok());
  EXPECT_EQ(store.usage(5).watches, 3U);
}

TEST_F(Watch, EndsByUnwatch) {
  watch(five, "data", "t");
  new_events(five);
  EXPECT_EQ(ask(five, XS_UNWATCH, strings({"data", "u"})), failure("ENOENT"));
  EXPECT_EQ(ask(five, XS_UNWATCH, strings({"data", "t"})), ok());
  write(five, "data/key", "v");
  EXPECT_THAT(new_events(five), IsEmpty());
  EXPECT_EQ(ask(five, XS_UNWATCH, strings({"data", "t"})), failure("ENOENT"));
  EXPECT_EQ(store.usage(5).watches, 0U);
}

TEST_F(Watch, EndsByResetTogetherWithTransactions) {
  watch(five, "data", "t");
  const auto tx = begin(five);
  EXPECT_EQ(ask(five, XS_RESET_WATCHES, strings({""})), ok());
  EXPECT_EQ(store.usage(5).watches, 0U);
  EXPECT_EQ(store.usage(5).transactions, 0U);
  EXPECT_EQ(commit(five, tx), failure("ENOENT"));
}

TEST_F(Watch, EndsWithItsConnection) {
  const auto brief = store.connect(5);
  watch(brief, "data", "t");
  begin(brief);
  store.disconnect(brief);
  EXPECT_EQ(store.usage(5).watches, 0U);
  EXPECT_EQ(store.usage(5).transactions, 0U);
  new_events(brief);
  write(five, "data/key", "v");
  EXPECT_THAT(new_events(brief), IsEmpty());
}

TEST_F(Watch, TellsAGuestOnlyOfWhatItMayRead) {
  EXPECT_EQ(watch(six, "/local/domain/5", "t"), ok());
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5 t"));
  write(five, "data/key", "v");
  EXPECT_THAT(new_events(six), IsEmpty());
  set_perms(five, "data/key", {"n5", "r6"});
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5/data/key t"));
  write(five, "data/key", "w");
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5/data/key t"));
}

TEST_F(Watch, TellsOfTheChangeThatTakesTheRightToRead) {
  write(five, "data/key", "v");
  set_perms(five, "data/key", {"n5", "r6"});
  watch(six, "/local/domain/5/data/key", "t");
  new_events(six);
  set_perms(five, "data/key", {"n5"});
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5/data/key t"));
  write(five, "data/key", "w");
  EXPECT_THAT(new_events(six), IsEmpty());
}

TEST_F(Watch, IsServedByTheRightToReadTheParent) {
  set_perms(five, "data", {"n5", "r6"});
  write(five, "data/key", "v");
  set_perms(five, "data/key", {"n5"});
  watch(six, "/local/domain/5/data", "t");
  new_events(six);
  write(five, "data/key", "w");
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5/data/key t"));
  rm(five, "data/key");
  EXPECT_THAT(new_events(six), ElementsAre("/local/domain/5/data/key t"));
}

TEST_F(Watch, RefusesMalformedPaths) {
  for (const auto* path : {"", "/a/", "/a//b", "/a b"}) {
    EXPECT_EQ(watch(five, path, "t"), failure("EINVAL")) << path;
  }
  EXPECT_EQ(watch(five, "@" + std::string(2048, 'x'), "t"), failure("EINVAL"));
  EXPECT_EQ(watch(five, "@anything", "t"), ok());
}

TEST_F(Watch, IgnoresTheTransactionItIsMadeIn) {
  EXPECT_EQ(ask(five, XS_WATCH, strings({"data", "t"}), 4711), ok());
  EXPECT_EQ(ask(five, XS_UNWATCH, strings({"data", "t"}), 4711), ok());
}

TEST_F(Watch, DropsEventsTooLongForAMessage) {
  const std::string token(4090, 't');
  EXPECT_EQ(watch(five, "data", token), ok());
  EXPECT_THAT(new_events(five), ElementsAre("data " + token));
  write(five, "data/key", "v");
  EXPECT_THAT(new_events(five), IsEmpty());
}

TEST_F(Watch, IsLimitedInNumberOverAllConnectionsOfAGuest) {
  const auto other = store.connect(5);
  Reply last = ok();
  std::size_t made = 0;
  for (; last == ok(); ++made) {
    last = watch(made % 2 == 0 ? five : other, "data", std::to_string(made));
  }
  EXPECT_EQ(last, failure("E2BIG"));
  EXPECT_EQ(store.usage(5).watches, 129U);  // C xenstored lets one more through than it says
  EXPECT_EQ(watch(six, "data", "t"), ok());
  for (int i = 0; i < 200; ++i) EXPECT_EQ(watch(host, "/tool", std::to_string(i)), ok());
}

TEST_F(Watch, OnDomainsIsForTheHost) {
  for (const auto who : {host, five}) {
    EXPECT_EQ(watch(who, "@introduceDomain", "i"), ok());
    EXPECT_EQ(watch(who, "@releaseDomain", "r"), ok());
    EXPECT_THAT(new_events(who), ElementsAre("@introduceDomain i", "@releaseDomain r"));
  }
  take(store.introduce({7, "seven", "uuid-7", 1024}));
  take(store.announce_release());
  take(store.remove(7));
  EXPECT_THAT(new_events(host),
              ElementsAre("@introduceDomain i", "@releaseDomain r", "@releaseDomain r"));
  EXPECT_THAT(new_events(five), IsEmpty());
}

TEST_F(Watch, OnDomainsMayBeGrantedToAGuest) {
  watch(five, "@releaseDomain", "r");
  new_events(five);
  EXPECT_EQ(set_perms(five, "@releaseDomain", {"n0", "r5"}), failure("EACCES"));
  EXPECT_EQ(set_perms(host, "@other", {"n0", "r5"}), failure("EINVAL"));
  EXPECT_EQ(set_perms(host, "@releaseDomain", {"n0", "r5"}), ok());
  take(store.announce_release());
  EXPECT_THAT(new_events(five), ElementsAre("@releaseDomain r"));
}

}  // namespace
}  // namespace xensim::test

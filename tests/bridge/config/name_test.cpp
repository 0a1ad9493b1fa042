// Channel names, target URIs and the text helpers around them: what is refused, and with which
// words.
#include "bridge/channel/name.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unordered_set>

#include "bridge/channel/target.hpp"
#include "bridge/channel/text.hpp"

namespace xenlane::bridge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ChannelName, GoodNamesAreKeptAsTheyAre) {
  const std::string longest(63, 'a');
  for (const std::string& good : {std::string("org.example.echo"), std::string("a"),
                                  std::string("9.x"), std::string("A-b_c.D"), longest}) {
    const auto name = ChannelName::parse(good);
    ASSERT_TRUE(name.has_value()) << good;
    EXPECT_EQ(name->text(), good);
  }
}

TEST(ChannelName, BadNamesAreRefusedWithTheFirstBadByteOrTheLength) {
  using namespace std::string_literals;
  const std::pair<std::string, std::string> table[] = {
      {"", "is empty"},
      {std::string(64, 'a'), "has 64 bytes, 63 are allowed"},
      {std::string(1 << 20, '/'), "has 1048576 bytes"},
      {"a/b", "'/' at byte 2"},
      {"../../etc/passwd", "'.' may not come first"},
      {"..", "'.' may not come first"},
      {"-rf", "'-' may not come first"},
      {"_x", "'_' may not come first"},
      {",", "',' at byte 1"},
      {"a=b", "'=' at byte 2"},
      {"a\"b", "'\"' at byte 2"},
      {"a b", "' ' at byte 2"},
      {"a\0b"s, "'\\x00' at byte 2"},
      {"a\nb", "'\\x0a' at byte 2"},
      {"a\033[31m", "'\\x1b' at byte 2"},
      {"\xc3\xa4.example", "'\\xc3' at byte 1"},
      {"a\\b", "'\\x5c' at byte 2"},
      {"a\x7f", "'\\x7f' at byte 2"},
  };
  for (const auto& [untrusted, reason] : table) {
    const auto name = ChannelName::parse(untrusted);
    ASSERT_TRUE(name.has_error()) << untrusted.substr(0, 80);
    EXPECT_THAT(name.error().text, HasSubstr(reason));
    EXPECT_LT(name.error().text.size(), 100U);
  }
}

TEST(ChannelName, OnlyNamesWithoutADotAreReserved) {
  EXPECT_TRUE(ChannelName::parse("connect")->is_reserved());
  EXPECT_TRUE(ChannelName::parse("control")->is_reserved());
  EXPECT_FALSE(ChannelName::parse("control.x")->is_reserved());
}

TEST(ChannelName, NamesCompareAndHashByTheirText) {
  const auto a = ChannelName::parse("a.x").value();
  const auto b = ChannelName::parse("b.x").value();
  EXPECT_LT(a, b);
  EXPECT_EQ(a, ChannelName::parse("a.x").value());
  const std::unordered_set<ChannelName> names = {a, b, ChannelName::parse("b.x").value()};
  EXPECT_EQ(names.size(), 2U);
}

TEST(Target, AbsolutePathsUpToTheSocketLimitAreTaken) {
  const std::string longest = "/" + std::string(106, 'p');
  EXPECT_EQ(Target::parse("unix:" + longest)->path(), longest);
  EXPECT_EQ(Target::parse("unix:/run/x.sock")->uri(), "unix:/run/x.sock");
}

TEST(Target, EverythingElseIsRefusedWithItsReason) {
  using namespace std::string_literals;
  const std::pair<std::string, std::string> table[] = {
      {"tcp:localhost:22", "is no target; there are"},
      {"exec:/bin/sh", "is no target; there are"},
      {"/run/x", "is no target; there are"},
      {"", "is no target; there are"},
      {"unix:", "not absolute"},
      {"unix:run/x", "'run/x' is not absolute"},
      {"unix:/a\0b"s, "NUL"},
      {"unix:/" + std::string(107, 'p'), "has 108 bytes, a Unix socket's may have 107"},
      {"unix:/run/", "ends in '/'"},
  };
  for (const auto& [uri, reason] : table) {
    const auto target = Target::parse(uri);
    ASSERT_TRUE(target.has_error()) << uri;
    EXPECT_THAT(target.error().text, HasSubstr(reason));
  }
}

TEST(Text, UntrustedBytesBecomeOneShortLine) {
  EXPECT_EQ(escape_untrusted("plain text."), "plain text.");
  EXPECT_EQ(escape_untrusted("a\nb\x1b\xff\\"), "a\\x0ab\\x1b\\xff\\x5c");
  EXPECT_EQ(escape_untrusted(std::string(500, 'x'), 4), "xxxx...");
}

TEST(Text, NearNamesAreSuggestedNearestFirst) {
  const std::vector<std::string> known = {"target", "name", "guest", "end", "mode"};
  EXPECT_THAT(near_names("traget", known), ElementsAre("target"));
  EXPECT_THAT(near_names("mame", known), ElementsAre("name", "mode"));
  EXPECT_THAT(near_names("windowsill", known), IsEmpty());
  EXPECT_THAT(near_names("", known), IsEmpty());
}

TEST(Text, GlobsKnowStarAndQuestionMarkOnly) {
  EXPECT_TRUE(glob_matches("*", ""));
  EXPECT_TRUE(glob_matches("web*", "web"));
  EXPECT_TRUE(glob_matches("web-?", "web-1"));
  EXPECT_TRUE(glob_matches("*-db-*", "a-db-b-db-c"));
  EXPECT_TRUE(glob_matches("[a]", "[a]"));
  EXPECT_FALSE(glob_matches("[a]", "a"));
  EXPECT_FALSE(glob_matches("web-?", "web-"));
  EXPECT_FALSE(glob_matches("web", "web1"));
  EXPECT_FALSE(glob_matches("", "x"));
}

TEST(Text, AHostileGlobTakesNoExponentialTime) {
  std::string glob;
  for (int i = 0; i < 60; ++i) glob += "*a";
  EXPECT_FALSE(glob_matches(glob + "b", std::string(5000, 'a')));
}

}  // namespace
}  // namespace xenlane::bridge

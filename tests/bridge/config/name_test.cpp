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

TEST(Target, TcpHasAHostAndAPort) {
  const struct {
    const char* uri;
    const char* host;
    int port;
  } table[] = {{"tcp:localhost:22", "localhost", 22},
               {"tcp:192.0.2.7:65535", "192.0.2.7", 65535},
               {"tcp:[::1]:1", "::1", 1},
               {"tcp:db-1.example.org.:5432", "db-1.example.org.", 5432}};
  for (const auto& row : table) {
    const auto target = Target::parse(row.uri);
    ASSERT_TRUE(target.has_value()) << target.error().text;
    EXPECT_EQ(target->kind(), TargetKind::tcp);
    EXPECT_EQ(target->host(), row.host);
    EXPECT_EQ(target->port(), row.port);
    EXPECT_EQ(target->uri(), row.uri);
  }
}

TEST(Target, ExecHasAProgramAndItsArguments) {
  const std::pair<const char*, std::vector<std::string>> table[] = {
      {"exec:/bin/true", {"/bin/true"}},
      {"exec: /usr/sbin/sshd  -i\t-f /etc/x ", {"/usr/sbin/sshd", "-i", "-f", "/etc/x"}},
      {"exec:/bin/echo 'a b' \"c d\" e\\ f", {"/bin/echo", "a b", "c d", "e f"}},
      {"exec:/bin/echo 'it''s' \"\" ''", {"/bin/echo", "its", "", ""}},
      {"exec:/bin/echo \"a\\\"b\\\\c\\d\" 'e\\f'", {"/bin/echo", "a\"b\\c\\d", "e\\f"}},
      {"exec:/bin/echo $HOME * ~ `id` ; | >x #",
       {"/bin/echo", "$HOME", "*", "~", "`id`", ";", "|", ">x", "#"}},
      {"exec:'/opt/my program/run'", {"/opt/my program/run"}},
  };
  for (const auto& [uri, command] : table) {
    const auto target = Target::parse(uri);
    ASSERT_TRUE(target.has_value()) << uri << ": " << target.error().text;
    EXPECT_EQ(target->kind(), TargetKind::exec);
    EXPECT_EQ(target->command(), command) << uri;
  }
}

TEST(Target, EverythingElseIsRefusedWithItsReason) {
  using namespace std::string_literals;
  const std::pair<std::string, std::string> table[] = {
      {"udp:localhost:22", "is no target; there are"},
      {"tcp:localhost", "tcp:HOST:PORT"},
      {"tcp:localhost:0", "'0' is not a port"},
      {"tcp:localhost:65536", "'65536' is not a port"},
      {"tcp:localhost:22 ", "'22 ' is not a port"},
      {"tcp:localhost:ssh", "'ssh' is not a port"},
      {"tcp::22", "'' is neither a host's name nor an address"},
      {"tcp:::1:22", "brackets"},
      {"tcp:[::g]:22", "'[::g]' is neither"},
      {"tcp:-x:22", "'-x' is neither"},
      {"tcp:a b:22", "'a b' is neither"},
      {"tcp:" + std::string(254, 'h') + ":22", "is neither"},
      {"exec:", "must be an absolute path"},
      {"exec:sh -c id", "must be an absolute path"},
      {"exec:'' /bin/sh", "must be an absolute path"},
      {"exec:/bin/sh 'a", "a ' is not closed"},
      {"exec:/bin/sh \"a", "a \" is not closed"},
      {"exec:/bin/sh a\\", "a backslash is the last byte"},
      {"exec:/bin/sh\nid", "'\\x0a' cannot be in a command"},
      {"exec:/bin/sh\0"s, "'\\x00' cannot be in a command"},
      {"exec:/" + std::string(1024, 'p'), "the command has 1025 bytes, 1024 are allowed"},
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

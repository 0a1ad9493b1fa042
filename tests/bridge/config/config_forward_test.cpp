// The [[forward]] sections of a configuration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ConfigLoad load_forwards(Side side, const std::string& content) {
  const TempDir dir;
  return load_config(side, dir.write("x.toml", content));
}

TEST(ForwardsConfigured, HaveTheFormOfTheToolsOptions) {
  const ConfigLoad got = load_forwards(Side::host, R"(
[[forward]]
guest = "web"
local = "5432"
remote = "/run/pg/sock"
wait = "2min"
refuse = true
channel = "org.example.forward.0"
[[forward]]
kind = "remote"
guest = "web"
local = "10.0.0.1:80"
remote = "*:8080"
[[forward]]
kind = "socks"
guest = "db"
local = "/run/socks"
)");
  EXPECT_THAT(got.diagnostics, IsEmpty());
  ASSERT_THAT(got.config.forwards, SizeIs(3));
  const ForwardSpec& local = *got.config.forwards[0].spec;
  EXPECT_EQ(local.text, "5432:web:/run/pg/sock");
  EXPECT_EQ(local.wait, std::chrono::seconds(120));
  EXPECT_TRUE(local.refuse);
  EXPECT_EQ(local.channel, "org.example.forward.0");
  const ForwardSpec& remote = *got.config.forwards[1].spec;
  EXPECT_EQ(remote.listen.uri(), "tcp:*:8080");
  EXPECT_EQ(remote.target->uri(), "tcp:10.0.0.1:80");
  EXPECT_EQ(remote.channel, forward_in_guest_channel);
  EXPECT_EQ(got.config.forwards[2].spec->listen.uri(), "unix:/run/socks");
}

TEST(ForwardsConfigured, OfAGuestLeadToTheHost) {
  const ConfigLoad got =
      load_forwards(Side::guest, "[[forward]]\nlocal = \"22\"\nremote = \"22\"\n");
  EXPECT_THAT(got.diagnostics, IsEmpty());
  EXPECT_EQ(got.config.forwards.at(0).spec->guest, "host");
  EXPECT_EQ(got.config.forwards.at(0).spec->channel, forward_on_host_channel);
}

TEST(ForwardsConfigured, AFaultDisablesThatOneAlone) {
  const std::string good = "[[forward]]\nlocal = \"22\"\nremote = \"22\"\nguest = \"web\"\n";
  const std::pair<const char*, const char*> table[] = {
      {"local = \"22\"\nremote = \"22\"\n", "forward: 'guest' is missing"},
      {"guest = \"web\"\nremote = \"22\"\n", "forward: 'local' is missing"},
      {"guest = \"web\"\nlocal = \"22\"\n", "forward: 'remote' is missing"},
      {"guest = \"web\"\nlocal = \"22\"\nremote = \"22\"\nkind = \"socks\"\n",
       "'remote' is not for kind = \"socks\""},
      {"guest = \"web\"\nlocal = \"x\"\nremote = \"22\"\n", "'x:web:22': "},
      {"guest = \"web\"\nlocal = 22\nremote = \"22\"\n", "forward.local: must be a text"},
      {"guest = \"web\"\nlocal = \"22\"\nremote = \"22\"\nkind = \"x\"\n",
       "'x' is not one of local, remote, socks"},
      {"guest = \"web\"\nlocal = \"22\"\nremote = \"22\"\nport = 1\n", "unknown key 'port'"},
      {"guest = \"web\"\nlocal = \"22\"\nremote = \"22\"\nchannel = \"a b\"\n",
       "forward.channel: 'a b'"},
  };
  for (const auto& [lines, reason] : table) {
    const ConfigLoad got = load_forwards(Side::host, "[[forward]]\n" + std::string(lines) + good);
    ASSERT_THAT(got.diagnostics, SizeIs(1)) << lines;
    EXPECT_THAT(got.diagnostics[0].message, HasSubstr(reason));
    EXPECT_GT(got.diagnostics[0].where.line, 0U);
    EXPECT_TRUE(got.has_errors());
    EXPECT_FALSE(got.is_fatal());
    ASSERT_THAT(got.config.forwards, SizeIs(2));
    EXPECT_FALSE(got.config.forwards[0].spec);
    EXPECT_EQ(got.config.forwards[0].error, got.diagnostics[0].message);
    EXPECT_TRUE(got.config.forwards[1].spec);
  }
  EXPECT_TRUE(load_forwards(Side::host, "[forward]\nlocal = \"1\"\n").is_fatal());
  EXPECT_TRUE(load_forwards(Side::guest,
                            "[[forward]]\nguest = \"x\"\nlocal = \"1\"\nremote = "
                            "\"1\"\n")
                  .has_errors());
}

}  // namespace
}  // namespace xenlane::bridge

// Drop-ins: which of several files counts, and what is lost with one that cannot be read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/bridge/config/config_files.hpp"

namespace xenlane::bridge {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class DropIns : public ConfigFiles {};

TEST_F(DropIns, DropInsAreReadInByteOrderAndTheLaterSettingWins) {
  dir_.write("x.d/10-b.toml",
             "[limits]\nstreams_max = 10\n[[channel]]\nname='org.b.b'\nend='port'\n");
  dir_.write("x.d/10-B.toml",
             "[limits]\nstreams_max = 9\n[[channel]]\nname='org.B.b'\nend='port'\n");
  dir_.write("x.d/05-a.toml", "[[channel]]\nname='org.a.b'\nend='port'\n");
  dir_.write("x.d/extra.toml", "this is not read = = =");
  dir_.write("x.d/README", "neither is this");
  const ConfigLoad got =
      load("[limits]\nstreams_max = 1\n[[channel]]\nname='org.z.b'\nend='port'\n");
  std::vector<std::string> names;
  for (const ChannelConfig& channel : got.config.channels) names.push_back(channel.name.text());
  EXPECT_THAT(names, ElementsAre("org.z.b", "org.a.b", "org.B.b", "org.b.b"));
  EXPECT_EQ(got.config.limits.streams_max, 10U);
  EXPECT_EQ(got.config.drop_in_dir, dir_ / "x.d");
  EXPECT_THAT(lines(got),
              ElementsAre("x.d/extra.toml: warning: is not read: a drop-in's name is NN-NAME.toml, "
                          "with two digits"));
}

TEST_F(DropIns, DropInThatIsNotTomlDeniesWhatItMayHaveDenied) {
  dir_.write("x.d/10-a.toml", "[[channel]]\nname='org.a.a'\nend='port'\n");
  dir_.write("x.d/20-b.toml", "[[channel]]\nname='org.b.b'\nend='port'\n[[channel]\n");
  dir_.write("x.d/30-c.toml", "[[channel]]\nname='org.c.c'\nend='port'\n");
  const ConfigLoad got = load("");
  EXPECT_THAT(lines(got),
              ElementsAre(AllOf(HasSubstr("x.d/20-b.toml:4: error: "),
                                HasSubstr("nothing of this file is used, and no channel of the "
                                          "files behind it"))));
  EXPECT_TRUE(got.has_errors());
  EXPECT_FALSE(got.is_fatal());
  EXPECT_NE(find_channel(got.config, name("org.a.a"), "web"), nullptr) << "read before it";
  EXPECT_EQ(find_channel(got.config, name("org.b.b"), "web"), nullptr);
  EXPECT_EQ(find_channel(got.config, name("org.c.c"), "web"), nullptr);
}

TEST_F(DropIns, BrokenDropInThatMayHaveSaidWhichGuestsAreServedServesNone) {
  dir_.write("x.d/10-a.toml", "[daemon]\nguests = ['web']\n");
  dir_.write("x.d/20-b.toml", "[daemon]\nguests = ['we\n");
  const ConfigLoad got = load("");
  EXPECT_FALSE(got.is_fatal());
  EXPECT_TRUE(got.config.guests_unknown);
  EXPECT_FALSE(guest_is_served(got.config, "web"));
  dir_.write("x.d/30-c.toml", "[daemon]\nguests = ['db']\n");
  const ConfigLoad later = load("");
  EXPECT_FALSE(later.config.guests_unknown) << "a file behind it says so";
  EXPECT_TRUE(guest_is_served(later.config, "db"));
}

TEST_F(DropIns, SettingsAsOneTextAreTheSameSettings) {
  dir_.write("x.d/10-a.toml", "[limits]\nstreams_max = 17\n[connect]\n22 = 'org.a.ssh'\n");
  const ConfigLoad got = load(R"(
[daemon]
guests = ["web"]
log_level = "debug"
[limits]
streams_max = 5
[timeouts]
dial_ms = "3s"
[[channel]]
name = "org.a.b"
end = "port"
)");
  EXPECT_THAT(got.diagnostics, IsEmpty());
  const ConfigLoad again = load_config(Side::host, dir_.write("y.toml", got.config.settings));
  EXPECT_THAT(again.diagnostics, IsEmpty());
  EXPECT_EQ(again.config.limits.streams_max, 17U);
  EXPECT_EQ(again.config.timeouts.dial_ms, 3000U);
  EXPECT_EQ(again.config.log_level, LogLevel::debug);
  EXPECT_THAT(again.config.guests, ElementsAre("web"));
  EXPECT_EQ(again.config.connect.numbers.at(22).text(), "org.a.ssh");
  EXPECT_THAT(again.config.channels, IsEmpty());
}

}  // namespace
}  // namespace xenlane::bridge

// Who gets which channel: denials, lists of users, and channels told as JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/channel/access.hpp"
#include "bridge/daemon/channel_json.hpp"
#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Policy : public testing::Test {
 protected:
  ConfigLoad load(std::string_view content, Side side = Side::host) {
    return load_config(side, dir_.write("x.toml", content));
  }

  TempDir dir_;
};

TEST_F(Policy, FirstMatchDecidesDenialsIncluded) {
  const ConfigLoad got = load(R"(
[[channel]]
name = "org.secret.one"
end = "listen"
guest = "db"
[[channel]]
name = "org.secret.*"
end = "deny"
[[channel]]
name = "org.secret.one"
end = "listen"
guest = "web"
[[channel]]
name = "org.open.door"
end = "deny"
guest = "lab-*"
[[channel]]
name = "org.open.door"
end = "listen"
)");
  ASSERT_THAT(got.diagnostics, IsEmpty());
  EXPECT_EQ(decide(got.config, "org.secret.one", "db").channel->where.line, 2U);
  const Decision denied = decide(got.config, "org.secret.one", "web");
  EXPECT_EQ(denied.channel, nullptr);
  ASSERT_NE(denied.denial, nullptr);
  EXPECT_EQ(denied.denial->where.line, 6U);
  EXPECT_NE(decide(got.config, "org.open.door", "web").channel, nullptr);
  EXPECT_NE(decide(got.config, "org.open.door", "lab-7").denial, nullptr);
  const Decision nothing = decide(got.config, "org.other", "web");
  EXPECT_TRUE(nothing.channel == nullptr && nothing.denial == nullptr) << "nothing matched";
}

TEST_F(Policy, DenialWithAnErrorDeniesEverythingBehindIt) {
  const ConfigLoad got = load(R"(
[[channel]]
name = "org.a"
end = "listen"
[[channel]]
name = "org.b"
end = "deny"
gest = "web"
[[channel]]
name = "org.c"
end = "listen"
)");
  EXPECT_FALSE(got.is_fatal());
  EXPECT_NE(decide(got.config, "org.a", "web").channel, nullptr);
  EXPECT_EQ(decide(got.config, "org.c", "web").channel, nullptr);
  EXPECT_THAT(decide(got.config, "org.c", "web").denial->why, HasSubstr("errors"));
}

TEST_F(Policy, ListOfUsersOpensTheSocketAndIsTheDoor) {
  const ConfigLoad got = load(R"(
[[channel]]
name = "org.a"
end = "listen"
users = ["root", 1000]
groups = [7]
[[channel]]
name = "org.b"
end = "listen"
users = ["root"]
mode = "0600"
[[channel]]
name = "org.c"
end = "listen"
users = ["nobody-of-that-name"]
)");
  ASSERT_EQ(got.config.channels.size(), 3U);
  const ChannelConfig& listed = got.config.channels[0];
  EXPECT_EQ(listed.socket_mode, 0666U);
  EXPECT_THAT(listed.users, ElementsAre(0, 1000));
  EXPECT_EQ(got.config.channels[1].socket_mode, 0600U);
  EXPECT_THAT(got.config.channels[2].error, HasSubstr("no user 'nobody-of-that-name'"));

  EXPECT_TRUE(is_listed(listed, {1, 1000, 1000, {}}));
  EXPECT_TRUE(is_listed(listed, {1, 0, 0, {}})) << "root";
  EXPECT_TRUE(is_listed(listed, {1, 1001, 7, {}})) << "by its group";
  EXPECT_TRUE(is_listed(listed, {1, 1001, 1001, {5, 7}})) << "by another group of its";
  EXPECT_FALSE(is_listed(listed, {1, 1001, 1001, {5}}));
  EXPECT_FALSE(is_listed(listed, {})) << "the kernel did not tell";
  EXPECT_TRUE(is_listed(ChannelConfig{listed.name}, {1, 1001, 1001, {}})) << "no list";
}

TEST_F(Policy, KernelTellsWhoConnected) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const transport::UniqueFd one(ends[0]);
  const transport::UniqueFd other(ends[1]);
  const LocalUser self = user_of(one.get());
  EXPECT_EQ(self.pid, ::getpid());
  EXPECT_EQ(self.uid, ::geteuid());
  EXPECT_EQ(self.gid, ::getegid());
  EXPECT_EQ(self.groups.size(), static_cast<std::size_t>(::getgroups(0, nullptr)));
}

TEST_F(Policy, ChannelToldAsJsonIsTheSameChannel) {
  const ConfigLoad got = load(R"(
[[channel]]
name = "org.a.listen"
end = "listen"
guest = "web"
mode = "0620"
owner = "root"
group = "0"
lane = "vchan"
link = "/run/x/{guest}.sock"
console = "/run/xen/{guest}.sock"
users = ["root", 1000]
groups = [4, 5]
[[channel]]
name = "org.a.dial"
end = "dial"
target = "unix:/run/a.sock"
lane = "console"
[[channel]]
name = "org.a.forward"
end = "dial"
target = "builtin:forward"
allow = ["tcp:localhost:1-2", "unix:/run/*"]
allow_listen = ["tcp:*:*"]
[[channel]]
name = "org.a.port"
end = "port"
cache_buffers = false
byte_limit = "128KiB"
guest_byte_limit = "4KiB"
[[channel]]
name = "org.a.raw"
end = "raw"
console = "/run/xen/raw-{guest}.sock"
)");
  ASSERT_THAT(got.diagnostics, IsEmpty());
  ASSERT_EQ(got.config.channels.size(), 5U);
  for (const ChannelConfig& channel : got.config.channels) {
    ChannelFromJson read = channel_from_json(channel_to_json(channel), "json", Side::host);
    ASSERT_TRUE(read.channel) << read.error;
    read.channel->where = channel.where;
    EXPECT_EQ(*read.channel, channel) << channel.name.text();
  }
}

TEST_F(Policy, FaultsOfAChannelToldAsJsonAreAllSaid) {
  const auto read = channel_from_json(
      {{"name", "a.b"}, {"end", "dial"}, {"colour", "red"}, {"mode", 660}}, "json", Side::host);
  EXPECT_FALSE(read.channel);
  EXPECT_THAT(read.error, HasSubstr("needs a target"));
  EXPECT_THAT(read.error, HasSubstr("unknown key 'colour'"));
  EXPECT_THAT(read.error, HasSubstr("channel.mode"));
  const auto odd = channel_from_json({{"name", boost::json::object{}}}, "json", Side::host);
  EXPECT_THAT(odd.error, HasSubstr("channel.name: is of no type"));
  const auto deny = channel_from_json({{"name", "a.b"}, {"end", "deny"}}, "json", Side::host);
  EXPECT_THAT(deny.error, HasSubstr("only for the configuration files"));
}

TEST_F(Policy, PvChannelCannotCarryMessages) {
  for (const std::string end : {"end = 'raw'", "end = 'port'"}) {
    const ConfigLoad got = load(
        "[[channel]]\nname = 'org.a.b'\nsocket = 'seqpacket'\n"
        "console = '/run/x.sock'\n" +
        end + "\n");
    EXPECT_THAT(got.config.channels.front().error, HasSubstr("which streams only")) << end;
  }
}

TEST_F(Policy, RawEndNeedsItsConsoleOnTheHostAndFindsItInAGuest) {
  const ConfigLoad host = load("[[channel]]\nname = 'org.a'\nend = 'raw'\n");
  EXPECT_THAT(host.config.channels.front().error, HasSubstr("needs a console"));
  const ConfigLoad guest = load("[[channel]]\nname = 'org.a'\nend = 'raw'\n", Side::guest);
  EXPECT_EQ(guest.config.channels.front().console, channel_device_dir() + "/org.a");
}

}  // namespace
}  // namespace xenlane::bridge

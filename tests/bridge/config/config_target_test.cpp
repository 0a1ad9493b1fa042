// What a channel's configuration says of its target and sockets, and the section of the connect
// socket.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TargetsConfigured : public testing::Test {
 protected:
  ConfigLoad load(std::string_view content) {
    return load_config(Side::host, dir_.write("x.toml", content));
  }
  /// A channel that is dialled, with these lines besides.
  ConfigLoad load_dialled(const std::string& lines) {
    return load("[[channel]]\nname = \"org.a.b\"\nend = \"dial\"\n" + lines);
  }
  static std::vector<std::string> messages(const ConfigLoad& load) {
    std::vector<std::string> shown;
    for (const Diagnostic& diagnostic : load.diagnostics) shown.push_back(diagnostic.message);
    return shown;
  }

  TempDir dir_;
};

TEST_F(TargetsConfigured, ByDefaultSocketsStreamAndNobodyIsToldWhoAsks) {
  const ConfigLoad got = load_dialled("target = \"tcp:localhost:22\"\n");
  EXPECT_THAT(messages(got), IsEmpty());
  const ChannelConfig& channel = got.config.channels.at(0);
  EXPECT_EQ(channel.target->kind(), TargetKind::tcp);
  EXPECT_EQ(channel.socket, SocketKind::stream);
  EXPECT_FALSE(channel.proxy_protocol);
  EXPECT_EQ(channel.exec_max, 64U);
  EXPECT_EQ(channel.run_as, std::nullopt);
}

TEST_F(TargetsConfigured, EveryKeyIsRead) {
  const ConfigLoad program = load_dialled(
      "target = \"exec:/bin/cat -u\"\nsocket = \"seqpacket\"\nexec_max = 3\nuser = \"root\"\n");
  if (::geteuid() == 0) {
    EXPECT_THAT(messages(program), IsEmpty());
    const ChannelConfig& channel = program.config.channels.at(0);
    EXPECT_THAT(channel.target->command(), ElementsAre("/bin/cat", "-u"));
    EXPECT_EQ(channel.socket, SocketKind::seqpacket);
    EXPECT_EQ(channel.exec_max, 3U);
    ASSERT_TRUE(channel.run_as.has_value());
    EXPECT_EQ(channel.run_as->uid, 0U);
    EXPECT_THAT(channel.run_as->groups, Contains(0U));
  }
  const ConfigLoad told = load_dialled("target = \"unix:/x\"\nproxy_protocol = true\n");
  EXPECT_THAT(messages(told), IsEmpty());
  EXPECT_TRUE(told.config.channels.at(0).proxy_protocol);
}

TEST_F(TargetsConfigured, WhatDoesNotFitTheTargetDisablesTheChannel) {
  const std::pair<const char*, const char*> table[] = {
      {"target = \"exec:/bin/cat\"\nproxy_protocol = true\n",
       "'proxy_protocol' is only for targets \"unix:\" and \"tcp:\""},
      {"target = \"builtin:bench\"\nproxy_protocol = true\n",
       "'proxy_protocol' is only for targets"},
      {"target = \"unix:/x\"\nproxy_protocol = \"yes\"\n",
       "channel.proxy_protocol: must be true or false"},
      {"target = \"tcp:h:1\"\nsocket = \"seqpacket\"\n", "cannot be had with \"tcp:h:1\""},
      {"target = \"builtin:bench\"\nsocket = \"seqpacket\"\n", "cannot be had with"},
      {"target = \"unix:/x\"\nsocket = \"datagram\"\n",
       "'datagram' is not one of stream, seqpacket"},
      {"target = \"unix:/x\"\nexec_max = 3\n", "'exec_max' is only for targets \"exec:\""},
      {"target = \"exec:/bin/cat\"\nexec_max = 0\n", "exec_max: 0 is out of range 1 to 4096"},
      {"target = \"tcp:h:1\"\nallow = [\"tcp:h:1\"]\n",
       "'allow' and 'allow_listen' are only for target = \"builtin:forward\""},
      {"target = \"builtin:forward\"\nallow = [\"tcp:h\"]\n", "channel.allow: 'tcp:h' is neither"},
      {"target = \"builtin:forward\"\nallow_listen = \"tcp:h:1\"\n", "must be a list"},
      {"target = \"builtin:forward\"\nsocket = \"seqpacket\"\n", "cannot be had with"},
      {"target = \"exec:/bin/cat\"\nuser = \"no-such-user\"\n",
       "channel.user: there is no user 'no-such-user'"},
  };
  for (const auto& [lines, reason] : table) {
    const ConfigLoad got = load_dialled(lines);
    EXPECT_THAT(messages(got), ElementsAre(HasSubstr(reason))) << lines;
    EXPECT_THAT(got.config.channels.at(0).error, HasSubstr(reason)) << lines;
    EXPECT_FALSE(got.is_fatal());
  }
}

TEST_F(TargetsConfigured, ConnectSocketHasAModeAndNumbers) {
  EXPECT_EQ(load("").config.connect.mode, 0600U);
  const ConfigLoad got =
      load("[connect]\nmode = \"0666\"\n22 = \"org.example.ssh\"\n4294967295 = \"a.b\"\n");
  EXPECT_THAT(messages(got), IsEmpty());
  EXPECT_EQ(got.config.connect.mode, 0666U);
  ASSERT_EQ(got.config.connect.numbers.size(), 2U);
  EXPECT_EQ(got.config.connect.numbers.at(22).text(), "org.example.ssh");
  EXPECT_EQ(got.config.connect.numbers.at(4294967295).text(), "a.b");
}

TEST_F(TargetsConfigured, FaultsOfTheConnectSectionKeepTheDaemonFromStarting) {
  const std::pair<const char*, const char*> table[] = {
      {"22 = \"a/b\"\n", "connect.22: 'a/b': '/' at byte 2"},
      {"22 = 23\n", "connect.22: must be"},
      {"022 = \"a.b\"\n", "unknown key '022'"},
      {"4294967296 = \"a.b\"\n", "unknown key '4294967296'"},
      {"mode = 666\n", "connect.mode: must be a text of octal digits"},
  };
  for (const auto& [line, reason] : table) {
    const ConfigLoad got = load(std::string("[connect]\n") + line);
    EXPECT_THAT(messages(got), ElementsAre(HasSubstr(reason))) << line;
    EXPECT_TRUE(got.is_fatal());
  }
}

}  // namespace
}  // namespace xenlane::bridge

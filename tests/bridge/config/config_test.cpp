// Configuration files: what they yield, and that every fault is found with its place.
#include "bridge/daemon/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/config/config_files.hpp"

namespace xenlane::bridge {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class Config : public ConfigFiles {};

TEST_F(Config, EmptyFileGivesTheDefaults) {
  const ConfigLoad got = load("");
  EXPECT_THAT(lines(got), IsEmpty());
  EXPECT_FALSE(got.has_errors());
  EXPECT_EQ(got.config.log_level, LogLevel::info);
  EXPECT_THAT(got.config.guests, ElementsAre("*"));
  EXPECT_EQ(got.config.limits.streams_max, 1024U);
  EXPECT_EQ(got.config.limits.session_window_bytes, 96U * 1024 * 1024);
  EXPECT_EQ(got.config.timeouts.peer_stall_ms, 60000U);
  EXPECT_THAT(got.config.channels, IsEmpty());
}

TEST_F(Config, EveryKeyIsRead) {
  const ConfigLoad got = load(R"(
[daemon]
run_dir = "/run/other/"
log_level = "debug"
guests = ["web", "db-*"]
[limits]
streams_max = 16
stream_window_bytes_min = "8KiB"
stream_window_bytes_max = "2 MiB"
session_window_bytes = 4194304
open_backlog_max = 8
[vchan]
ring_bytes_max = "256KiB"
ring_bytes_min = 8192
[timeouts]
handshake_ms = "2s"
xenstore_ms = "1500ms"
dial_ms = 700
peer_stall_ms = "1min"
retry_ms_min = 5
retry_ms_max = "1s"
[[channel]]
name = "org.example.a"
end = "dial"
target = "unix:/run/a.sock"
guest = "web"
[[channel]]
name = "org.example.b"
end = "port"
mode = "0660"
owner = "root"
group = 7
)");
  EXPECT_THAT(lines(got), IsEmpty());
  const BridgeConfig& config = got.config;
  EXPECT_EQ(config.run_dir, "/run/other");
  EXPECT_EQ(config.log_level, LogLevel::debug);
  EXPECT_THAT(config.guests, ElementsAre("web", "db-*"));
  EXPECT_TRUE(guest_is_served(config, "db-1"));
  EXPECT_FALSE(guest_is_served(config, "mail"));
  EXPECT_EQ(config.limits.streams_max, 16U);
  EXPECT_EQ(config.limits.stream_window_bytes_min, 8192U);
  EXPECT_EQ(config.limits.stream_window_bytes_max, 2U * 1024 * 1024);
  EXPECT_EQ(config.limits.session_window_bytes, 4194304U);
  EXPECT_EQ(config.limits.open_backlog_max, 8U);
  EXPECT_EQ(config.vchan.ring_bytes_max, 262144U);
  EXPECT_EQ(config.vchan.ring_bytes_min, 8192U);
  EXPECT_EQ(config.timeouts.handshake_ms, 2000U);
  EXPECT_EQ(config.timeouts.xenstore_ms, 1500U);
  EXPECT_EQ(config.timeouts.dial_ms, 700U);
  EXPECT_EQ(config.timeouts.peer_stall_ms, 60000U);
  EXPECT_EQ(config.timeouts.retry_ms_min, 5U);
  EXPECT_EQ(config.timeouts.retry_ms_max, 1000U);
  ASSERT_THAT(config.channels, SizeIs(2));
  EXPECT_EQ(config.channels[0].target->path(), "/run/a.sock");
  EXPECT_EQ(config.channels[0].guest, "web");
  EXPECT_EQ(config.channels[0].where.line, 22U);
  EXPECT_EQ(config.channels[1].end, EndKind::port);
  EXPECT_EQ(config.channels[1].socket_mode, 0660U);
  EXPECT_EQ(config.channels[1].uid, 0U);
  EXPECT_EQ(config.channels[1].gid, 7U);
}

TEST_F(Config, AllFaultsOfAFileAreReportedWithTheirLines) {
  const ConfigLoad got = load(R"([daemon]
log_levl = "debug"
run_dir = "run"
guests = "web"
[limits]
streams_max = 0
session_window_bytes = "12 parsecs"
stream_window_bytes_max = 1.5
[vchan]
ring_bytes_max = "96KiB"
ring_bytes_min = "8MiB"
[timeouts]
dial_ms = "2h"
retry_ms_min = true
[colour]
red = 1
)");
  EXPECT_THAT(
      lines(got),
      ElementsAre(
          "x.toml:2: error: daemon: unknown key 'log_levl'; did you mean 'log_level'?",
          "x.toml:3: error: daemon.run_dir: is not an absolute path",
          "x.toml:4: error: daemon.guests: must be a list such as [\"web\", \"db*\"], not a text",
          "x.toml:6: error: limits.streams_max: 0 is out of range 1 to 65536",
          "x.toml:7: error: limits.session_window_bytes: '12 parsecs' is not a size such as 65536 "
          "or \"64KiB\"",
          "x.toml:8: error: limits.stream_window_bytes_max: must be a size such as 65536 or "
          "\"64KiB\", not a number with a fraction",
          "x.toml:10: error: vchan.ring_bytes_max: 96KiB is not a power of two",
          "x.toml:11: error: vchan.ring_bytes_min: 8MiB is out of range 4KiB to 1MiB",
          "x.toml:13: error: timeouts.dial_ms: '2h' is not a time such as 500, \"500ms\" or \"2s\"",
          "x.toml:14: error: timeouts.retry_ms_min: must be a time such as 500, \"500ms\" or "
          "\"2s\", not true or false",
          "x.toml:15: error: unknown key 'colour'; known are daemon, limits, vchan, lanes, "
          "console, timeouts, connect, "
          "channel, forward"));
  EXPECT_TRUE(got.is_fatal());
}

TEST_F(Config, NumbersOutOfRangeAreShownWithUnits) {
  const ConfigLoad got = load(R"([limits]
stream_window_bytes_min = "99999999999GiB"
stream_window_bytes_max = -1
[timeouts]
handshake_ms = "61min"
)");
  EXPECT_THAT(lines(got),
              ElementsAre(HasSubstr(":2: error: limits.stream_window_bytes_min: '99999999999GiB'"),
                          HasSubstr(":3: error: limits.stream_window_bytes_max: -1 is out of range "
                                    "4KiB to 64MiB"),
                          HasSubstr(":5: error: timeouts.handshake_ms: 3660s is out of range 10ms "
                                    "to 3600s")));
}

TEST_F(Config, RelationsBetweenLimitsAreChecked) {
  const ConfigLoad got = load(R"([limits]
streams_max = 4096
stream_window_bytes_min = "2MiB"
[vchan]
ring_bytes_max = 4096
ring_bytes_min = 8192
[timeouts]
retry_ms_max = 50
)");
  EXPECT_THAT(
      lines(got),
      ElementsAre("x.toml:3: error: limits.stream_window_bytes_min: stream_window_bytes_min (2MiB) "
                  "is above stream_window_bytes_max (1MiB)",
                  "x.toml:2: error: limits.streams_max: twice streams_max (4096) times "
                  "stream_window_bytes_min (2MiB) is 16GiB, above session_window_bytes (96MiB)",
                  "x.toml:6: error: vchan.ring_bytes_min: ring_bytes_min (8KiB) is above "
                  "ring_bytes_max (4KiB)",
                  "x.toml:8: error: timeouts.retry_ms_max: retry_ms_min (100ms) is above "
                  "retry_ms_max (50ms)"));
  EXPECT_TRUE(got.is_fatal());
}

TEST_F(Config, BadChannelOnlyDisablesItself) {
  const ConfigLoad got = load(R"([[channel]]
name = "org.example.good"
end = "listen"
[[channel]]
name = "org.example.bad"
end = "dial"
target = "udp:localhost:22"
mode = "0999"
[[channel]]
name = "a/b"
end = "listen"
[[channel]]
end = "lisen"
traget = "x"
[[channel]]
name = "nodot"
end = "listen"
[[channel]]
name = "org.example.half"
[[channel]]
name = "org.example.nowhere"
end = "dial"
[[channel]]
name = "org.example.both"
end = "port"
target = "unix:/x"
owner = "no-such-user-here"
mode = 660
)");
  EXPECT_THAT(
      lines(got),
      ElementsAre(
          AllOf(HasSubstr(":4: warning: channel: the keys of a socket (mode, owner, group,")),
          HasSubstr(":7: error: channel.target: 'udp:localhost:22' is no target"),
          HasSubstr(":8: error: channel.mode: must be a text of octal digits"),
          HasSubstr(":10: error: channel.name: 'a/b': '/' at byte 2"),
          HasSubstr(":12: error: channel: 'name' is missing"),
          HasSubstr(":13: error: channel.end: 'lisen' is not one of listen, dial, port"),
          HasSubstr(":14: error: channel: unknown key 'traget'; did you mean 'target'?"),
          HasSubstr(":16: error: channel.name: 'nodot' has no dot"),
          HasSubstr(":18: error: channel: 'end' is missing"),
          HasSubstr(":20: error: channel: end = \"dial\" needs a target"),
          HasSubstr(":23: error: channel: 'target' is only for end = \"dial\", not for \"port\""),
          HasSubstr(":27: error: channel.owner: there is no user 'no-such-user-here'"),
          HasSubstr(":28: error: channel.mode: must be a text of octal digits")));
  EXPECT_TRUE(got.has_errors());
  EXPECT_FALSE(got.is_fatal());
  EXPECT_THAT(find_channel(got.config, name("org.example.good"), "web")->error, IsEmpty());
  EXPECT_THAT(find_channel(got.config, name("org.example.bad"), "web")->error,
              HasSubstr("is no target"));
  EXPECT_THAT(got.config.channels, SizeIs(6));
}

TEST_F(Config, FirstChannelWhoseGuestGlobMatchesWins) {
  const ConfigLoad got = load(R"([[channel]]
name = "org.example.x"
end = "dial"
target = "unix:/web"
guest = "web-*"
[[channel]]
name = "org.example.x"
end = "dial"
target = "unix:/other"
[[channel]]
name = "org.example.y"
end = "listen"
guest = "db"
)");
  EXPECT_THAT(lines(got), IsEmpty());
  EXPECT_EQ(find_channel(got.config, name("org.example.x"), "web-1")->target->path(), "/web");
  EXPECT_EQ(find_channel(got.config, name("org.example.x"), "db")->target->path(), "/other");
  EXPECT_EQ(find_channel(got.config, name("org.example.y"), "web-1"), nullptr);
  EXPECT_THAT(channels_for(got.config, "web-1"), SizeIs(1));
  EXPECT_THAT(channels_for(got.config, "db"), SizeIs(2));
}

TEST_F(Config, BrokenGuestGlobHidesTheChannelFromEveryGuest) {
  const ConfigLoad got = load(R"([[channel]]
name = "org.example.x"
end = "listen"
guest = 7
[[channel]]
name = "org.example.x"
end = "listen"
guest = "web"
)");
  ASSERT_NE(find_channel(got.config, name("org.example.x"), "web"), nullptr);
  EXPECT_THAT(find_channel(got.config, name("org.example.x"), "web")->error,
              HasSubstr("channel.guest: must be a text"));
}

TEST_F(Config, DuplicatesAndShadowedChannelsAreNamedWithTheEarlierPlace) {
  const ConfigLoad got = load(R"([[channel]]
name = "org.example.x"
end = "listen"
[[channel]]
name = "org.example.x"
end = "port"
[[channel]]
name = "org.example.x"
end = "port"
guest = "web"
)");
  EXPECT_THAT(lines(got),
              ElementsAre("x.toml:4: error: channel 'org.example.x' is already defined for guest "
                          "'*' at " +
                              (dir_ / "x.toml:1"),
                          "x.toml:7: warning: channel 'org.example.x' for guest 'web' is never "
                          "used: the one at " +
                              (dir_ / "x.toml:1") + " is for every guest"));
  EXPECT_FALSE(got.is_fatal());
  EXPECT_EQ(find_channel(got.config, name("org.example.x"), "web")->end, EndKind::listen);
}

TEST_F(Config, HostOnlyKeysAreRefusedInAGuest) {
  const ConfigLoad got = load(R"([daemon]
guests = ["*"]
[[channel]]
name = "org.example.x"
end = "listen"
guest = "web"
)",
                              Side::guest);
  EXPECT_THAT(lines(got),
              ElementsAre("x.toml:2: error: daemon.guests: is only for the host's files",
                          "x.toml:6: error: channel.guest: is only for the host's files"));
}

TEST_F(Config, MainFileThatIsNotTomlIsFatal) {
  const ConfigLoad got = load("[daemon]\nlog_level = debug\n");
  EXPECT_THAT(lines(got), ElementsAre(HasSubstr("x.toml:2: error: ")));
  EXPECT_TRUE(got.is_fatal());
}

TEST_F(Config, GivenFileThatIsMissingIsAnError) {
  const ConfigLoad got = load_config(Side::host, dir_ / "none.toml");
  EXPECT_THAT(lines(got), ElementsAre("none.toml: error: No such file or directory"));
  EXPECT_TRUE(got.is_fatal());
}

TEST_F(Config, FilesThatAreTooLongOrNoFilesAreErrors) {
  EXPECT_THAT(lines(load(std::string(config_file_bytes_max + 1, '#'))),
              ElementsAre("x.toml: error: has 1048577 bytes, 1048576 are allowed"));
  std::filesystem::create_directory(dir_ / "folder.toml");
  EXPECT_THAT(lines(load_config(Side::guest, dir_ / "folder.toml")),
              ElementsAre("folder.toml: error: is not a regular file"));
}

TEST_F(Config, SocketPathsThatCannotBeBoundDisableTheChannel) {
  const std::string run_dir = "/" + std::string(90, 'r');
  const ConfigLoad got = load("[daemon]\nrun_dir = '" + run_dir +
                              "'\n[[channel]]\nname = 'org.example.far-too-long'\nend = 'port'\n");
  EXPECT_THAT(lines(got), ElementsAre(HasSubstr("x.toml:3: error: channel "
                                                "'org.example.far-too-long': its socket's path "
                                                "would have 116 bytes, 107 are allowed")));
  EXPECT_FALSE(got.is_fatal());
}

TEST_F(Config, ChannelWrittenAsATableIsExplained) {
  EXPECT_THAT(lines(load("[channel]\nname = 'org.a.b'\n")),
              ElementsAre("x.toml:1: error: channel: write each channel as [[channel]], in double "
                          "brackets"));
}

TEST_F(Config, CheckPrintsEveryDiagnosticAndASummary) {
  const ConfigLoad bad = load("[[channel]]\nname='org.a.b'\nend='port'\ncolour='red'\n");
  testing::internal::CaptureStdout();
  EXPECT_EQ(print_check(bad, stdout), exit_configuration);
  const std::string file = dir_ / "x.toml";
  std::fflush(stdout);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            file +
                ":4: error: channel: unknown key 'colour'; known are name, end, lane, guest, mode, "
                "owner, group, console, link, users, groups, cache_buffers, byte_limit, "
                "guest_byte_limit, target, socket, proxy_protocol, exec_max, user, allow, "
                "allow_listen\n" +
                file + ": errors: 1, warnings: 0, usable channels: 0 of 1\n");
  testing::internal::CaptureStdout();
  EXPECT_EQ(print_check(load(""), stdout), exit_ok);
  EXPECT_EQ(testing::internal::GetCapturedStdout(),
            file + ": errors: 0, warnings: 0, usable channels: 0 of 0\n");
}

TEST_F(Config, RunDirComesFromTheEnvironmentUnlessAFileSetsIt) {
  ASSERT_EQ(::setenv("XENLANE_RUN_DIR", "/run/env", 1), 0);
  EXPECT_EQ(load("").config.run_dir, "/run/env");
  EXPECT_EQ(load("[daemon]\nrun_dir = '/run/file'").config.run_dir, "/run/file");
  ASSERT_EQ(::unsetenv("XENLANE_RUN_DIR"), 0);
  EXPECT_EQ(load("").config.run_dir, "/run/xenlane");
}

}  // namespace
}  // namespace xenlane::bridge

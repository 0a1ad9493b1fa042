// The sections that choose between the lanes, and what a channel wants of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/daemon/config.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class LanesConfigured : public testing::Test {
 protected:
  ConfigLoad load(std::string_view content, Side side = Side::host) {
    return load_config(side, dir_.write("x.toml", content));
  }
  /// The diagnostics as "line: severity: message", without the file.
  std::vector<std::string> lines(const ConfigLoad& load) const {
    std::vector<std::string> shown;
    for (const Diagnostic& diagnostic : load.diagnostics) {
      shown.push_back(format_diagnostic(diagnostic).substr((dir_ / "x.toml:").size()));
    }
    return shown;
  }

  TempDir dir_;
};

TEST_F(LanesConfigured, DefaultIsAVchanOnDemandAboveAConsole) {
  const BridgeConfig config = load("").config;
  EXPECT_EQ(config.lanes.policy.mode, LaneMode::on_demand);
  EXPECT_EQ(config.lanes.policy.backlog_bytes, 8U * 1024);
  EXPECT_EQ(config.lanes.policy.volume_bytes, 64U * 1024);
  EXPECT_EQ(config.lanes.policy.idle, std::chrono::seconds(30));
  EXPECT_EQ(config.lanes.rings_per_minute, 60U);
  EXPECT_EQ(config.console.socket, "/run/xen/xenlane-{guest}.sock");
  EXPECT_EQ(config.console.device, "auto");
  EXPECT_EQ(config.console.channel, "org.xenlane.lane.0");
  EXPECT_EQ(config.console.own_device, std::nullopt);
  EXPECT_TRUE(config.console.zstd);
  EXPECT_EQ(config.console.give_up_ms, 15000U);
  EXPECT_EQ(config.timeouts.resume_ms, 5000U);
}

TEST_F(LanesConfigured, EveryKeyOfAHostIsRead) {
  const ConfigLoad got = load(R"(
[lanes]
policy = "always"
backlog_bytes = "4KiB"
volume_bytes = "1MiB"
idle_ms = "10s"
rings_per_minute = 6
[console]
socket = "/run/lanes/{guest}"
own_device = false
zstd = false
give_up_ms = "2s"
[timeouts]
resume_ms = 10
[[channel]]
name = "org.example.a"
end = "listen"
lane = "vchan"
[[channel]]
name = "org.example.b"
end = "port"
lane = "console"
[[channel]]
name = "org.example.c"
end = "port"
lane = "any"
[[channel]]
name = "org.example.d"
end = "port"
)");
  EXPECT_THAT(lines(got), IsEmpty());
  const BridgeConfig& config = got.config;
  EXPECT_EQ(config.lanes.policy.mode, LaneMode::always);
  EXPECT_EQ(config.lanes.policy.backlog_bytes, 4096U);
  EXPECT_EQ(config.lanes.policy.volume_bytes, 1024U * 1024);
  EXPECT_EQ(config.lanes.policy.idle, std::chrono::seconds(10));
  EXPECT_EQ(config.lanes.rings_per_minute, 6U);
  EXPECT_EQ(config.console.socket, "/run/lanes/{guest}");
  EXPECT_EQ(config.console.own_device, false);
  EXPECT_FALSE(config.console.zstd);
  EXPECT_EQ(config.console.give_up_ms, 2000U);
  EXPECT_EQ(config.timeouts.resume_ms, 10U);
  ASSERT_THAT(config.channels, SizeIs(4));
  EXPECT_EQ(config.channels[0].lane, LanePreference::vchan);
  EXPECT_EQ(config.channels[1].lane, LanePreference::console);
  EXPECT_EQ(config.channels[2].lane, LanePreference::any);
  EXPECT_EQ(config.channels[3].lane, LanePreference::any);
}

TEST_F(LanesConfigured, EveryKeyOfAGuestIsRead) {
  const ConfigLoad got = load(R"(
[lanes]
policy = "never"
[console]
device = "/dev/hvc3"
channel = "org.example.lane.7"
own_device = true
)",
                              Side::guest);
  EXPECT_THAT(lines(got), IsEmpty());
  EXPECT_EQ(got.config.lanes.policy.mode, LaneMode::never);
  EXPECT_EQ(got.config.console.device, "/dev/hvc3");
  EXPECT_EQ(got.config.console.channel, "org.example.lane.7");
  EXPECT_EQ(got.config.console.own_device, true);
}

TEST_F(LanesConfigured, NoneIsNoConsole) {
  EXPECT_EQ(load("[console]\nsocket = \"none\"\n").config.console.socket, "none");
  const auto guest = load("[console]\ndevice = \"none\"\n", Side::guest);
  EXPECT_EQ(guest.config.console.device, "none");
  EXPECT_EQ(load("[console]\ndevice = \"auto\"\n", Side::guest).config.console.device, "auto");
}

TEST_F(LanesConfigured, FaultsAreNamedWithTheirRemedy) {
  const ConfigLoad got = load(R"([lanes]
policy = "sometimes"
backlog_bytes = 100
volume_bytes = "2GiB"
idle_ms = 99
rings_per_minute = 0
[console]
socket = "auto"
device = "/dev/hvc1"
channel = "org.xenlane.lane.0"
own_device = "yes"
zstd = 1
give_up_ms = 999
speed = 9600
[timeouts]
resume_ms = 9
)");
  EXPECT_THAT(
      lines(got),
      ElementsAre("2: error: lanes.policy: 'sometimes' is not one of on-demand, always, never",
                  "3: error: lanes.backlog_bytes: 100 bytes is out of range 1KiB to 64KiB",
                  "4: error: lanes.volume_bytes: 2GiB is out of range 1KiB to 1GiB",
                  "5: error: lanes.idle_ms: 99ms is out of range 100ms to 3600s",
                  "6: error: lanes.rings_per_minute: 0 is out of range 1 to 100000",
                  "8: error: console.socket: is not an absolute path",
                  "9: error: console.device: is only for a guest's files",
                  "10: error: console.channel: is only for a guest's files",
                  "11: error: console.own_device: must be true or false",
                  "12: error: console.zstd: must be true or false",
                  "13: error: console.give_up_ms: 999ms is out of range 1s to 3600s",
                  "14: error: console: unknown key 'speed'; known are socket, device, channel, "
                  "own_device, zstd, give_up_ms",
                  "16: error: timeouts.resume_ms: 9ms is out of range 10ms to 3600s"));
  EXPECT_TRUE(got.has_errors());
}

TEST_F(LanesConfigured, GuestsFaultsToo) {
  const ConfigLoad got = load(R"([console]
socket = "/run/a"
device = "hvc1"
channel = "no dots"
[[channel]]
name = "org.example.a"
end = "listen"
lane = "fast"
)",
                              Side::guest);
  EXPECT_THAT(lines(got), ElementsAre("2: error: console.socket: is only for the host's files",
                                      "3: error: console.device: is not an absolute path",
                                      testing::StartsWith("4: error: console.channel: 'no dots': "),
                                      testing::HasSubstr("lane")));
  ASSERT_THAT(got.config.channels, SizeIs(1));
  EXPECT_FALSE(got.config.channels[0].error.empty()) << "only that channel is disabled";
}

}  // namespace
}  // namespace xenlane::bridge

// From the tool stacks' descriptions to the host's configuration and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "bridge/toolstack/host_config.hpp"
#include "bridge/toolstack/libvirt_channels.hpp"
#include "bridge/toolstack/xl_channels.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/bridge/toolstack/findings.hpp"

namespace xenlane::bridge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

PvChannel channel(std::string_view name, std::string_view path) {
  return {*ChannelName::parse(name), *SocketPath::parse(path), 0};
}

ConfigLoad load(const TempDir& dir, const std::string& text) {
  return load_config(Side::host, dir.write("host.toml", text));
}

std::vector<std::string> said(const std::vector<Diagnostic>& diagnostics) {
  std::vector<std::string> lines;
  for (const Diagnostic& diagnostic : diagnostics) lines.push_back(diagnostic.message);
  return lines;
}

TEST(HostConfig, AChannelOfTheirsIsARawEnd) {
  const HostConfigText written = write_host_config(
      {*DomainName::parse("web"), {channel("org.example.a", "/run/web \"a\\b\".sock")}});
  EXPECT_EQ(written.text,
            "\n[[channel]]\nname = \"org.example.a\"\nguest = \"web\"\nend = \"raw\"\n"
            "console = \"/run/web \\\"a\\\\b\\\".sock\"\n");
  const TempDir dir;
  const ConfigLoad read = load(dir, written.text);
  EXPECT_THAT(said(read.diagnostics), IsEmpty());
  ASSERT_EQ(read.config.channels.size(), 1U);
  EXPECT_EQ(read.config.channels[0].end, EndKind::raw);
  EXPECT_EQ(read.config.channels[0].console, "/run/web \"a\\b\".sock");
  EXPECT_EQ(find_channel(read.config, *ChannelName::parse("org.example.a"), "db"), nullptr);
}

TEST(HostConfig, TheConsoleLanesChannelIsNoRawEnd) {
  const auto written = [](const char* path) {
    return write_host_config({*DomainName::parse("web"), {channel("org.xenlane.lane.0", path)}});
  };
  EXPECT_THAT(written("/run/xen/xenlane-web.sock").text, Not(HasSubstr("\n[")));
  EXPECT_EQ(written("/run/web/lane-web.sock").text,
            "\n[console]\nsocket = \"/run/web/lane-{guest}.sock\"\n");
  const HostConfigText everyones = written("/run/lane.sock");
  EXPECT_EQ(everyones.text, "");
  EXPECT_THAT(lines_of(everyones.findings), ElementsAre(HasSubstr("would be every guest's")));
}

TEST(HostConfig, DescribesTheConsoleLaneAndEveryChannelWithAConsole) {
  const TempDir dir;
  const ConfigLoad read = load(dir, R"(
[[channel]]
name = "org.example.raw"
end = "raw"
guest = "we?"
console = "/run/{guest}.raw"
[[channel]]
name = "org.example.port"
end = "port"
[[channel]]
name = "org.example.other"
end = "raw"
guest = "db"
console = "/run/db.raw"
)");
  ASSERT_FALSE(read.has_errors());
  const GuestDescription web = describe_guest(read.config, *DomainName::parse("web"));
  ASSERT_TRUE(web.guest);
  EXPECT_THAT(web.guest->channels,
              ElementsAre(channel("org.xenlane.lane.0", "/run/xen/xenlane-web.sock"),
                          channel("org.example.raw", "/run/web.raw")));
}

TEST(HostConfig, ToldToDoWithoutAConsoleLaneItDescribesNone) {
  const TempDir dir;
  const GuestDescription web =
      describe_guest(load(dir, "[console]\nsocket = \"none\"\n").config, *DomainName::parse("web"));
  ASSERT_TRUE(web.guest);
  EXPECT_THAT(web.guest->channels, IsEmpty());
}

TEST(HostConfig, WhatNoToolStackCouldSetUpIsAnError) {
  const TempDir dir;
  const ConfigLoad read = load(dir, R"([[channel]]
name = "org.example.a"
end = "raw"
console = "/run/xen/xenlane-{guest}.sock"
[[channel]]
name = "org.example.b"
end = "raw"
console = "/run/{guest}/b"
[[channel]]
name = "org.example.c"
end = "raw"
)");
  const std::string name(128, 'w');
  const GuestDescription guest = describe_guest(read.config, *DomainName::parse(name));
  EXPECT_FALSE(guest.guest);
  EXPECT_THAT(said(guest.diagnostics),
              ElementsAre(HasSubstr("channel 'org.xenlane.lane.0': the path has"),
                          HasSubstr("channel 'org.example.a': the path has"),
                          HasSubstr("channel 'org.example.b': the path has"),
                          "channel 'org.example.c': left out, because it is disabled"));
  const GuestDescription web = describe_guest(read.config, *DomainName::parse("web"));
  EXPECT_THAT(said(web.diagnostics),
              testing::Contains("channel 'org.example.a': its console is already that of "
                                "'org.xenlane.lane.0'"));
}

// Random guests, from a fixed seed: whatever is exported is imported as it was, through either
// tool stack's file, through our configuration, and through all of them.

class RandomGuests {
 public:
  RandomGuests(std::string_view name_bytes, std::string_view path_bytes)
      : name_bytes_(name_bytes), path_bytes_(path_bytes) {}

  GuestChannels next() {
    GuestChannels guest{*DomainName::parse(text(name_bytes_, 1 + below(20))), {}};
    if (below(2) == 0) {
      guest.channels.push_back(
          channel("org.xenlane.lane.0", "/run/lane-" + guest.guest.text() + ".sock"));
    }
    for (auto left = below(6); left > 0; --left) {
      const std::string number = std::to_string(guest.channels.size());
      guest.channels.push_back(channel("org.example." + text("abcXYZ019_-", below(20)) + number,
                                       "/" + text(path_bytes_, below(40)) + number));
    }
    return guest;
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % bound; }
  std::string text(std::string_view bytes, std::size_t size) {
    std::string out;
    while (out.size() < size) out += bytes[below(bytes.size())];
    return out;
  }

  std::string_view name_bytes_;
  std::string_view path_bytes_;
  std::mt19937 random_{7};  // NOLINT(cert-msc51-cpp): the same guests every time
};

/// Our configuration for `guest`, and out of that the guest again.
GuestChannels through_configuration(const TempDir& dir, const GuestChannels& guest) {
  HostConfigText written = write_host_config(guest);
  EXPECT_THAT(lines_of(written.findings), IsEmpty());
  if (written.text.find("[console]") == std::string::npos) {
    written.text = "[console]\nsocket = \"none\"\n" + written.text;
  }
  const ConfigLoad read = load(dir, written.text);
  EXPECT_THAT(said(read.diagnostics), IsEmpty()) << written.text;
  const GuestDescription described = describe_guest(read.config, guest.guest);
  EXPECT_TRUE(described.guest) << written.text;
  return described.guest.value_or(GuestChannels{guest.guest, {}});
}

TEST(HostConfig, ImportIsTheInverseOfExportForXl) {
  const TempDir dir;
  RandomGuests guests("abcXYZ019._-\\'&<>", "abc/XYZ 019._-\\'&<>;#[]");
  for (int round = 0; round < 300; ++round) {
    const GuestChannels guest = guests.next();
    const auto text = write_xl_channels(guest);
    ASSERT_TRUE(text) << text.error().text;
    const ChannelsRead read = read_xl_channels(*text);
    ASSERT_TRUE(read.guest) << *text << testing::PrintToString(lines_of(read.findings));
    ASSERT_EQ(*read.guest, guest) << *text;
    ASSERT_EQ(through_configuration(dir, *read.guest), guest) << *text;
  }
}

TEST(HostConfig, ImportIsTheInverseOfExportForLibvirt) {
  const TempDir dir;
  RandomGuests guests("abcXYZ019._-\\\"'&<>", "abc/XYZ 019._-\\'&<>;#[],=\"");
  for (int round = 0; round < 300; ++round) {
    const GuestChannels guest = guests.next();
    const std::string text = write_libvirt_channels(guest);
    const ChannelsRead read = read_libvirt_channels(text);
    ASSERT_TRUE(read.guest) << text << testing::PrintToString(lines_of(read.findings));
    ASSERT_EQ(*read.guest, guest) << text;
    ASSERT_EQ(through_configuration(dir, *read.guest), guest) << text;
  }
}

}  // namespace
}  // namespace xenlane::bridge

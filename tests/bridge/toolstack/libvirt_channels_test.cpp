// Channels in libvirt's domain XML.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/toolstack/libvirt_channels.hpp"
#include "tests/bridge/toolstack/findings.hpp"

namespace xenlane::bridge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

/// A domain "web" with these devices, which begin in line 4.
ChannelsRead read_devices(std::string_view devices) {
  return read_libvirt_channels("<domain type='xen' id='3'>\n<name>web</name>\n<devices>\n" +
                               std::string(devices) + "\n</devices>\n</domain>\n");
}

TEST(LibvirtChannels, AreFoundAmongAllDevices) {
  const ChannelsRead read = read_devices(R"(<emulator>/usr/lib/xen/bin/qemu</emulator>
<console type='pty' tty='/dev/pts/2'><target type='xen' port='0'/></console>
<channel type='unix'>
  <source mode='bind' path='/var/lib/libvirt/libxl/channel/target/web-org.example.agent.0'/>
  <target type='xen' name='org.example.agent.0' state='connected'/>
</channel>
<channel type="unix">
  <target type="virtio" name="org.qemu.guest_agent.0"/>
  <source path="/run/a&amp;b &lt;&#x263a;&gt;" mode="bind"/>
  <address type='virtio-serial' controller='0' bus='0' port='1'/>
</channel>)");
  ASSERT_TRUE(read.guest) << testing::PrintToString(lines_of(read.findings));
  EXPECT_THAT(lines_of(read.findings), IsEmpty());
  EXPECT_EQ(read.guest->guest.text(), "web");
  ASSERT_EQ(read.guest->channels.size(), 2U);
  EXPECT_EQ(read.guest->channels[0].name.text(), "org.example.agent.0");
  EXPECT_EQ(read.guest->channels[0].path.text(),
            "/var/lib/libvirt/libxl/channel/target/web-org.example.agent.0");
  EXPECT_EQ(read.guest->channels[1].path.text(), "/run/a&b <\xe2\x98\xba>");
}

TEST(LibvirtChannels, WhatHasNoSocketToConnectToIsLeftOut) {
  const ChannelsRead read = read_devices(
      R"(<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
<channel type='pty'><target type='xen' name='org.example.pty'/></channel>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<channel type='unix'><source mode='connect' path='/a'/><target type='xen' name='org.example.c'/>
</channel>
<channel type='unix'><source path='/b'/><target type='xen' name='org.example.d'/></channel>
<channel type='unix'><source mode='bind' path='/c'/><target type='guestfwd' port='1'/></channel>
<channel type='unix'><source mode='bind' path='/c'/><target type='virtio'/></channel>)");
  ASSERT_TRUE(read.guest);
  EXPECT_THAT(read.guest->channels, IsEmpty());
  EXPECT_THAT(
      lines_of(read.findings),
      ElementsAre(
          "4:1: warning: left out: 'com.redhat.spice.0' is of type 'spicevmc' and has no Unix "
          "socket",
          "5:1: warning: left out: 'org.example.pty' is of type 'pty' and has no Unix socket",
          StartsWith("6:1: warning: left out: libvirt chooses the path of "
                     "'org.qemu.guest_agent.0' when the domain starts"),
          StartsWith("7:22: warning: left out: QEMU connects to the socket of 'org.example.c'"),
          StartsWith("9:22: warning: left out: QEMU connects to the socket of 'org.example.d'"),
          "10:53: warning: left out: a target of type 'guestfwd' is neither 'xen' nor 'virtio'",
          "11:53: warning: left out: the channel has no name"));
}

TEST(LibvirtChannels, EveryFaultIsReportedAtOnce) {
  const ChannelsRead read = read_devices(
      R"(<channel type='unix'><source mode='bind' path='/a'/></channel>
<channel type='unix'><source mode='bind' path='b'/><target type='xen' name='org.example.b'/>
</channel>
<channel type='unix'><source mode='bind' path='/c'/><target type='xen' name='org/c'/></channel>
<channel type='unix'><source mode='bind' path='/d'/><target type='xen' name='agent'/></channel>
<channel type='unix'><source mode='bind' path='/e'/><target type='xen' name='org.example.e'/>
</channel>
<channel type='unix'><source mode='bind' path='/e'/><target type='xen' name='org.example.f'/>
</channel>)");
  EXPECT_FALSE(read.guest);
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre("4:1: error: the <channel> has no <target>",
                          "5:22: error: the path 'b' is not absolute",
                          StartsWith("7:53: error: 'org/c': '/' at byte 4"),
                          StartsWith("8:53: error: 'agent' has no dot"),
                          "11:22: error: the path is already that of the channel in line 9"));
}

TEST(LibvirtChannels, WhatIsNoDomainIsRefused) {
  const auto said = [](std::string_view text) {
    return lines_of(read_libvirt_channels(text).findings);
  };
  EXPECT_THAT(said("<domain>\n<name>web</nme>\n</domain>"),
              ElementsAre(StartsWith("2:12: error: this is no well-formed XML: ")));
  EXPECT_THAT(said("<domain><name>web</name>"), ElementsAre(HasSubstr("no well-formed XML")));
  EXPECT_THAT(said(""), ElementsAre(HasSubstr("no well-formed XML")));
  EXPECT_THAT(said("<network><name>web</name></network>"),
              ElementsAre("1:1: error: <network> instead of libvirt's <domain>"));
  EXPECT_THAT(said("\xef\xbb\xbf<network/>"),
              ElementsAre("1:4: error: <network> instead of libvirt's <domain>"));
  EXPECT_THAT(said("<domain/>"), ElementsAre("1:1: error: the <domain> has no <name>"));
  EXPECT_THAT(said("<domain><name>a/b</name></domain>"),
              ElementsAre(HasSubstr("would not mean that guest alone")));
  EXPECT_THAT(said("<domain><name>a</name></domain>\n<domain><name>b</name></domain>"),
              ElementsAre(StartsWith("1:1: error: there is more than one element at the top")));
  EXPECT_THAT(said(std::string_view("<domain>\0</domain>", 18)),
              ElementsAre("1:9: error: a NUL byte; this is no text"));
}

TEST(LibvirtChannels, NoEntityIsExpandedAndNoFileRead) {
  const ChannelsRead read = read_libvirt_channels(R"(<?xml version="1.0"?>
<!DOCTYPE domain [
  <!ENTITY a "aaaaaaaaaa"> <!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
  <!ENTITY file SYSTEM "file:///etc/passwd">
]>
<domain><name>&b;&file;</name></domain>)");
  ASSERT_TRUE(read.guest) << testing::PrintToString(lines_of(read.findings));
  EXPECT_EQ(read.guest->guest.text(), "&b;&file;");
}

TEST(LibvirtChannels, TheNameIsAllOfItsText) {
  const ChannelsRead read =
      read_libvirt_channels("<domain><name>a<!-- and --> <![CDATA[<b>]]></name></domain>");
  ASSERT_TRUE(read.guest);
  EXPECT_EQ(read.guest->guest.text(), "a <b>");
}

TEST(LibvirtChannels, DepthCostsNoStack) {
  std::string text = "<domain><name>web</name>";
  for (int i = 0; i < 100000; ++i) text += "<x>";
  EXPECT_FALSE(read_libvirt_channels(text).guest);
  for (int i = 0; i < 100000; ++i) text += "</x>";
  EXPECT_TRUE(read_libvirt_channels(text + "</domain>").guest);
}

TEST(LibvirtChannels, WrittenOnesAreReadBack) {
  const GuestChannels guest{
      *DomainName::parse("w<e>&'\"b"),
      {{*ChannelName::parse("org.example.a"), *SocketPath::parse("/run/a,b=\"c' <&>"), 0},
       {*ChannelName::parse("org.example.b"), *SocketPath::parse("/run/\xc3\xa4 "), 0}}};
  const std::string text = write_libvirt_channels(guest);
  EXPECT_THAT(text, StartsWith("<domain type=\"xen\">\n  <name>"));
  EXPECT_THAT(text, Not(HasSubstr("<?xml")));
  const ChannelsRead read = read_libvirt_channels(text);
  ASSERT_TRUE(read.guest) << testing::PrintToString(lines_of(read.findings));
  EXPECT_EQ(*read.guest, guest);
  EXPECT_THAT(lines_of(read.findings), IsEmpty());
}

}  // namespace
}  // namespace xenlane::bridge

// Channels in xl configurations: each rule of xl's reader and of xl.cfg(5), and what each mistake
// is told as.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/toolstack/xl_channels.hpp"
#include "tests/bridge/toolstack/findings.hpp"

namespace xenlane::bridge {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr std::string_view lost = "\"connection=pty,name=org.example.unused\", ";

/// The channel specifications of a guest "web", the first of the list being one that may get lost.
ChannelsRead read_specs(std::string_view specs) {
  return read_xl_channels("name = 'web'\nchannel = [ " + std::string(lost) + std::string(specs) +
                          " ]\n");
}

/// The one channel of "NAME PATH" that such a list has; empty when it has none or more.
std::string only_channel(std::string_view specs) {
  const ChannelsRead read = read_specs(specs);
  if (!read.guest || read.guest->channels.size() != 1) return {};
  const PvChannel& channel = read.guest->channels.front();
  return channel.name.text() + " " + channel.path.text();
}

/// What is said of such a list but that the first channel is left out.
std::vector<std::string> said_of(std::string_view specs) {
  std::vector<std::string> said = lines_of(read_specs(specs).findings);
  EXPECT_THAT(said, testing::Contains(HasSubstr("connection=pty has no socket")));
  std::erase_if(said, [](const std::string& line) {
    return line.find("connection=pty has no socket") != std::string::npos;
  });
  return said;
}

TEST(XlChannels, AreFoundAmongEverythingElseOfARealFile) {
  const ChannelsRead read = read_xl_channels(R"(# web, the front end
name = "web"
type = "pvh"   # not pv
memory = 512; vcpus = 2
kernel = '/boot/vmlinuz'
extra = "console=hvc0 channel=[\"no\"] # neither is this"
disk = [
    'format=raw,vdev=xvda,access=rw,target=/dev/vg/web',   # root
    "phy:/dev/vg/swap,xvdb,w",
]
vif = [ 'mac=00:16:3e:00:00:01,bridge=xenbr0' ]
cpuid = [ "0:eax=1", [ "nested" ], ]
channel = [ "connection=pty,name=org.example.unused",
            'connection=socket, name=org.example.agent.0, path=/run/xen/agent.sock',  # ours
            "connection=socket,path=/run/xen/ga.sock,name=org.qemu.guest_agent.0" ]
on_crash = 'restart'
)");
  ASSERT_TRUE(read.guest) << testing::PrintToString(lines_of(read.findings));
  EXPECT_EQ(read.guest->guest.text(), "web");
  ASSERT_EQ(read.guest->channels.size(), 2U);
  EXPECT_EQ(read.guest->channels[0].name.text(), "org.example.agent.0");
  EXPECT_EQ(read.guest->channels[0].path.text(), "/run/xen/agent.sock");
  EXPECT_EQ(read.guest->channels[0].line, 14U);
  EXPECT_EQ(read.guest->channels[1].name.text(), "org.qemu.guest_agent.0");
}

TEST(XlChannels, AFileWithoutThemHasNone) {
  const ChannelsRead read = read_xl_channels("name='web'\nmemory=128");
  ASSERT_TRUE(read.guest);
  EXPECT_THAT(read.guest->channels, IsEmpty());
  EXPECT_THAT(lines_of(read.findings), IsEmpty());
}

// The rules that the thread lists: blanks about keys and values, the banned [,="], the two
// connections, and that a parse failure is no configuration that is ignored.

TEST(XlChannels, BlanksAroundKeysAndValuesAreTrimmed) {
  EXPECT_EQ(only_channel("' connection = socket ,\tname =org.example.a, path\\t= /run/a b\\r'"),
            "org.example.a /run/a b");
}

TEST(XlChannels, KeysComeInAnyOrderAndEmptyPiecesAreSkipped) {
  EXPECT_EQ(only_channel("',path=/run/a,,name=org.example.a,connection=socket,'"),
            "org.example.a /run/a");
}

TEST(XlChannels, ACommaEndsTheValue) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path=/run/a,b'"),
              ElementsAre("2:105: error: 'b' is not of the form key=value"));
}

TEST(XlChannels, AnEqualsSignInAValueIsForbidden) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path=/run/a=b'"),
              ElementsAre("2:98: error: '/run/a=b' has a = in it; xl.cfg(5) forbids it"));
}

TEST(XlChannels, AQuoteInAValueIsForbidden) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path=/run/\"a'"),
              ElementsAre("2:98: error: '/run/\"a' has a \" in it; xl.cfg(5) forbids it"));
}

TEST(XlChannels, ThePtyOneHasNoSocketAndIsLeftOutWithAWarning) {
  const ChannelsRead read = read_xl_channels("name='w'\nchannel=['connection=pty,name=org.a.b']");
  ASSERT_TRUE(read.guest);
  EXPECT_THAT(read.guest->channels, IsEmpty());
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre("2:22: warning: left out: a channel with connection=pty has no socket"));
}

TEST(XlChannels, AnotherConnectionIsAnError) {
  EXPECT_THAT(said_of("'connection=SOCKET,name=org.example.a,path=/run/a'"),
              ElementsAre("2:67: error: 'SOCKET' is no connection; there are 'socket' and 'pty'"));
  EXPECT_THAT(said_of("'name=org.example.a,path=/run/a'"),
              ElementsAre("2:55: error: the channel has no connection=; it is 'socket' or 'pty'"));
}

TEST(XlChannels, ASocketNeedsAPathAndEveryChannelAName) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a'"),
              ElementsAre("2:55: error: a channel with connection=socket needs a path="));
  EXPECT_THAT(said_of("'connection=socket,path=/run/a'"),
              ElementsAre("2:55: error: the channel has no name="));
}

TEST(XlChannels, AnEmptyValueIsAnError) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path= '"),
              ElementsAre("2:93: error: 'path' has no value"));
  EXPECT_THAT(said_of("''"), ElementsAre("2:55: error: the channel is empty, and xl would crash"));
}

TEST(XlChannels, AnUnknownKeyIsIgnoredAsXlDoes) {
  EXPECT_EQ(only_channel("'connection=socket,name=org.example.a,path=/run/a,colour=red'"),
            "org.example.a /run/a");
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path=/run/a,colour=red'"),
              ElementsAre("2:105: warning: unknown key 'colour' is ignored"));
}

TEST(XlChannels, OfAKeyThatComesTwiceTheLaterCounts) {
  EXPECT_EQ(only_channel("'connection=socket,name=org.example.a,path=/run/a,path=/run/b'"),
            "org.example.a /run/b");
}

TEST(XlChannels, TheSocketOfADriverDomainIsNotHere) {
  EXPECT_EQ(only_channel("'backend=0,connection=socket,name=org.example.a,path=/run/a'"),
            "org.example.a /run/a");
  EXPECT_THAT(said_of("'backend=storage,connection=socket,name=org.example.a,path=/run/a'"),
              ElementsAre("2:64: warning: left out: the channel's socket is in domain 'storage', "
                          "not here"));
}

TEST(XlChannels, NamesFollowTheRuleOfNames) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example/a,path=/run/a'"),
              ElementsAre("2:79: error: 'org.example/a': '/' at byte 12 is not one of A-Z a-z 0-9 "
                          ". _ -"));
  EXPECT_THAT(said_of("'connection=socket,name=agent,path=/run/a'"),
              ElementsAre(AllOf(StartsWith("2:79: error: 'agent' has no dot"))));
  EXPECT_THAT(said_of("'connection=socket,name=guest.agent,path=/run/a'"),
              ElementsAre(StartsWith("2:79: warning: 'guest.agent' has no domain name in it")));
}

TEST(XlChannels, TheExampleOfTheManualNamesAFolder) {
  // "/my/cloud/software/talk/to/domain/" is what xen-pv-channel(7) has; no socket can be there.
  EXPECT_THAT(said_of("'connection=socket, name=org.my.cloud.software.agent.version1, "
                      "path = /my/cloud/software/talk/to/domain/'"),
              ElementsAre(HasSubstr("ends in '/', and no socket can")));
}

TEST(XlChannels, NoNameAndNoPathTwice) {
  EXPECT_THAT(said_of("'connection=socket,name=org.example.a,path=/run/a',\n"
                      "'connection=socket,name=org.example.a,path=/run/b',\n"
                      "'connection=socket,name=org.example.c,path=/run/a'"),
              ElementsAre("3:25: error: the name 'org.example.a' is already that of the channel in "
                          "line 2",
                          "4:44: error: the path is already that of the channel in line 2"));
}

TEST(XlChannels, AreBounded) {
  std::string specs;
  for (std::size_t i = 0; i <= guest_channels_max + 1; ++i) {
    specs += "'connection=socket,name=org.example.n" + std::to_string(i) + ",path=/run/" +
             std::to_string(i) + "',\n";
  }
  EXPECT_THAT(said_of(specs), ElementsAre("258:25: error: more than 256 channels"));
}

TEST(XlChannels, TheFirstOfTheListIsLostByXen417) {
  const ChannelsRead read =
      read_xl_channels("name='w'\nchannel=['connection=socket,name=org.example.a,path=/a']");
  EXPECT_TRUE(read.guest);
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre(AllOf(StartsWith("2:10: warning: xl of Xen 4.17 loses the first"),
                                HasSubstr("connection=pty,name=unused"))));
}

TEST(XlChannels, TheNameOfTheGuestHasToBeThereAndFit) {
  const auto said = [](std::string_view text) { return lines_of(read_xl_channels(text).findings); };
  EXPECT_THAT(said("memory=1\n"),
              ElementsAre("1:1: error: there is no name = \"...\", the domain's"));
  EXPECT_THAT(said("name=['a']\n"),
              ElementsAre("1:6: error: the domain's name is a list; it must be a text"));
  EXPECT_THAT(said("name='a*'\n"), ElementsAre(HasSubstr("would not mean that guest alone")));
}

TEST(XlChannels, ATextOrANestedListIsNoListOfChannels) {
  EXPECT_THAT(lines_of(read_xl_channels("name='w'\nchannel='connection=pty,name=a'\n").findings),
              ElementsAre(StartsWith("2:9: error: xl wants a list")));
  EXPECT_THAT(said_of("['connection=socket']"),
              ElementsAre(StartsWith("2:55: error: a list where a text must be")));
}

TEST(XlChannels, EveryFaultIsReportedAtOnce) {
  const ChannelsRead read = read_xl_channels(R"(name = "web
Memory = 512
channel = [ "connection=pty,name=org.example.unused"
            "connection=socket,path=/run/a",
            "connection=tcp,name=org.example.b" ]
vcpus 2
extra = "\q"
)");
  EXPECT_FALSE(read.guest);
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre("1:8: error: the text has no closing \" on its line",
                          "1:12: error: the end of the line instead of a value",
                          "2:1: error: 'M' cannot stand here",
                          "3:25: warning: left out: a channel with connection=pty has no socket",
                          "4:13: error: a text instead of ',' or ']'",
                          "4:13: error: the channel has no name=",
                          "5:25: error: 'tcp' is no connection; there are 'socket' and 'pty'",
                          "6:7: error: a number instead of '=' or '+='",
                          "7:10: error: xl has no escape '\\q'; write the character itself"));
}

TEST(XlChannels, AListThatNeverEndsIsLeftAtTheNextSetting) {
  const ChannelsRead read = read_xl_channels("vif = [ 'a',\nname = 'web'\nvcpus = ;\n");
  EXPECT_FALSE(read.guest);
  EXPECT_THAT(lines_of(read.findings), ElementsAre("2:1: error: a name instead of a value",
                                                   "3:9: error: ';' instead of a value"));
}

TEST(XlChannels, ListsWithinListsAreBounded) {
  const std::string deep(100000, '[');
  const ChannelsRead read = read_xl_channels("name='w'\nvif=" + deep + "\n");
  EXPECT_THAT(lines_of(read.findings), ElementsAre("2:21: error: more than 16 lists within each "
                                                   "other"));
}

TEST(XlChannels, ALaterListReplacesAndAddsAsXlHasIt) {
  const std::string first = "channel=['connection=socket,name=org.example.a,path=/a']\n";
  const auto names = [](const std::string& text) {
    const ChannelsRead read = read_xl_channels("name='w'\n" + text);
    std::string all;
    if (read.guest) {
      for (const PvChannel& channel : read.guest->channels) all += channel.name.text() + ' ';
    }
    return all;
  };
  EXPECT_EQ(names(first + "channel=['connection=socket,name=org.example.b,path=/b']\n"),
            "org.example.b ");
  EXPECT_EQ(names(first + "channel+=['connection=socket,name=org.example.b,path=/b']\n"),
            "org.example.a org.example.b ");
  EXPECT_EQ(names(first + "channel+='x'\n"), "");
}

TEST(XlChannels, PlacesAreRightBehindEscapes) {
  EXPECT_THAT(said_of(R"('connection=socket,name=org.example.a,path=\'a')"),
              ElementsAre("2:98: error: the path ''a' is not absolute"));
}

TEST(XlChannels, BytesThatAreNoTextAreRefused) {
  EXPECT_THAT(lines_of(read_xl_channels(std::string_view("name='w'\n\0", 10)).findings),
              ElementsAre("2:1: error: a NUL byte; this is no text"));
  EXPECT_THAT(lines_of(read_xl_channels("name='w'\r\n").findings),
              ElementsAre("1:9: error: '\\x0d' cannot stand here"));
  EXPECT_THAT(lines_of(read_xl_channels("name='w'\n# end").findings),
              ElementsAre(HasSubstr("no newline behind it")));
}

TEST(XlChannels, WrittenOnesAreReadBack) {
  const GuestChannels guest{
      *DomainName::parse("we\"b\\ 1"),
      {{*ChannelName::parse("org.xenlane.lane.0"), *SocketPath::parse("/run/xen/web.sock"), 0},
       {*ChannelName::parse("org.example.a"), *SocketPath::parse("/run/a \\'b"), 0}}};
  const auto text = write_xl_channels(guest);
  ASSERT_TRUE(text) << text.error().text;
  EXPECT_THAT(*text, HasSubstr("channel = [\n    \"connection=pty,name=unused\",\n"));
  const ChannelsRead read = read_xl_channels(*text);
  ASSERT_TRUE(read.guest) << testing::PrintToString(lines_of(read.findings));
  EXPECT_EQ(*read.guest, guest);
}

TEST(XlChannels, APathThatXlCannotTakeIsNotWritten) {
  for (const char* path : {"/run/a,b", "/run/a=b", "/run/a\"b", "/run/a "}) {
    const GuestChannels guest{
        *DomainName::parse("web"),
        {{*ChannelName::parse("org.example.a"), *SocketPath::parse(path), 0}}};
    EXPECT_FALSE(write_xl_channels(guest)) << path;
  }
}

}  // namespace
}  // namespace xenlane::bridge

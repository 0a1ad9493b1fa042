// What the readers of other people's files share: places, the bound on findings, and the checked
// types of a guest's name and a socket's path.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bridge/channel/domain_part.hpp"
#include "bridge/toolstack/findings.hpp"
#include "bridge/toolstack/guest_channels.hpp"

namespace xenlane::bridge {
namespace {

using testing::HasSubstr;

TEST(Findings, CountLinesAndBytesFromOne) {
  EXPECT_EQ(place_of("abc", 0), (Place{1, 1}));
  EXPECT_EQ(place_of("abc\nde", 2), (Place{1, 3}));
  EXPECT_EQ(place_of("abc\nde", 4), (Place{2, 1}));
  EXPECT_EQ(place_of("abc\n", 4), (Place{2, 1}));
}

TEST(Findings, ComeInTheOrderOfTheFileAndSayWhatTheyAre) {
  Findings findings;
  findings.warning({3, 1}, "later");
  EXPECT_FALSE(findings.has_errors());
  findings.error({2, 7}, "earlier");
  EXPECT_TRUE(findings.has_errors());
  const auto sorted = findings.sorted();
  ASSERT_EQ(sorted.size(), 2U);
  EXPECT_EQ(format_finding("a\nb", sorted[0]), "a\\x0ab:2:7: error: earlier");
  EXPECT_EQ(format_finding("f", sorted[1]), "f:3:1: warning: later");
}

TEST(Findings, AreBoundedAndSayThatThereAreMore) {
  Findings findings;
  for (std::uint32_t line = 1; line <= 3 * findings_max; ++line) findings.warning({line, 1}, "x");
  findings.error({4 * findings_max, 1}, "the one that counts");
  const auto sorted = findings.sorted();
  EXPECT_EQ(sorted.size(), findings_max);
  EXPECT_THAT(sorted.back().text, HasSubstr("more"));
  EXPECT_TRUE(sorted.back().is_error);
  EXPECT_TRUE(findings.has_errors());
}

TEST(GuestChannels, AGuestsNameMeansOneGuest) {
  for (const char* good : {"web", "web-1.example", "a b", "\xc3\xa4", "\xf0\x9f\x90\xa7"}) {
    EXPECT_TRUE(DomainName::parse(good)) << good;
  }
  EXPECT_TRUE(DomainName::parse(std::string(domain_name_bytes_max, 'x')));
  const std::string too_long(domain_name_bytes_max + 1, 'x');
  for (const std::string& bad :
       {std::string(), too_long, std::string("we*"), std::string("we?"), std::string("a/b"),
        std::string("a\nb"), std::string("a\0b", 3), std::string(" web"), std::string("web "),
        std::string("\xff"), std::string("\xc3"), std::string("\xed\xa0\x80"), std::string("\x7f"),
        std::string("\xc2\x85")}) {
    EXPECT_FALSE(DomainName::parse(bad)) << testing::PrintToString(bad);
  }
}

TEST(GuestChannels, ASocketsPathIsAbsoluteShortAndMeansItself) {
  EXPECT_TRUE(SocketPath::parse("/run/a b,c=\".sock"));
  EXPECT_TRUE(SocketPath::parse("/" + std::string(106, 'x')));
  for (const std::string& bad :
       {std::string(), std::string("run/x"), std::string("/"), std::string("/run/"),
        "/" + std::string(107, 'x'), std::string("/a\nb"), std::string("/a\0b", 4),
        std::string("/\xff"), std::string("/run/{guest}.sock")}) {
    EXPECT_FALSE(SocketPath::parse(bad)) << testing::PrintToString(bad);
  }
}

TEST(DomainPart, IsADomainInReverseAndAWordOfOnesOwn) {
  const auto has = [](const char* name) { return has_domain_part(*ChannelName::parse(name)); };
  for (const char* good :
       {"org.xenproject.guest.clipboard.0.1", "org.qemu.guest_agent.0", "com.redhat.spice.0",
        "org.spice-space.webdav.0", "org.example.x", "de.7-zip.agent", "xn--p1ai.example.agent"}) {
    EXPECT_TRUE(has(good)) << good;
  }
  for (const char* bad :
       {"agent", "ovirt-guest-agent.0", "s-4-VM.vport", "org.example", "org.example.", "org..agent",
        "o.example.agent", "1.2.3", "org.0.1", "or9.example.agent", "org.my_host.agent",
        "org.-x.agent", "org.x-.agent", "xn--.example.agent"}) {
    EXPECT_FALSE(has(bad)) << bad;
  }
}

}  // namespace
}  // namespace xenlane::bridge

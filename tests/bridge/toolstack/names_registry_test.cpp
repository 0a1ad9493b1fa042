// The registry of channel names, and the one that comes with xenlane.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "bridge/daemon/config.hpp"
#include "bridge/toolstack/names_registry.hpp"
#include "tests/bridge/toolstack/findings.hpp"

namespace xenlane::bridge {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

std::vector<std::string> names_in(const RegistryRead& read) {
  std::vector<std::string> names;
  for (const Registration& entry : read.entries) names.push_back(entry.name.text());
  return names;
}

TEST(NamesRegistry, ReadsTheFormOfTheManual) {
  const RegistryRead read = parse_names_registry(
      "# ours\n"
      "N: org.example.a\n"
      "C: Ann <ann@example.org>\n"
      "D: Does this.\n"
      "   And that:\n"
      "\thttps://example.org\n"
      "\n"
      "N:org.example.b\n"
      "D: Back \xc3\xa4\n"
      "C: Bob\n"
      "N: org.example.c\n"
      "C: Cy\n"
      "D:\n"
      "  All in the next line");
  EXPECT_THAT(lines_of(read.findings), IsEmpty());
  ASSERT_THAT(names_in(read), ElementsAre("org.example.a", "org.example.b", "org.example.c"));
  EXPECT_EQ(read.entries[0].contact, "Ann <ann@example.org>");
  EXPECT_EQ(read.entries[0].description, "Does this. And that: https://example.org");
  EXPECT_EQ(read.entries[0].line, 2U);
  EXPECT_EQ(read.entries[1].description, "Back \xc3\xa4");
  EXPECT_EQ(read.entries[1].line, 8U);
  EXPECT_EQ(read.entries[2].description, "All in the next line");
}

TEST(NamesRegistry, ErrorsHaveTheirLinesAndTakeOnlyTheirEntriesAlong) {
  const RegistryRead read = parse_names_registry(
      "C: nobody's\n"
      "N: org.example/a\n"
      "C: A\n"
      "D: a\n"
      "\n"
      "N: agent\n"
      "N: org.example.b\n"
      "C: B\n"
      "  goes on\n"
      "D: b\n"
      "N: org.example.c\n"
      "C: C\n"
      "C: C again\n"
      "D: c\n"
      "X: what\n"
      "N: org.example.d\n"
      "D: d\n"
      "N: org.example.e\n"
      "C: E\n"
      "\n"
      "  lost\n"
      "D: lost\n"
      "N: org.example.good\n"
      "C: G\n"
      "D: g\n"
      "N: org.example.f\n"
      "C: \x1b[31m\n"
      "D: f\n");
  EXPECT_THAT(names_in(read), ElementsAre("org.example.good"));
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre("1:1: error: C: without an N: before it",
                          StartsWith("2:1: error: 'org.example/a': '/' at byte 12"),
                          StartsWith("6:1: error: 'agent' has no dot"),
                          "9:3: error: only a D: goes on in the next line",
                          "13:1: error: a second C: for one name",
                          "15:1: error: 'X: what' is neither N:, C:, D: nor a comment",
                          "16:1: error: the entry has no C:", "18:1: error: the entry has no D:",
                          "21:3: error: only a D: goes on in the next line",
                          "22:1: error: D: without an N: before it",
                          "27:1: error: the line is no text that can be printed"));
}

TEST(NamesRegistry, TextsAndEntriesAreBounded) {
  const auto said = [](const std::string& text) {
    return lines_of(parse_names_registry(text).findings);
  };
  const std::string head = "N: org.example.a\nC: A\nD: ";
  EXPECT_THAT(said(head + std::string(description_bytes_max, 'x')), IsEmpty());
  EXPECT_THAT(said(head + std::string(description_bytes_max + 1, 'x')),
              ElementsAre(HasSubstr("3:1: error: D: has 4097 bytes, 4096 are allowed")));
  EXPECT_THAT(said(head + std::string(description_bytes_max - 1, 'x') + "\n y"),
              ElementsAre("4:2: error: the description has more than 4096 bytes"));
  EXPECT_THAT(said("N: org.example.a\nC: " + std::string(contact_bytes_max + 1, 'x') + "\nD: d\n"),
              ElementsAre(HasSubstr("C: has 257 bytes")));
  std::string many;
  for (std::size_t i = 0; i < registrations_max + 2; ++i) {
    many += "N: org.example.n" + std::to_string(i) + "\nC: c\nD: d\n";
  }
  const RegistryRead read = parse_names_registry(many);
  EXPECT_THAT(read.entries, SizeIs(registrations_max));
  EXPECT_THAT(lines_of(read.findings), ElementsAre(HasSubstr("more than 4096 names")));
}

TEST(NamesRegistry, ANameWithoutADomainIsWarnedAbout) {
  const RegistryRead read = parse_names_registry("N: my.agent\nC: me\nD: mine\n");
  EXPECT_THAT(names_in(read), ElementsAre("my.agent"));
  EXPECT_THAT(lines_of(read.findings),
              ElementsAre(StartsWith("1:1: warning: 'my.agent' has no domain name in it")));
}

TEST(NamesRegistry, TwoRegistrationsOfOneNameAreTold) {
  const auto entry = [](const char* name, const char* contact, std::uint32_t line) {
    return Registration{*ChannelName::parse(name), contact, "d", line};
  };
  const std::vector<Registered> all = {{"one", entry("org.example.a", "Ann", 1)},
                                       {"one", entry("org.example.b", "Bob", 5)},
                                       {"two", entry("org.example.a", "Cy", 3)}};
  EXPECT_THAT(find_name_clashes(all),
              ElementsAre(StartsWith("two:3: warning: 'org.example.a' is registered already, at "
                                     "one:1 by Ann")));
}

TEST(NamesRegistry, TheNamesThatComeWithXenlaneAreInOrder) {
  const RegistryRead read = parse_names_registry(well_known_names());
  // oVirt chose a name without a domain before anybody asked for one.
  EXPECT_THAT(lines_of(read.findings), ElementsAre(HasSubstr("'ovirt-guest-agent.0'")));
  std::vector<Registered> all;
  for (const Registration& entry : read.entries) all.push_back({"xenlane", entry});
  EXPECT_THAT(find_name_clashes(all), IsEmpty());
  const auto names = names_in(read);
  for (const std::string name :
       {"org.xenproject.guest.clipboard.0.1", "org.qemu.guest_agent.0", "com.redhat.spice.0",
        "org.libguestfs.channel.0", "com.redhat.rhevm.vdsm", "org.spice-space.webdav.0"}) {
    EXPECT_THAT(names, Contains(name));
  }
  EXPECT_THAT(names, Contains(ConsoleConfig{}.channel));
}

TEST(NamesRegistry, TheInstalledFileIsWhatIsCompiledIn) {
  std::ostringstream text;
  text << std::ifstream(WELL_KNOWN_NAMES).rdbuf();
  EXPECT_EQ(text.str(), well_known_names());
}

}  // namespace
}  // namespace xenlane::bridge

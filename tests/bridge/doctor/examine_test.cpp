// What the doctor says of worlds that are broken in one way each: which check finds it, how bad it
// says that is, which exit code follows, and that the remedy names what helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "bridge/doctor/examine.hpp"
#include "tests/bridge/doctor/story.hpp"
#include "tests/bridge/doctor/worlds.hpp"

namespace xenlane::bridge::doctor {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<Story> all_stories() {
  std::vector<Story> all;
  for (const auto* part : {&xen_stories, &file_stories, &daemon_stories, &console_stories}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  return all;
}

std::string joined(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += std::string(finding.id) + " " + std::string(to_string(finding.severity)) + ": " +
            finding.thing + ": " + finding.problem + "\n";
  }
  return text;
}

class BrokenWorld : public ::testing::TestWithParam<Story> {};

TEST_P(BrokenWorld, IsFoundWithItsRemedy) {
  const Story& story = GetParam();
  Facts facts = story.side == Side::host ? well_host() : well_guest();
  story.breakage(facts);
  const auto findings = examine(facts);
  const auto found = std::ranges::find_if(findings, [&](const Finding& finding) {
    return finding.id == story.id && finding.severity == story.severity;
  });
  ASSERT_NE(found, findings.end()) << joined(findings);
  EXPECT_THAT(found->thing + ": " + found->problem, HasSubstr(story.says));
  EXPECT_THAT(found->remedy, HasSubstr(story.remedy));
  EXPECT_EQ(exit_code_of(findings), story.exit_code) << joined(findings);
}

INSTANTIATE_TEST_SUITE_P(Doctor, BrokenWorld, ::testing::ValuesIn(all_stories()),
                         [](const auto& story) { return std::string(story.param.name); });

TEST(Doctor, WhereAllIsWellNothingIsWorseThanOk) {
  for (const Facts& facts : {well_guest(), well_host()}) {
    const auto findings = examine(facts);
    for (const Finding& finding : findings) {
      EXPECT_EQ(finding.severity, Severity::ok) << finding.id << ": " << finding.problem;
      EXPECT_THAT(finding.remedy, IsEmpty());
    }
    EXPECT_EQ(exit_code_of(findings), 0);
    EXPECT_GT(findings.size(), 15U);
  }
}

TEST(Doctor, EveryCheckHasAStory) {
  std::set<std::string_view> told;
  for (const Story& story : all_stories()) told.insert(story.id);
  EXPECT_EQ(told, (std::set<std::string_view>(check::all.begin(), check::all.end())));
}

TEST(Doctor, WarningsAndErrorsComeWithARemedyAndKnownIds) {
  for (const Story& story : all_stories()) {
    Facts facts = story.side == Side::host ? well_host() : well_guest();
    story.breakage(facts);
    for (const Finding& finding : examine(facts)) {
      EXPECT_EQ(std::ranges::count(check::all, finding.id), 1) << finding.id;
      EXPECT_THAT(finding.thing, ::testing::Not(IsEmpty())) << finding.id;
      EXPECT_THAT(finding.problem, ::testing::Not(IsEmpty())) << finding.id;
      if (finding.severity < Severity::warning) continue;
      EXPECT_THAT(finding.remedy, ::testing::Not(IsEmpty())) << finding.id;
      EXPECT_TRUE(finding.severity == Severity::warning || finding.code > exit_broken)
          << finding.id << ": 1 is for warnings";
    }
  }
}

TEST(Doctor, TheFirstErrorDecidesTheExitCode) {
  Facts facts = well_guest();
  facts.gntalloc_limit = 2;
  without_daemon(facts);
  EXPECT_EQ(exit_code_of(examine(facts)), exit_too_few_grants);
  facts.gntalloc_limit = 1024;
  EXPECT_EQ(exit_code_of(examine(facts)), exit_no_daemon);
}

TEST(Doctor, WithoutXenTheDevicesAreNotComplainedOfOneByOne) {
  Facts facts = well_guest();
  without_device(facts, ModuleState::absent);
  facts.is_xen = false;
  facts.xenstore.error = ENOENT;
  const auto findings = examine(facts);
  EXPECT_EQ(std::ranges::count(findings, check::device, &Finding::id), 0) << joined(findings);
}

}  // namespace
}  // namespace xenlane::bridge::doctor

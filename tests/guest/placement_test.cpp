// Which console is which tty, and who has a name: the kernel's rule, followed from run to run.
#include "guest/channels/placement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xenlane::guest {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// "NUMBER hvcTTY CHANNEL", in the order in which they came.
std::vector<std::string> told(const Placement& placement) {
  std::vector<std::string> lines;
  for (const Placed& placed : placement) {
    lines.push_back(std::to_string(placed.number) + " hvc" + std::to_string(placed.tty) + " " +
                    (placed.channel ? placed.channel->text() : "none"));
  }
  return lines;
}

TEST(Placement, AtBootConsolesHaveTheTtysOfTheirNumbers) {
  const auto next = place({{2, 11, "org.b"}, {1, 10, "org.a"}, {3, 12, ""}}, {});
  EXPECT_THAT(told(next.consoles), ElementsAre("1 hvc1 org.a", "2 hvc2 org.b", "3 hvc3 none"));
  EXPECT_THAT(next.complaints, IsEmpty());
}

TEST(Placement, AGapInTheNumbersIsNoneInTheTtys) {
  const auto next = place({{2, 10, "org.b"}, {5, 11, "org.e"}}, {});
  EXPECT_THAT(told(next.consoles), ElementsAre("2 hvc1 org.b", "5 hvc2 org.e"));
}

TEST(Placement, WhatComesLaterGetsTheTtyOfWhatHasGone) {
  const auto boot = place({{1, 10, "org.a"}, {2, 11, "org.b"}, {3, 12, "org.c"}}, {});
  const auto after = place({{1, 10, "org.a"}, {3, 12, "org.c"}, {4, 20, "org.d"}}, boot.consoles);
  EXPECT_THAT(told(after.consoles), ElementsAre("1 hvc1 org.a", "3 hvc3 org.c", "4 hvc2 org.d"));
}

TEST(Placement, TheSameNumberPluggedInAgainIsAnotherConsole) {
  const auto boot = place({{1, 10, "org.a"}, {2, 11, "org.b"}}, {});
  const auto gone = place({{2, 11, "org.b"}}, boot.consoles);
  const auto more = place({{2, 11, "org.b"}, {3, 20, "org.c"}}, gone.consoles);
  const auto back = place({{2, 11, "org.b"}, {3, 20, "org.c"}, {1, 21, "org.a"}}, more.consoles);
  EXPECT_THAT(told(back.consoles), ElementsAre("2 hvc2 org.b", "3 hvc1 org.c", "1 hvc3 org.a"));
}

TEST(Placement, AResumeMovesConsolesUpIntoWhatWasFree) {
  const auto boot = place({{1, 10, "org.a"}, {2, 11, "org.b"}, {3, 12, "org.c"}}, {});
  EXPECT_EQ(after_resume(boot.consoles), boot.consoles) << "nothing was free";
  const auto hole = place({{2, 11, "org.b"}, {3, 12, "org.c"}}, boot.consoles);
  EXPECT_THAT(told(after_resume(hole.consoles)), ElementsAre("2 hvc1 org.b", "3 hvc2 org.c"));
}

TEST(Placement, AResumeMovesConsolesAsItWasSeenOnXen) {
  // Console 4 was plugged in last and had hvc7, hvc4 was free; afterwards hvc7 was.
  const Placement before = {{1, 10, 1, {}, false}, {2, 11, 2, {}, false}, {3, 12, 3, {}, false},
                            {5, 14, 5, {}, false}, {6, 15, 6, {}, false}, {4, 16, 7, {}, false}};
  EXPECT_THAT(told(after_resume(before)), ElementsAre("1 hvc1 none", "2 hvc2 none", "3 hvc3 none",
                                                      "5 hvc4 none", "6 hvc5 none", "4 hvc6 none"));
}

TEST(Placement, OfTwoWithOneNameTheFirstHasItUntilItGoes) {
  const auto both = place({{2, 11, "org.a"}, {1, 10, "org.a"}}, {});
  EXPECT_THAT(told(both.consoles), ElementsAre("1 hvc1 org.a", "2 hvc2 none"));
  EXPECT_THAT(both.complaints, ElementsAre(HasSubstr("console 2: the name org.a is taken by "
                                                     "console 1")));

  const auto still = place({{2, 11, "org.a"}, {1, 10, "org.a"}}, both.consoles);
  EXPECT_EQ(still.consoles, both.consoles);
  EXPECT_THAT(still.complaints, IsEmpty()) << "it was said once";

  const auto alone = place({{2, 11, "org.a"}}, still.consoles);
  EXPECT_THAT(told(alone.consoles), ElementsAre("2 hvc2 org.a"));
}

TEST(Placement, ANameIsKeptEvenFromAnOlderConsoleThatIsNamedLater) {
  const auto first = place({{1, 10, ""}, {2, 11, "org.a"}}, {});
  const auto later = place({{1, 10, "org.a"}, {2, 11, "org.a"}}, first.consoles);
  EXPECT_THAT(told(later.consoles), ElementsAre("1 hvc1 none", "2 hvc2 org.a"));
}

TEST(Placement, BadNamesAreRefusedAndNeverRewritten) {
  const std::vector<std::string> bad = {
      "../etc",   "a/b",  ".hidden", "-x",   "a b",
      "a\nKEY=1", "a\"b", "a,b",     "\xff", std::string(64, 'a')};
  for (const std::string& name : bad) {
    const auto next = place({{1, 10, name}}, {});
    EXPECT_THAT(told(next.consoles), ElementsAre("1 hvc1 none")) << name;
    ASSERT_EQ(next.complaints.size(), 1U) << name;
    EXPECT_EQ(next.complaints[0].find('\n'), std::string::npos) << next.complaints[0];
  }
  const std::string longest(63, 'a');
  EXPECT_THAT(told(place({{1, 10, longest}}, {}).consoles), ElementsAre("1 hvc1 " + longest));
}

TEST(Placement, IsKeptAsText) {
  const auto next = place({{1, 10, "org.a"}, {2, 11, "a/b"}, {3, 12, ""}}, {});
  const Memory memory{7, next.consoles};
  const std::string text = to_text(memory);
  EXPECT_EQ(text, "domain 7\n1 10 1 org.a\n2 11 2 !\n3 12 3 -\n");
  EXPECT_EQ(parse_memory(text).value(), memory);
  EXPECT_EQ(parse_memory("").value(), Memory());
}

TEST(Placement, ADamagedTextIsRefusedWhole) {
  for (const char* text : {
           "1 10 1 org.a",                  // cut off
           "1 10 1\n",                      // a word is missing
           "0 10 1 org.a\n",                // the kernel's own console
           "10 10 1 org.a\n",               // one that has no tty
           "1 -1 1 org.a\n",                // no number
           "1 10 0 org.a\n",                // the kernel's own tty
           "1 10 1 ../x\n",                 // a bad name
           "1 10 1 \n",                     // none
           "1 10 1 org.a\n1 11 2 org.b\n",  // a console twice
           "1 10 1 org.a\n2 11 1 org.b\n",  // a tty twice
           "1 10 1 org.a\n2 11 2 org.a\n",  // a channel twice
           "domain \n",                     // a domain of no number
           "domain 7",                      // cut off
           "\n",
       }) {
    EXPECT_TRUE(parse_memory(text).has_error()) << text;
  }
}

TEST(ConsoleDevice, IsConsoleOneToNine) {
  EXPECT_EQ(parse_console_device("console-1"), 1);
  EXPECT_EQ(parse_console_device("console-9"), 9);
  for (const char* word :
       {"console-0", "console-10", "console-", "console", "vbd-51712", "console-1x", "", "1"}) {
    EXPECT_EQ(parse_console_device(word), std::nullopt) << word;
  }
}

}  // namespace
}  // namespace xenlane::guest

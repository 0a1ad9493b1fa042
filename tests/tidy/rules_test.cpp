// Shows each rule a fault that it must find and something close to it that it must leave alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tidy/rules.hpp"

namespace xenlane::tidy {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string repeat(const std::string& line, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += line;
  return text;
}

TEST(TidyRules, AFileOneLineTooLongIsFound) {
  EXPECT_THAT(check_sizes("a.cpp", repeat("// x\n", file_lines_max)), IsEmpty());
  EXPECT_THAT(check_sizes("a.cpp", repeat("// x\n", file_lines_max + 1)), SizeIs(1));
}

TEST(TidyRules, ALineIsMeasuredInCharactersAndNotInBytes) {
  EXPECT_THAT(check_sizes("a.cpp", repeat("\xC3\xA9", line_columns_max) + "\n"), IsEmpty());
  EXPECT_THAT(check_sizes("a.cpp", "// x\n" + repeat("x", line_columns_max + 1) + "\n"),
              ElementsAre(HasSubstr("a.cpp:2:")));
}

TEST(TidyRules, AFunctionOneLineTooLongIsFoundFreeOrInAClass) {
  const std::string body = repeat("  x();\n", function_lines_max - 2);
  EXPECT_THAT(check_sizes("a.cpp", "void f() {\n" + body + "}\n"), IsEmpty());
  EXPECT_THAT(check_sizes("a.cpp", "void f() {\n" + body + "  x();\n}\n"),
              ElementsAre(HasSubstr("a.cpp:1:")));
  const std::string inner = repeat("    x();\n", function_lines_max - 1);
  EXPECT_THAT(check_sizes("a.cpp", "struct A {\n  void f() {\n" + inner + "  }\n};\n"),
              ElementsAre(HasSubstr("a.cpp:2:")));
}

TEST(TidyRules, ALongClassOrNamespaceIsNoLongFunction) {
  const std::string members = repeat("  int x = 0;\n", 2 * function_lines_max);
  EXPECT_THAT(check_sizes("a.cpp", "struct A {\n" + members + "};\n"), IsEmpty());
  const std::string functions = repeat("void f() {\n  x();\n}\n", function_lines_max);
  EXPECT_THAT(check_sizes("a.cpp", "namespace {\n" + functions + "}  // namespace\n"), IsEmpty());
}

TEST(TidyRules, IncludesThatPointUpAreFound) {
  EXPECT_THAT(check_layers("transport/a.cpp", "#include \"bridge/b.hpp\"\n"), SizeIs(1));
  EXPECT_THAT(check_layers("bridge/a.cpp", "#include \"host/b.hpp\"\n"), SizeIs(1));
  EXPECT_THAT(check_layers("guest/a.cpp", "#include \"host/b.hpp\"\n"), SizeIs(1));
  EXPECT_THAT(check_layers("host/a.cpp", "#include \"transport/xensim/b.hpp\"\n"), SizeIs(1));
  EXPECT_THAT(check_layers("transport/a.cpp", "#include <libxenvchan.h>\n"), SizeIs(1));
}

TEST(TidyRules, IncludesThatPointDownAreLeftAlone) {
  EXPECT_THAT(check_layers("host/a.cpp", "#include \"bridge/b.hpp\"\n"), IsEmpty());
  EXPECT_THAT(check_layers("transport/xensim/a.cpp", "#include \"transport/xensim/b.hpp\"\n"),
              IsEmpty());
  EXPECT_THAT(check_layers("transport/vchan/vchan_lane.cpp", "#include <libxenvchan.h>\n"),
              IsEmpty());
  EXPECT_THAT(check_layers("tests/conformance/a.cpp", "#include <libxenvchan.h>\n"), IsEmpty());
}

TEST(TidyRules, AsioIsFoundThroughAnotherHeader) {
  const Tree tree{{"bridge/mux/a.hpp", "#include \"transport/b.hpp\"\n"},
                  {"bridge/session/driver.hpp", "#include \"transport/b.hpp\"\n"},
                  {"bridge/wire/c.hpp", "#include <boost/system/result.hpp>\n"},
                  {"transport/b.hpp", "// b\n#include <boost/asio/post.hpp>\n"}};
  EXPECT_THAT(check_pure(tree, "bridge/mux/a.hpp"), ElementsAre(HasSubstr("transport/b.hpp:2")));
  EXPECT_THAT(check_pure(tree, "bridge/session/driver.hpp"), IsEmpty());
  EXPECT_THAT(check_pure(tree, "bridge/wire/c.hpp"), IsEmpty());
}

TEST(TidyRules, NotesToSelfAndMachinesPathsAreFound) {
  EXPECT_THAT(check_words("a.md",
                          "x\nTO"
                          "DO: y\n"),
              ElementsAre(HasSubstr("a.md:2:")));
  EXPECT_THAT(check_words("a.md",
                          "see /ho"
                          "me/me/xenlane\n"),
              SizeIs(1));
  EXPECT_THAT(check_words("a.md",
                          "MASTO"
                          "DON, a frame/wo"
                          "rk/b\n"),
              IsEmpty());
}

TEST(TidyRules, AFileWithoutAnOpeningCommentIsFound) {
  const Tree tree{{"a.hpp", "// What a is for.\n"},
                  {"a.cpp", "#include \"a.hpp\"\n"},
                  {"b.cpp", "#include \"a.hpp\"\n"},
                  {"c.sh", "#!/bin/sh\n# What c is for.\n"},
                  {"d.sh", "#!/bin/sh\nexit\n"}};
  EXPECT_THAT(check_opening(tree, "a.cpp"), IsEmpty());
  EXPECT_THAT(check_opening(tree, "b.cpp"), SizeIs(1));
  EXPECT_THAT(check_opening(tree, "c.sh"), IsEmpty());
  EXPECT_THAT(check_opening(tree, "d.sh"), SizeIs(1));
}

TEST(TidyRules, LinksThatLeadNowhereAreFound) {
  const Tree tree{
      {"docs/a.md", "[b](b.md#part) [up](../README.md) [web](https://xenproject.org) [all](.)"},
      {"docs/b.md", "[gone](gone.md)"},
      {"README.md", "[a](docs/a.md)"},
      {"x.cpp",
       "// see do"
       "cs/gone.md and docs/a.md"}};
  EXPECT_THAT(check_links(tree, "docs/a.md"), IsEmpty());
  EXPECT_THAT(check_links(tree, "README.md"), IsEmpty());
  EXPECT_THAT(check_links(tree, "docs/b.md"), SizeIs(1));
  EXPECT_THAT(check_links(tree, "x.cpp"), SizeIs(1));
}

TEST(TidyRules, TestsThatAreNamedAndNotThereAreFound) {
  const Tree tree{{"docs/a.md",
                   "[`A.B`](../tests/a_test.cpp) [`A.P`](../tests/a_test.cpp) "
                   "[`scenario x`](../tests/xen/suite/x_test.py) [`a.b`](b.md)"},
                  {"docs/b.md", "[`A.C`](../tests/a_test.cpp)\n[`A`](../tests/a_test.cpp)"},
                  {"docs/c.md", "[`scenario y`](../tests/xen/suite/x_test.py)"},
                  {"docs/d.md", "[`scenario x`](../tests/a_test.cpp)"},
                  {"tests/a_test.cpp", "// TEST\nTEST(A, B) {\nTEST_P(A, P) {\nTEST(A, CD) {\n"},
                  {"tests/xen/suite/x_test.py", "def x_scenario(world):\n"},
                  {"tests/xen/suite/scenarios.py", "    \"x\": x_scenario,\n"}};
  EXPECT_THAT(check_named_tests(tree, "docs/a.md"), IsEmpty());
  EXPECT_THAT(check_named_tests(tree, "docs/b.md"), ElementsAre(HasSubstr("docs/b.md:1:")));
  EXPECT_THAT(check_named_tests(tree, "docs/c.md"), SizeIs(1));
  EXPECT_THAT(check_named_tests(tree, "docs/d.md"), SizeIs(1));
}

}  // namespace
}  // namespace xenlane::tidy

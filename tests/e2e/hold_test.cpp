// `xenlane lane GUEST LANE -- COMMAND`: a lane for as long as a command runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::HasSubstr;

constexpr const char* always = "[lanes]\npolicy = \"always\"\n";

class Hold : public testing::Test {
 protected:
  void begin(const char* lanes) {
    world.lanes = lanes;
    write_file(world.host_config_path(), world.host_config());
    write_file(world.guest_config_path("web"), world.guest_config("web"));
    world.start();
  }
  boost::json::object lane() { return world.bridge_status("0", "web").at("lane").as_object(); }
  bool settles_on(const std::string& kind, std::uint64_t holds) {
    return eventually([&] {
      const auto now = lane();
      return now.at("kind").as_string() == kind && now.at("holds") == holds;
    });
  }
  /// In the background, with a command that runs already and ends with it.
  Process hold(const std::string& kind) {
    const std::string running = world.dir() + "/running." + kind;
    Process process(
        {program("xensim"), "exec", "0", "--", program("xenlane"), "lane", "web", kind, "--", "sh",
         "-c",
         "trap 'exit 7' TERM; : >" + running + "; while kill -0 $PPID 2>&-; do sleep 0.1; done"},
        {});
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(running); }));
    return process;
  }

  World world{{"web"}, always};
};

TEST_F(Hold, TheCommandHasTheLaneAndThenItIsAsItWas) {
  begin(always);
  ASSERT_TRUE(settles_on("vchan", 0));
  const Outcome outcome = world.tool(
      "0", {"lane", "web", "console", "--", "sh", "-c", program("xenlane") + " lane web; exit 42"});
  EXPECT_EQ(outcome.code, 42);
  EXPECT_EQ(outcome.out, "console: a command holds it\n");
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(settles_on("vchan", 0));
}

TEST_F(Hold, OfSeveralTheLastDecidesAndWhatWasSetComesBack) {
  begin(always);
  EXPECT_EQ(world.tool("0", {"lane", "web", "console"}).code, 0);
  Process first = hold("vchan");
  ASSERT_TRUE(settles_on("vchan", 1));
  Process second = hold("console");
  ASSERT_TRUE(settles_on("console", 2));
  second.signal(SIGTERM);
  EXPECT_EQ(second.wait(), 7) << "the signal is the command's to answer";
  EXPECT_TRUE(settles_on("vchan", 1));
  first.kill_and_reap();
  EXPECT_TRUE(settles_on("console", 0)) << "what was set by hand";
  EXPECT_EQ(lane().at("why").as_string(), "set by hand");
}

TEST_F(Hold, ALaneThatCannotBeHadIsWaitedForAndThenGivenUp) {
  begin("[lanes]\npolicy = \"never\"\n");
  const Outcome outcome =
      world.tool("0", {"lane", "web", "vchan", "--wait", "1", "--", "echo", "it", "ran"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "xenlane: no vchan lane within 1 s, but console: the other side wants no vchan\n");
  EXPECT_TRUE(settles_on("console", 0));
}

TEST_F(Hold, ADaemonThatEndsMeanwhileIsTold) {
  begin(always);
  const std::string pid = std::to_string(world.worker_pid("web"));
  const Outcome outcome = world.tool(
      "0", {"lane", "web", "vchan", "--", "sh", "-c",
            "kill -KILL " + pid + "; while kill -0 " + pid + " 2>&-; do sleep 0.05; done"});
  EXPECT_EQ(outcome.code, 0) << "the command's";
  EXPECT_THAT(outcome.err, HasSubstr("the lane was not held to the end"));
}

TEST_F(Hold, CommandsThatAreNoneAreToldApart) {
  begin(always);
  EXPECT_EQ(world.tool("0", {"lane", "web", "vchan", "--", "/no/such"}).code, 127);
  EXPECT_EQ(world.tool("0", {"lane", "web", "vchan", "--", "/etc"}).code, 126);
  const Outcome no_lane = world.tool("0", {"lane", "web", "--", "true"});
  EXPECT_EQ(no_lane.code, 2);
  EXPECT_EQ(no_lane.err, "xenlane: which lane is the command to have?\n");
  EXPECT_EQ(world.tool("0", {"connect", "--", "web/org.no.such"}).code, 4) << "a name, no command";
  EXPECT_EQ(world.tool("0", {"lane", "web", "vchan", "--"}).code, 2) << "an empty variable";
  EXPECT_EQ(lane().at("set").as_string(), "auto");
  const std::string kills_itself = "kill -KILL $$";
  EXPECT_EQ(world.tool("0", {"lane", "web", "vchan", "--", "sh", "-c", kills_itself}).code,
            128 + SIGKILL);
  // As programs leave it that have no use for their children's ends.
  EXPECT_EQ(world
                .run_in("0", {"env", "--ignore-signal=CHLD", program("xenlane"), "lane", "web",
                              "vchan", "--", "sh", "-c", "exit 42"})
                .code,
            42);
}

}  // namespace
}  // namespace xenlane::tests

// `xenlane bench` on a simulated Xen: what it measures, and that it leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace json = boost::json;

constexpr const char* bench_channel = "org.xenlane.bench.0";

class Bench : public testing::Test {
 protected:
  void begin() {
    write_file(world.host_config_path(), world.host_config() + channel(bench_channel, "listen"));
    write_file(world.guest_config_path("web"),
               world.guest_config("web") +
                   channel(bench_channel, "dial", "", "target = \"builtin:bench\"\n"));
    world.start();
  }
  json::object lane() { return world.bridge_status("0", "web").at("lane").as_object(); }

  World world{{"web"}, "[lanes]\npolicy = \"on-demand\"\n"};
};

TEST_F(Bench, MeasuresBothLanesAndWhatGoesWithoutThem) {
  begin();
  const std::string file = world.dir() + "/report.json";
  const Outcome outcome = world.tool("0", {"bench", "web", "--sizes", "64,16K", "--time", "0.05",
                                           "--rounds", "2", "--json", file});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "") << "no progress where there is no terminal";
  EXPECT_THAT(outcome.out, HasSubstr("xensim, Linux "));
  EXPECT_THAT(outcome.out, HasSubstr("In bulk a vchan carries "));
  const json::value report = json::parse(read_file(file));
  const json::array& paths = report.at("paths").as_array();
  ASSERT_GE(paths.size(), 3U);
  EXPECT_EQ(paths[0].at("name").as_string(), "vchan");
  EXPECT_EQ(paths[1].at("name").as_string(), "console");
  EXPECT_EQ(paths[2].at("name").as_string(), "direct");
  for (const json::value& path : paths) {
    const json::array& points = path.at("points").as_array();
    ASSERT_EQ(points.size(), 2U);
    for (const json::value& point : points) {
      for (const char* figure : {"to", "from", "both"}) {
        EXPECT_GT(point.at(figure).at("median").to_number<double>(), 0) << figure;
      }
      EXPECT_GT(point.at("round_trip").at("p50_us").at("median").to_number<double>(), 0);
    }
  }
  const json::value& cost = paths[0].at("points").at(1).at("cost");
  EXPECT_GT(cost.at("near_cpu_s_per_gb").to_number<double>(), 0);
  EXPECT_GT(cost.at("far_cpu_s_per_gb").to_number<double>(), 0);
  EXPECT_GT(cost.at("notifications_per_mb").to_number<double>(), 0);
  EXPECT_EQ(lane().at("set").as_string(), "auto");
  EXPECT_EQ(lane().at("holds"), 0);
  // Shown again, and checked.
  const std::string budgets = world.dir() + "/budgets.toml";
  write_file(budgets,
             "[[budget]]\nfigure = \"to\"\nsize = \"16K\"\npath = \"vchan\"\n"
             "over = \"console\"\nat_least = 1\n");
  EXPECT_EQ(world.tool("0", {"bench", "--show", file, "--check", budgets}).code, 0);
  write_file(budgets,
             "[[budget]]\nfigure = \"to\"\nsize = \"16K\"\npath = \"vchan\"\n"
             "over = \"console\"\nat_most = 0.001\n");
  EXPECT_EQ(world.tool("0", {"bench", "--show", file, "--check", budgets}).code, 1);
  EXPECT_THAT(world.tool("0", {"bench", "--show", file, "--calibrate"}).out,
              HasSubstr("volume_bytes = "));
  const std::string plot = world.dir() + "/report.svg";
  const Outcome drawn = world.tool("0", {"bench", "--show", file, "--plot", plot});
  EXPECT_EQ(drawn.code, 0) << drawn.err;
  EXPECT_THAT(read_file(plot), AllOf(HasSubstr("<svg"), HasSubstr(">console<")));
}

TEST_F(Bench, EndedAtAnyTimeItLeavesLanesAndServicesAsTheyWere) {
  begin();
  const std::string guest = std::to_string(world.guest("web").pid());
  const auto services = [&] {
    return !read_file("/proc/" + guest + "/task/" + guest + "/children").empty();
  };
  for (const int signal_number : {SIGINT, SIGTERM, SIGKILL}) {
    SCOPED_TRACE(signal_number);
    Process bench({program("xensim"), "exec", "0", "--", program("xenlane"), "bench", "web",
                   "--sizes", "16..64K"},
                  {});
    ASSERT_TRUE(eventually([&] { return lane().at("holds") == 1 && services(); }));
    bench.signal(signal_number);
    EXPECT_EQ(bench.wait(), 128 + signal_number);
    EXPECT_TRUE(eventually([&] { return lane().at("holds") == 0 && !services(); }));
    EXPECT_EQ(lane().at("set").as_string(), "auto");
    const json::object streams = world.bridge_status("0", "web").at("streams").as_object();
    EXPECT_EQ(streams.at("open"), 0);
  }
}

TEST_F(Bench, MeasuresAnyOtherWayToAService) {
  begin();
  const std::string socket = world.dir() + "/service";
  Process service({program("xenlane"), "bench", "--serve", "unix:" + socket}, {});
  ASSERT_TRUE(eventually([&] { return std::filesystem::is_socket(socket); }));
  const Outcome outcome =
      world.tool("0", {"bench", "web", "--lanes", "vchan", "--sizes", "64", "--time", "0.02",
                       "--rounds", "1", "--no-baselines", "--path", "straight=unix:" + socket,
                       "--path", "nowhere=unix:" + socket + ".no", "--one-at-a-time", "straight"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\nstraight\n"));
  EXPECT_THAT(outcome.out, HasSubstr("No such file or directory; that path was given up"));
  service.signal(SIGINT);
  EXPECT_EQ(service.wait(), 128 + SIGINT);
  EXPECT_FALSE(std::filesystem::exists(socket)) << "it takes its socket with it";
}

TEST_F(Bench, WhatTheFarSideRefusesIsToldAsTheFarSideToldIt) {
  write_file(world.host_config_path(), world.host_config() + channel(bench_channel, "listen"));
  world.start();
  const Outcome outcome =
      world.tool("0", {"bench", "web", "--lanes", "vchan", "--sizes", "64", "--no-baselines"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("vchan: org.xenlane.bench.0: refused: "));
}

TEST(BenchWithoutConsole, ALaneThatCannotBeHadIsANoteOrAFailure) {
  World world({"web"});
  write_file(world.host_config_path(), world.host_config() + channel(bench_channel, "listen"));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") +
                 channel(bench_channel, "dial", "", "target = \"builtin:bench\"\n"));
  world.start();
  const std::vector<std::string> quick{"bench",    "web", "--sizes",       "64", "--time", "0.02",
                                       "--rounds", "1",   "--no-baselines"};
  const Outcome without = world.tool("0", quick);
  EXPECT_EQ(without.code, 0) << without.err;
  EXPECT_THAT(without.out, HasSubstr("console was not measured: no console lane is up"));
  auto wanting = quick;
  wanting.insert(wanting.end(), {"--lanes", "vchan,console"});
  const Outcome wanted = world.tool("0", wanting);
  EXPECT_EQ(wanted.code, 1);
  EXPECT_THAT(wanted.err, HasSubstr("console: no console lane is up"));
}

TEST_F(Bench, WithoutTheChannelItSaysWhatIsMissing) {
  world.start();
  const Outcome outcome = world.tool("0", {"bench", "web"});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("no channel org.xenlane.bench.0 to listen on here"));
}

}  // namespace
}  // namespace xenlane::tests

// `xenlane doctor` on both sides of a simulated Xen: where all is well it has nothing to say, and
// of each thing that is broken it names the thing and the remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* vchan_on_demand = "[lanes]\npolicy = \"on-demand\"\n";
constexpr const char* vchan_always = "[lanes]\npolicy = \"always\"\n";

struct Diagnosis {
  int code = -1;
  std::string side;
  /// "severity id thing: problem -> remedy", all but those that are ok
  std::vector<std::string> complaints;
  std::vector<std::string> ids;  ///< of all
};

Diagnosis diagnosis_of(const Outcome& outcome) {
  Diagnosis diagnosis;
  diagnosis.code = outcome.code;
  boost::system::error_code error;
  const json::value said = json::parse(outcome.out, error);
  EXPECT_FALSE(error) << outcome.out << outcome.err;
  if (error) return diagnosis;
  EXPECT_EQ(said.at("v"), 1);
  diagnosis.side = said.at("side").as_string();
  for (const json::value& finding : said.at("findings").as_array()) {
    const auto text = [&](const char* key) { return json::value_to<std::string>(finding.at(key)); };
    diagnosis.ids.push_back(text("id"));
    if (text("severity") == "ok") continue;
    diagnosis.complaints.push_back(text("severity") + " " + text("id") + " " + text("thing") +
                                   ": " + text("problem") + " -> " + text("remedy"));
  }
  return diagnosis;
}

Diagnosis ask(World& world, const std::string& domain, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments{
      "doctor", "--json", "--config",
      domain == "0" ? world.host_config_path() : world.guest_config_path(domain)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return diagnosis_of(world.tool(domain, arguments));
}

/// A complaint that begins so and has this in it.
auto says(const std::string& begin, const std::string& text) {
  return Contains(AllOf(::testing::StartsWith(begin), HasSubstr(text)));
}

void expect_nothing_to_say(World& world, const std::string& domain, const std::string& side) {
  // The host's end of the console may still be on its way when the session is up.
  EXPECT_TRUE(eventually([&] { return ask(world, domain).code == 0; }));
  const Diagnosis diagnosis = ask(world, domain);
  EXPECT_EQ(diagnosis.side, side);
  EXPECT_THAT(diagnosis.complaints, Not(Contains(::testing::StartsWith("warning"))));
  EXPECT_THAT(diagnosis.complaints, Not(Contains(::testing::StartsWith("error"))));
  EXPECT_GT(diagnosis.ids.size(), 15U);
}

TEST(DoctorVerb, WhereAllIsWellItHasNothingToSayAndLeavesNothing) {
  World world({"web"}, vchan_always);
  world.start();
  ASSERT_TRUE(eventually(
      [&] { return world.bridge_status("web").at("lane").at("kind").as_string() == "vchan"; }));
  const std::string home = "/local/domain/" + std::to_string(world.domid("web"));
  const std::string nodes = world.xenstore("list", home + "/data").out;
  const auto grants = world.domains().at("web").at("grants");
  expect_nothing_to_say(world, "web", "guest");
  expect_nothing_to_say(world, "0", "host");
  EXPECT_EQ(world.xenstore("list", home + "/data").out, nodes);
  EXPECT_EQ(world.domains().at("web").at("grants"), grants);
}

TEST(DoctorVerb, AQuietGuestOnItsConsoleIsWellToo) {
  World world({"web"}, vchan_on_demand);
  world.start();
  expect_nothing_to_say(world, "web", "guest");
  expect_nothing_to_say(world, "0", "host");
}

TEST(DoctorVerb, WithoutDaemonsItSaysWhatToStart) {
  World world({"web"});
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 6);
  EXPECT_THAT(guest.complaints, says("error daemon.answer", "systemctl start xenlane-guest"));
  EXPECT_THAT(guest.complaints, says("warning xenstore.nodes", "does not serve this guest"));
  const Diagnosis host = ask(world, "0");
  EXPECT_EQ(host.side, "host");
  EXPECT_EQ(host.code, 6);
  EXPECT_THAT(host.complaints, says("error daemon.answer", "systemctl start xenlane-host"));
}

TEST(DoctorVerb, SocketsOfADaemonThatWasKilledAreStale) {
  World world({"web"});
  world.start();
  world.guest("web").kill_and_reap();
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 6);
  EXPECT_THAT(guest.complaints, says("warning run.stale", "org."));
  world.start_guest("web");
  ASSERT_TRUE(world.wait_session("web"));
  EXPECT_TRUE(eventually([&] { return ask(world, "web").code == 0; }));
}

TEST(DoctorVerb, AGuestWithoutItsHostHasASessionThatIsDown) {
  World world({"web"});
  world.start_guest("web");
  ASSERT_TRUE(eventually([&] { return fs::exists(world.run_dir("web") + "/control"); }));
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 1);
  EXPECT_THAT(guest.complaints, says("warning session.state", "xenlane-host"));
}

TEST(DoctorVerb, GrantsThatAreTooFewAreCounted) {
  World world({"web"}, vchan_always);
  ASSERT_EQ(world.xensim({"set", "web", "gntalloc-limit", "2"}).code, 0);
  Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 9);
  EXPECT_THAT(guest.complaints, says("error grant.rings", "3 pages"));
  ASSERT_EQ(world.xensim({"set", "web", "gntalloc-limit", "40"}).code, 0);
  guest = ask(world, "web");
  EXPECT_THAT(guest.complaints, says("warning grant.rings", "513 pages"));
  world.start();
  ASSERT_TRUE(eventually(
      [&] { return world.bridge_status("web").at("lane").at("kind").as_string() == "vchan"; }));
  guest = ask(world, "web");
  EXPECT_EQ(guest.code, 1);
  EXPECT_THAT(guest.complaints, says("warning grant.rings", "those in use have 64 KiB"));
}

TEST(DoctorVerb, AConsoleThatIsConfiguredAndNotThereIsMissed) {
  World world({"web"}, vchan_always);
  const std::string path = world.dir() + "/x/channel/{guest}/org.xenlane.lane.0";
  std::string config = world.host_config();
  const auto at = config.find(path);
  ASSERT_NE(at, std::string::npos);
  config.replace(at, path.size(), world.dir() + "/{guest}.sock");
  write_file(world.host_config_path(), config);
  world.start();
  const Diagnosis host = ask(world, "0");
  EXPECT_EQ(host.code, 1);
  EXPECT_THAT(host.complaints, says("warning console.socket " + world.dir() + "/web.sock",
                                    "connection=pty,name=unused"));
  EXPECT_THAT(host.complaints, says("warning console.channel web", "org.xenlane.lane.0"));
}

TEST(DoctorVerb, AnotherProgramOnQemusSocketIsNoticed) {
  World world({"web"}, vchan_always);
  Client other(world.dir() + "/x/channel/web/org.xenlane.lane.0");
  ASSERT_TRUE(other.ok());
  world.start();
  EXPECT_TRUE(eventually([&] {
    const Diagnosis host = ask(world, "0");
    return ::testing::Value(host.complaints, says("warning console.client", "ss -xp"));
  }));
  other.close();
  EXPECT_TRUE(eventually([&] { return ask(world, "0").code == 0; }));
}

TEST(DoctorVerb, AnotherProgramOnTheGuestsDeviceIsNoticed) {
  World world({"web"}, vchan_always);
  world.start();
  const std::string running = world.dir() + "/running";
  Process reader({program("xensim"), "exec", "web", "--", "sh", "-c",
                  "exec 3<>$XENLANE_DEV_DIR/hvc1; : >" + running +
                      "; while kill -0 $PPID 2>&-; do sleep 0.1; done"},
                 {});
  ASSERT_TRUE(eventually([&] { return fs::exists(running); }));
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 1);
  EXPECT_THAT(guest.complaints,
              says("warning console.reader", "(pid " + std::to_string(reader.pid()) + ")"));
  reader.kill_and_reap();
  EXPECT_TRUE(eventually([&] { return ask(world, "web").code == 0; }));
}

TEST(DoctorVerb, PermissionsThatAreTooWideAreErrors) {
  World world({"web"});
  world.start();
  const std::string control = world.run_dir("web") + "/control";
  ASSERT_EQ(::chmod(control.c_str(), 0666), 0);
  Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 3);
  EXPECT_THAT(guest.complaints, says("error run.control", "chmod 0600 " + control));
  ASSERT_EQ(::chmod(control.c_str(), 0600), 0);
  ASSERT_EQ(::chmod(world.guest_config_path("web").c_str(), 0666), 0);
  guest = ask(world, "web");
  EXPECT_EQ(guest.code, 3);
  EXPECT_THAT(guest.complaints,
              says("error config.permissions " + world.guest_config_path("web"), "chmod o-w"));
}

TEST(DoctorVerb, FaultsOfTheConfigurationAreToldWithTheirPlace) {
  World world({"web"});
  write_file(world.guest_config_path("web"),
             "[[channel]]\nname = \"org.test.bad\"\nend = \"listen\"\nmode = \"9\"\n");
  world.start_host();
  world.start_guest("web");
  ASSERT_TRUE(world.wait_session("web"));
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 3);
  EXPECT_THAT(guest.complaints,
              says("error config.fault " + world.guest_config_path("web") + ":4", "mode"));
  EXPECT_THAT(guest.complaints, says("error channel.disabled org.test.bad", "mode"));
}

TEST(DoctorVerb, AConnectionThatWasJustRefusedIsAWarning) {
  World world({"web"});
  world.start();
  world.stop_serving("host", "echo");
  EXPECT_EQ(world.tool("web", {"connect", "org.host.echo"}).code, 5);
  const Diagnosis guest = ask(world, "web");
  EXPECT_EQ(guest.code, 1);
  EXPECT_THAT(guest.complaints, says("warning channel.refused org.host.echo", "refused 1 times"));
}

TEST(DoctorVerb, OnTheHostOneGuestCanBeAskedAbout) {
  World world({"web", "db"});
  world.start();
  world.stop_guest("db");
  EXPECT_TRUE(eventually([&] { return ask(world, "0").code == 1; }));
  const Diagnosis one = ask(world, "0", {"web"});
  EXPECT_EQ(one.code, 0) << ::testing::PrintToString(one.complaints);
  EXPECT_THAT(one.complaints, Not(Contains(HasSubstr("db"))));
  EXPECT_EQ(ask(world, "0", {std::to_string(world.domid("db"))}).code, 1);
  const Outcome unknown = world.tool("0", {"doctor", "wep"});
  EXPECT_EQ(unknown.code, 4);
  EXPECT_THAT(unknown.err, HasSubstr("wep: unknown guest"));
  EXPECT_EQ(world.tool("web", {"doctor", "web"}).code, 4);
  EXPECT_EQ(world.tool("web", {"doctor", "--host", "--guest"}).code, 2);
}

TEST(DoctorVerb, ItsLinesAreForPeopleAndWithoutColoursInAPipe) {
  World world({"web"});
  const Outcome outcome = world.tool("web", {"doctor"});
  EXPECT_EQ(outcome.code, 6);
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nerror    daemon.answer"),
                                 HasSubstr("\n                               -> systemctl start"),
                                 HasSubstr("guest: errors: 1, "), Not(HasSubstr("\033"))));
}

TEST(DoctorVerb, WhatAUserMayNotLookAtIsANoteAndNoGuess) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  World world({"web"});
  const std::string run_dir = world.dir() + "/r";
  fs::create_directory(run_dir);
  ::chmod(run_dir.c_str(), 0755);
  const std::string copy = world.dir() + "/xenlane";
  fs::copy_file(program("xenlane"), copy);
  write_file(world.guest_config_path("web"),
             "[daemon]\nrun_dir = \"" + run_dir + "\"\n" +
                 world.guest_config("web").substr(std::string("[daemon]\n").size()));
  world.start_host();
  world.start_guest("web");
  ASSERT_TRUE(eventually([&] { return fs::exists(run_dir + "/control"); }));
  const std::string store = world.dir() + "/x/dom/" + std::to_string(world.domid("web"));
  const Diagnosis guest = diagnosis_of(
      run_program({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/env",
                   "XENSTORED_PATH=" + store + "/xenstored", copy, "--run-dir", run_dir, "doctor",
                   "--guest", "--json", "--config", world.guest_config_path("web")},
                  world.dir()));
  EXPECT_THAT(guest.complaints, says("note daemon.answer", "may not be asked"));
  EXPECT_THAT(guest.complaints, says("note xenstore.answer", "run xenlane doctor as root"));
  EXPECT_THAT(guest.ids, Not(Contains("session.state")));
  EXPECT_THAT(guest.complaints, Not(Contains(HasSubstr("error daemon"))));
}

}  // namespace
}  // namespace xenlane::tests

// What users type and what they are told: exit codes and one-line messages of the tool and of the
// daemons (docs/cli.md), faults of the configuration, too few grants, and who may reach what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace json = boost::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// A failure is one line that begins with the program's name.
void expect_failure(const Outcome& outcome, int code, const std::string& says) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(::testing::StartsWith("xenlane: "), HasSubstr(says)));
}

TEST(Command, UnknownNamesAreNamedAndHaveTheirCode) {
  World world({"web"});
  world.start();
  expect_failure(world.tool("web", {"connect", "org.host.ecko"}), 4, "org.host.echo");
  expect_failure(world.tool("0", {"connect", "web/org.guest.nothing"}), 4, "unknown channel");
  expect_failure(world.tool("0", {"connect", "wep/org.guest.echo"}), 4, "web");
  expect_failure(world.tool("0", {"ls", "wep"}), 4, "unknown guest");
  expect_failure(world.tool("0", {"status", "wep"}), 4, "unknown guest");
  expect_failure(world.tool("web", {"connect", "org.guest.echo"}), 4, "no socket on this side");
}

TEST(Command, InvalidNamesAreWrongUsage) {
  World world({"web"});
  world.start();
  const std::string too_long = "a." + std::string(62, 'b');
  for (const std::string name : {"web/a/b", "a,b.c", "a.b\n", "-a.b", "web/.."}) {
    EXPECT_EQ(world.tool("0", {"connect", "--", name}).code, 2) << name;
  }
  expect_failure(world.tool("0", {"connect", "web/" + too_long}), 2, "64");
  expect_failure(world.tool("web", {"connect", "a,b.c"}), 2, "invalid channel name");
  expect_failure(world.tool("web", {"connect", "nodot"}), 2, "reserved");
  expect_failure(world.tool("web", {"connect", "a/b"}), 2, "b");
  expect_failure(world.tool("0", {"connect", "org.guest.echo"}), 2, "web");
  EXPECT_EQ(world.tool("web", {"dance"}).code, 2);
}

TEST(Command, AMissingTargetIsSaidAtOnce) {
  World world({"web"});
  world.start();
  world.stop_serving("host", "echo");
  expect_failure(world.tool("web", {"connect", "org.host.echo"}, "hello"), 5, "ENOENT");
  write_file(world.service_path("host", "echo"), "no socket");
  expect_failure(world.tool("web", {"connect", "org.host.echo"}, "hello"), 5, "ECONNREFUSED");
  Client client(world.guest_socket("web", "org.host.echo"));
  EXPECT_EQ(client.receive_to_end(end_within), "");
  EXPECT_NE(client.ending(), Ending::open);
  world.stop_serving("web", "echo");
  expect_failure(world.tool("0", {"connect", "web/org.guest.echo"}), 5, "ENOENT");
}

TEST(Command, WithoutADaemonItSaysWhatToStart) {
  World world({"web"});
  expect_failure(world.tool("web", {"ls"}), 6, "xenlane-guest");
  expect_failure(world.tool("0", {"status"}), 6, "xenlane-host");
  expect_failure(world.tool("0", {"connect", "web/org.guest.echo"}), 6, "start");
}

TEST(Command, OnlyTheSocketsOwnerMayConnect) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  World world({"web"});
  const std::string run_dir = world.dir() + "/r";
  std::filesystem::create_directory(run_dir);
  ::chmod(run_dir.c_str(), 0755);
  const std::string copy = world.dir() + "/xenlane";
  std::filesystem::copy_file(program("xenlane"), copy);
  write_file(world.guest_config_path("web"),
             "[daemon]\nrun_dir = \"" + run_dir + "\"\n" + channel("org.host.digest", "listen") +
                 channel("org.host.echo", "listen", "", "mode = \"0666\"\n"));
  world.start_host();
  world.start_guest("web");
  ASSERT_TRUE(eventually([&] { return Client(run_dir + "/org.host.echo").ok(); }));
  ASSERT_TRUE(world.echo_works(run_dir + "/org.host.echo"));
  const auto as_nobody = [&](std::vector<std::string> arguments) {
    std::vector<std::string> command{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     copy,      "--run-dir",     run_dir};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_program(command, world.dir(), "hello");
  };
  expect_failure(as_nobody({"connect", "org.host.digest"}), 7, "org.host.digest");
  expect_failure(as_nobody({"status"}), 7, "control");
  const Outcome allowed = as_nobody({"connect", "org.host.echo"});
  EXPECT_EQ(allowed.code, 0) << allowed.err;
  EXPECT_EQ(allowed.out, "hello");
}

TEST(Command, DaemonsWithoutXenSaySo) {
  if (::access("/run/xenstored/socket", F_OK) == 0) GTEST_SKIP() << "this is a Xen domain";
  World world({"web"});
  for (const std::string daemon : {"xenlane-guest", "xenlane-host"}) {
    const std::string config =
        daemon == "xenlane-host" ? world.host_config_path() : world.guest_config_path("web");
    const Outcome outcome =
        run_program({"/usr/bin/env", "-i", "PATH=/usr/bin:/bin", program(daemon), "--run-dir",
                     world.dir() + "/r", "--config", config},
                    world.dir());
    EXPECT_EQ(outcome.code, 8) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(daemon), HasSubstr("no Xen domain")));
  }
}

TEST(Command, TooFewGrantsForAnyRingIsAStartFailure) {
  World world({"web"});
  ASSERT_EQ(world.xensim({"set", "web", "gntalloc-limit", "2"}).code, 0);
  const Outcome outcome =
      world.run_in("web", {program("xenlane-guest"), "--config", world.guest_config_path("web")});
  EXPECT_EQ(outcome.code, 9);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("pages"), HasSubstr("/sys/module/xen_gntalloc/parameters/limit")));
}

TEST(Command, FewGrantsMakeSmallRings) {
  World world({"web"});
  ASSERT_EQ(world.xensim({"set", "web", "gntalloc-limit", "40"}).code, 0);
  world.start();
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo")));
  const auto status = world.bridge_status("web");
  EXPECT_EQ(status.at("lane").at("send_ring_bytes"), 64 * 1024);
  EXPECT_EQ(status.at("lane").at("receive_ring_bytes"), 64 * 1024);
  std::vector<Client> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(world.guest_socket("web", "org.host.echo"));
  EXPECT_TRUE(exchange_with_echo(clients, 4 * 1024 * 1024));
}

TEST(Command, CheckReportsEveryFaultWithItsPlace) {
  World world({"web"});
  const std::string path = world.dir() + "/bad.toml";
  write_file(path,
             "[daemon]\n"              // 1
             "log_level = \"loud\"\n"  // 2
             "[limits]\n"
             "streams_max = 0\n"  // 4
             "colour = 1\n"       // 5
             "[[channel]]\n"
             "name = \"a/b.c\"\n"  // 7
             "end = \"listen\"\n"
             "[[channel]]\n"
             "name = \"org.test.ok\"\n"
             "end = \"sideways\"\n");  // 11
  for (const std::string daemon : {"xenlane-guest", "xenlane-host"}) {
    const Outcome outcome =
        run_program({program(daemon), "--check", "--config", path}, world.dir());
    EXPECT_EQ(outcome.code, 3) << outcome.out << outcome.err;
    for (const char* line : {":2:", ":4:", ":5:", ":7:", ":11:"}) {
      EXPECT_THAT(outcome.out, HasSubstr(path + line)) << daemon;
    }
  }
  const Outcome start = world.run_in("web", {program("xenlane-guest"), "--config", path});
  EXPECT_EQ(start.code, 3) << start.err;
  const Outcome right =
      run_program({program("xenlane-guest"), "--check", "--config", world.guest_config_path("web")},
                  world.dir());
  EXPECT_EQ(right.code, 0) << right.out;
}

TEST(Command, AMisconfiguredChannelDisablesOnlyItself) {
  World world({"web"});
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel("org.test.bad", "listen", "", "mode = \"9\"\n"));
  world.start();
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo")));
  expect_failure(world.tool("web", {"connect", "org.test.bad"}), 3, "mode");
  EXPECT_FALSE(std::filesystem::exists(world.guest_socket("web", "org.test.bad")));
}

TEST(Command, AChannelForAnotherGuestDoesNotExistForThisOne) {
  World world({"web", "db"});
  write_file(world.host_config_path(),
             world.host_config() + channel("org.only.db", "dial",
                                           world.service_path("host", "echo"), "guest = \"db\"\n"));
  for (const std::string guest : {"web", "db"}) {
    write_file(world.guest_config_path(guest),
               world.guest_config(guest) + channel("org.only.db", "listen"));
  }
  world.start();
  EXPECT_TRUE(world.echo_works(world.guest_socket("db", "org.only.db")));
  Client client(world.guest_socket("web", "org.only.db"));
  EXPECT_EQ(client.receive_to_end(end_within), "");
  EXPECT_NE(client.ending(), Ending::open);
  expect_failure(world.tool("web", {"connect", "org.only.db"}, "let me in"), 5, "ENOENT");
  EXPECT_EQ(world.service("host", "echo").open_count(), 0);
}

/// The members of `object` that are not there, of those that docs/control.md promises.
std::vector<std::string> missing(const json::value& object, std::vector<std::string> keys) {
  std::erase_if(keys, [&](const std::string& key) { return object.as_object().contains(key); });
  return keys;
}

TEST(Command, JsonHasTheDocumentedMembers) {
  using ::testing::IsEmpty;
  World world({"web"});
  world.start();
  const std::vector<std::string> channel_keys{"name",    "end",          "socket",   "target",
                                              "state",   "error",        "open",     "opened",
                                              "refused", "last_refusal", "bytes_in", "bytes_out"};
  for (const std::string domain : {"0", "web"}) {
    const json::value listed = world.tool_json(domain, {"ls", "--json"});
    ASSERT_TRUE(listed.is_object()) << domain;
    EXPECT_EQ(listed.at("v"), 1);
    EXPECT_TRUE(listed.at("unreachable").as_array().empty());
    ASSERT_EQ(listed.at("channels").as_array().size(), 7U);
    for (const auto& one : listed.at("channels").as_array()) {
      EXPECT_THAT(missing(one, channel_keys), IsEmpty());
      EXPECT_TRUE(one.as_object().contains("guest"));
    }
    const json::value status = world.tool_json(domain, {"status", "--json"});
    ASSERT_TRUE(status.is_object()) << domain;
    EXPECT_EQ(status.at("v"), 1);
    EXPECT_EQ(status.at("broker").is_null(), domain != "0");
    ASSERT_EQ(status.at("bridges").as_array().size(), 1U);
    const json::value& bridge = status.at("bridges").as_array().front();
    EXPECT_THAT(missing(bridge, {"role", "pid", "version", "uptime_s", "guest", "domid", "session",
                                 "lane", "polling", "channels", "streams", "counters"}),
                IsEmpty());
    EXPECT_EQ(bridge.at("role").as_string(), domain == "0" ? "worker" : "guest");
    EXPECT_EQ(bridge.at("domid"), world.domid("web"));
    EXPECT_THAT(missing(bridge.at("session"), {"state", "id", "epoch", "since_s", "reason"}),
                IsEmpty());
    EXPECT_EQ(bridge.at("lane").at("kind").as_string(), "vchan");
    EXPECT_THAT(missing(bridge.at("polling"), {"max_us", "now_us", "paid", "missed", "slept"}),
                IsEmpty());
    EXPECT_THAT(missing(bridge.at("streams"), {"open", "max"}), IsEmpty());
    // The domain's name is the host's to know; the guest's own status must have it as documented.
    EXPECT_EQ(bridge.at("guest").as_string(), "web") << "status in domain " << domain;
  }
  const json::value broker = world.tool_json("0", {"status", "--json"}).at("broker");
  EXPECT_THAT(missing(broker, {"role", "pid", "version", "uptime_s", "guests"}), IsEmpty());
  EXPECT_THAT(
      missing(broker.at("guests").as_array().front(),
              {"name", "domid", "state", "worker_pid", "worker_restarts", "run_dir", "control"}),
      IsEmpty());
}

TEST(Command, NothingOfTheSimulatorIsInWhatShips) {
  const std::string mangled = "6xensim";  // namespace xensim in a symbol's name
  EXPECT_NE(read_file(program("xensim")).find(mangled), std::string::npos) << "built with symbols";
  for (const char* shipped : {"xenlane", "xenlane-host", "xenlane-guest"}) {
    const std::string content = read_file(program(shipped));
    EXPECT_FALSE(content.empty());
    EXPECT_EQ(content.find(mangled), std::string::npos) << shipped;
    EXPECT_EQ(content.find("lib/xensim"), std::string::npos) << shipped << " looks for drop-ins";
  }
}

}  // namespace
}  // namespace xenlane::tests

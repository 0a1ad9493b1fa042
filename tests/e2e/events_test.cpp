// What listeners are told, by the tool and on the socket itself; and who is turned away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::HasSubstr;

/// `xenlane watch --json` in a domain, and what it has said so far.
class Watcher {
 public:
  Watcher(World& world, const std::string& domain, std::vector<std::string> arguments = {})
      : path_(world.dir() + "/watch." + domain) {
    std::vector<std::string> command{program("xensim"),  "exec",  domain,   "--",
                                     program("xenlane"), "watch", "--json", "--now"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    process_ = Process(command, {"/dev/null", path_, path_ + ".err"});
  }

  std::vector<json::object> events() const {
    std::vector<json::object> found;
    std::istringstream lines(read_file(path_));
    for (std::string line; std::getline(lines, line) && !lines.eof();) {
      found.push_back(json::parse(line).as_object());
    }
    return found;
  }
  /// Events with all these values, a "KEY=VALUE" each.
  long count(const std::vector<std::string>& wanted) const {
    const auto all = events();
    return std::count_if(all.begin(), all.end(), [&](const json::object& event) {
      return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& pair) {
        const std::size_t equals = pair.find('=');
        const auto* value = event.if_contains(pair.substr(0, equals));
        return value != nullptr && value->is_string() &&
               value->as_string() == pair.substr(equals + 1);
      });
    });
  }
  bool sees(const std::vector<std::string>& wanted) const {
    return eventually([&] { return count(wanted) > 0; });
  }
  Process& process() { return process_; }

 private:
  std::string path_;
  Process process_;
};

TEST(Events, HostHearsOfGuestsSessionsChannelsAndConnections) {
  World world({"web"});
  world.start_host();
  ASSERT_TRUE(eventually([&] { return fs::exists(world.run_dir("Domain-0") + "/web/events"); }));
  Watcher watcher(world, "0");
  EXPECT_TRUE(watcher.sees({"event=guest", "guest=web"}));
  EXPECT_TRUE(watcher.sees({"event=session", "guest=web", "state=down"}));
  world.start_guest("web");
  EXPECT_TRUE(watcher.sees({"event=session", "guest=web", "state=up"}));
  EXPECT_TRUE(watcher.sees({"event=lane", "guest=web", "kind=vchan"}));
  ASSERT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo")));
  EXPECT_TRUE(watcher.sees({"event=connected", "channel=org.guest.echo"}));
  EXPECT_TRUE(watcher.sees({"event=disconnected", "channel=org.guest.echo"}));

  EXPECT_EQ(world.xensim({"create", "later"}).code, 0);
  EXPECT_TRUE(watcher.sees({"event=guest-up", "guest=later"}));
  EXPECT_TRUE(watcher.sees({"event=session", "guest=later", "state=down"}));
  EXPECT_EQ(world.xensim({"destroy", "later"}).code, 0);
  EXPECT_TRUE(watcher.sees({"event=guest-down", "guest=later"}));
  world.stop_host();
  EXPECT_EQ(watcher.process().wait(), 6) << "nobody is there to be listened to";
}

TEST(Events, GuestLearnsOfTheHostsChannelsAndOfItsEnds) {
  World world({"web"});
  world.start();
  Watcher watcher(world, "web");
  ASSERT_TRUE(watcher.sees({"event=session", "state=up"}));
  ASSERT_EQ(world.tool("0", {"channel", "add", "web", "org.new.one", "--listen"}).code, 0);
  EXPECT_TRUE(watcher.sees({"event=peer-channel", "channel=org.new.one", "end=listen"}));
  ASSERT_EQ(world.tool("0", {"channel", "remove", "web", "org.new.one"}).code, 0);
  EXPECT_TRUE(watcher.sees({"event=peer-channel", "channel=org.new.one", "end=none"}));
  {
    Client host(world.host_socket("web", "org.port.one"));
    EXPECT_TRUE(watcher.sees({"event=peer-channel", "channel=org.port.one", "end=port", "open=1"}));
  }
  EXPECT_TRUE(eventually([&] {
    const auto all = watcher.events();
    return std::any_of(all.rbegin(), all.rend(), [](const json::object& event) {
      const auto* open = event.if_contains("open");
      return event.at("event") == "peer-channel" && event.at("channel") == "org.port.one" &&
             open != nullptr && *open == "0";
    });
  })) << "and of its leaving";
}

TEST(Events, ReaderOfTheBareSocketNeedsNoMoreThanAShell) {
  World world({"web"});
  world.start();
  const std::string script = "socat -T1 -u UNIX-CONNECT:" + world.run_dir("web") +
                             "/events - | while read -r event details; do"
                             " echo \"$event: $details\"; [ \"$event\" = ready ] && exit 0; done";
  const Outcome outcome = run_program({"sh", "-c", script}, world.dir());
  EXPECT_THAT(outcome.out, HasSubstr("xenlane: events=1 role=guest\n"));
  EXPECT_THAT(outcome.out, HasSubstr("session: state=up\n"));
  EXPECT_THAT(outcome.out,
              HasSubstr("channel: channel=org.port.one end=port state=ready open=0\n"));
  EXPECT_THAT(outcome.out, HasSubstr("ready: \n"));
}

TEST(Events, UserOnTheListIsServedAndAnotherIsOneEventAndOneLine) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  World world({"web"});
  const std::string run_dir = world.dir() + "/r";
  fs::create_directory(run_dir);
  ::chmod(run_dir.c_str(), 0755);
  write_file(world.guest_config_path("web"),
             "[daemon]\nrun_dir = \"" + run_dir + "\"\n" +
                 channel("org.host.echo", "listen", "", "users = [65534]\n") +
                 channel("org.host.digest", "listen", "", "users = [1234]\n"));
  world.start_host();
  world.start_guest("web");
  ASSERT_TRUE(world.echo_works(run_dir + "/org.host.echo"));
  Process watch({program("xensim"), "exec", "web", "--", program("xenlane"), "--run-dir", run_dir,
                 "watch", "--now"},
                {"/dev/null", world.dir() + "/watched", "/dev/null"});
  ASSERT_TRUE(eventually(
      [&] { return read_file(world.dir() + "/watched").find("session") != std::string::npos; }));
  const auto as_nobody = [&](const std::string& name) {
    return run_program({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "socat", "-",
                        "UNIX-CONNECT:" + run_dir + "/" + name},
                       world.dir(), "hello");
  };
  EXPECT_EQ(as_nobody("org.host.echo").out, "hello");
  EXPECT_EQ(as_nobody("org.host.digest").out, "") << "not one of its users";
  const std::string watched = world.dir() + "/watched";
  EXPECT_TRUE(eventually([&] {
    return read_file(watched).find("refused channel=org.host.digest") != std::string::npos;
  }));
  const std::string told = read_file(watched);
  EXPECT_EQ(told.find("refused"), told.rfind("refused")) << told;
  const std::string log = world.log("web");
  const std::size_t line = log.find("org.host.digest: refused: user 65534 is not among those at ");
  EXPECT_NE(line, std::string::npos) << log;
  EXPECT_EQ(log.find("refused: user", line + 40), std::string::npos) << "one line";
}

TEST(Events, GuestThatAsksForWhatItMayNotHaveIsOneEventAndOneLine) {
  World world({"web"});
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel("org.forbidden.one", "listen"));
  write_file(world.host_config_path(),
             channel("org.forbidden.*", "deny") +
                 channel("org.forbidden.one", "dial", world.service_path("host", "echo")) +
                 world.host_config());
  world.start();
  Watcher watcher(world, "0");
  ASSERT_TRUE(watcher.sees({"event=session", "guest=web"}));
  const Outcome outcome = world.tool("web", {"connect", "org.forbidden.one"}, "x");
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_TRUE(watcher.sees({"event=refused", "channel=org.forbidden.one", "by=web"}));
  EXPECT_EQ(watcher.count({"event=refused"}), 1);
  const std::string log = world.log("host");
  const std::size_t line = log.find("web: refused org.forbidden.one: ");
  EXPECT_NE(line, std::string::npos) << log;
  EXPECT_EQ(log.find("refused org.forbidden.one", line + 20), std::string::npos) << "one line";
}

}  // namespace
}  // namespace xenlane::tests

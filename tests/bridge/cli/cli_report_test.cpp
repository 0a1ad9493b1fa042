// xenlane ls and status, and how the tool reports mistakes, end to end with the built program.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/cli/fake_daemon.hpp"
#include "tests/bridge/cli/tool.hpp"

namespace xenlane::bridge {
namespace {

namespace json = boost::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

/// A guest with three channels, one of them disabled.
class GuestTool : public testing::Test {
 protected:
  GuestTool() {
    json::object dial = channel_entry("org.example.in", "");
    dial["end"] = "dial";
    dial["socket"] = nullptr;
    dial["target"] = "unix:/run/in";
    dial["open"] = 3;
    dial["opened"] = 12345;
    json::object bad = channel_entry("org.example.bad", "/run/bad");
    bad["state"] = "disabled";
    bad["error"] = "target missing\n\033[31m";
    const json::array channels = {channel_entry("org.example.echo", dir_ / "org.example.echo"),
                                  dial, bad};
    control_ =
        std::make_unique<FakeControl>(dir_ / "control", bridge_status("guest", "web", channels));
  }

  TempDir dir_;
  std::unique_ptr<FakeControl> control_;
};

/// A host with guest web served and guest db waiting.
class HostTool : public testing::Test {
 protected:
  HostTool() {
    std::filesystem::create_directory(dir_ / "web");
    const auto entry = [this](const std::string& guest, int domid, const char* state) {
      return json::object{{"name", guest},
                          {"domid", domid},
                          {"state", state},
                          {"worker_pid", 77},
                          {"worker_restarts", 0},
                          {"run_dir", dir_ / guest},
                          {"control", dir_ / (guest + "/control")}};
    };
    broker_ = std::make_unique<FakeControl>(
        dir_ / "control",
        json::object{{"role", "broker"},
                     {"pid", 41},
                     {"version", "0.1.0"},
                     {"uptime_s", 5},
                     {"guests", {entry("web", 1, "serving"), entry("db", 2, "waiting")}}});
    const json::array channels = {channel_entry("org.example.echo", dir_ / "web/org.example.echo")};
    worker_ = std::make_unique<FakeControl>(dir_ / "web/control",
                                            bridge_status("worker", "web", channels));
  }

  TempDir dir_;
  std::unique_ptr<FakeControl> broker_;
  std::unique_ptr<FakeControl> worker_;
};

TEST_F(GuestTool, LsPrintsAnAlignedTableWithoutColoursIntoAFile) {
  const ToolResult got = run_tool(dir_.path(), {"ls"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out,
            "NAME              END     STATE     OPEN  OPENED  SOCKET OR TARGET\n"
            "org.example.echo  listen  ready        0       0  " +
                (dir_ / "org.example.echo") +
                "\n"
                "org.example.in    dial    ready        3   12345  unix:/run/in\n"
                "org.example.bad   listen  disabled     0       0  /run/bad\n");
}

TEST_F(GuestTool, LsJsonIsOneObject) {
  const ToolResult got = run_tool(dir_.path(), {"ls", "--json"});
  const json::value parsed = json::parse(got.out);
  EXPECT_EQ(parsed.at("channels").as_array().size(), 3U);
  EXPECT_EQ(parsed.at("channels").at(1).at("guest"), "web");
  EXPECT_EQ(parsed.at("channels").at(1).at("target"), "unix:/run/in");
}

TEST_F(GuestTool, LsAndStatusOfAnotherGuestAreUnknown) {
  for (const char* verb : {"ls", "status"}) {
    const ToolResult got = run_tool(dir_.path(), {verb, "db"});
    EXPECT_EQ(got.exit_code, exit_unknown);
    EXPECT_EQ(got.err,
              "xenlane: db: unknown guest; this is guest 'web' itself, leave the guest out\n");
  }
  EXPECT_EQ(run_tool(dir_.path(), {"ls", "web"}).exit_code, exit_ok);
}

TEST_F(GuestTool, StatusShowsSessionLaneStreamsAndFaultsEscaped) {
  control_->change([](json::object& status) {
    json::object& channel = status["channels"].as_array()[0].as_object();
    channel["refused"] = 2;
    channel["last_refusal"] = {{"errno", "ECONNREFUSED"}, {"message", "nobody listens"}};
  });
  const ToolResult got = run_tool(dir_.path(), {"status"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_THAT(got.out, HasSubstr("guest web (domain 1): guest 0.1.0, pid 42, up 1 h 1 min\n"));
  EXPECT_THAT(got.out, HasSubstr("  session   up since 59 s, id 00ff, epoch 3\n"));
  EXPECT_THAT(got.out,
              HasSubstr("  lane      vchan, rings of 1024 KiB to send and 256 KiB to receive\n"));
  EXPECT_THAT(got.out, HasSubstr("  streams   2 open of 1024\n"));
  EXPECT_THAT(got.out, HasSubstr("org.example.bad: disabled: target missing\\x0a\\x1b[31m\n"));
  EXPECT_THAT(got.out, HasSubstr("org.example.echo: refused 2, the last: nobody listens\n"));
  EXPECT_THAT(got.out, HasSubstr("frames_sent 17\n"));
}

TEST_F(GuestTool, StatusWithoutASessionSaysWhy) {
  control_->change([](json::object& status) {
    status["uptime_s"] = 3 * 86400 + 7200;
    status["session"] = {{"state", "down"}, {"since_s", 90}, {"reason", "waiting\nfor the host"}};
    status["lane"] = {{"kind", "none"}};
    status["polling"] = nullptr;
    status["counters"] = json::object{};
  });
  const ToolResult got = run_tool(dir_.path(), {"status"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_THAT(got.out, HasSubstr(", up 3 d 2 h\n"));
  EXPECT_THAT(got.out, HasSubstr("  session   down since 1 min 30 s: waiting\\x0afor the host\n"));
  EXPECT_THAT(got.out, HasSubstr("  lane      none\n"));
  EXPECT_THAT(got.out, Not(HasSubstr("polling")));
  EXPECT_THAT(got.out, Not(HasSubstr("counters")));
}

TEST_F(GuestTool, StatusTellsWhetherLookingForWorkPaid) {
  const auto polling = [this](const json::value& told) {
    control_->change([&](json::object& status) { status["polling"] = told; });
    return run_tool(dir_.path(), {"status"}).out;
  };
  EXPECT_THAT(polling({{"max_us", 50}, {"now_us", 20}, {"paid", 7}, {"missed", 3}}),
              HasSubstr("  polling   20 of at most 50 us before a sleep; paid 7 times of 10\n"));
  EXPECT_THAT(polling({{"max_us", 0}, {"now_us", 0}, {"paid", 0}, {"missed", 0}}),
              HasSubstr("  polling   never, sleeps at once\n"));
}

/// What the tool's `arguments` put on a terminal.
std::string shown_on_terminal(const std::string& run_dir,
                              const std::vector<std::string>& arguments) {
  const transport::UniqueFd screen(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  EXPECT_EQ(::grantpt(screen.get()), 0);
  EXPECT_EQ(::unlockpt(screen.get()), 0);
  const transport::UniqueFd terminal(
      ::open(::ptsname(screen.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
  const ToolResult got = run_tool(run_dir, arguments, {}, {.out = terminal.get()});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  std::string shown(4096, '\0');
  const ssize_t bytes = ::read(screen.get(), shown.data(), shown.size());
  shown.resize(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  return shown;
}

TEST_F(GuestTool, TableOnATerminalHasColoursUnlessTheyAreRefused) {
  ::unsetenv("NO_COLOR");
  const std::string coloured = shown_on_terminal(dir_.path(), {"ls"});
  EXPECT_THAT(coloured, HasSubstr("\033[32mready   \033[0m"));
  EXPECT_THAT(coloured, HasSubstr("\033[31mdisabled\033[0m"));
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_THAT(shown_on_terminal(dir_.path(), {"ls"}), Not(HasSubstr("\033")));
  ::unsetenv("NO_COLOR");
}

TEST_F(GuestTool, NonsenseFromADaemonIsNoCrash) {
  control_->set({{"role", "guest"}, {"channels", {1, "x", json::object{{"name", 7}}}}});
  EXPECT_EQ(run_tool(dir_.path(), {"ls"}).exit_code, exit_ok);
  EXPECT_EQ(run_tool(dir_.path(), {"status"}).exit_code, exit_ok);
  control_->set({{"role", "king"}});
  const ToolResult got = run_tool(dir_.path(), {"ls"});
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_THAT(got.err, HasSubstr("unknown role 'king'"));
}

TEST_F(GuestTool, OutputThatCannotBeWrittenIsAnError) {
  const transport::UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const ToolResult got = run_tool(dir_.path(), {"ls"}, {}, {.out = full.get()});
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_EQ(got.err, "xenlane: stdout: No space left on device\n");
}

TEST_F(HostTool, LsShowsEveryGuestAndThoseThatAreNotServed) {
  const ToolResult got = run_tool(dir_.path(), {"ls"});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out,
            "GUEST  NAME              END     STATE    OPEN  OPENED  SOCKET OR TARGET\n"
            "web    org.example.echo  listen  ready       0       0  " +
                (dir_ / "web/org.example.echo") +
                "\n"
                "db     -                 -       waiting     -       -  -\n");
}

TEST_F(HostTool, LsTakesAGuestByNameOrDomainId) {
  for (const char* guest : {"web", "1"}) {
    const ToolResult got = run_tool(dir_.path(), {"ls", guest, "--json"});
    EXPECT_EQ(json::parse(got.out).at("channels").at(0).at("guest"), "web");
  }
  const ToolResult waiting = run_tool(dir_.path(), {"ls", "db"});
  EXPECT_EQ(waiting.exit_code, exit_no_daemon);
  EXPECT_THAT(waiting.err, StartsWith("xenlane: db: no bridge serves this guest now"));
  const ToolResult unknown = run_tool(dir_.path(), {"ls", "mail"});
  EXPECT_EQ(unknown.exit_code, exit_unknown);
  EXPECT_EQ(unknown.err, "xenlane: mail: unknown guest; known guests are web, db\n");
}

TEST_F(HostTool, LsJsonNamesThoseThatCannotBeAsked) {
  const json::value parsed = json::parse(run_tool(dir_.path(), {"ls", "--json"}).out);
  EXPECT_EQ(parsed.at("channels").as_array().size(), 1U);
  ASSERT_EQ(parsed.at("unreachable").as_array().size(), 1U);
  EXPECT_EQ(parsed.at("unreachable").at(0).at("guest"), "db");
  EXPECT_EQ(parsed.at("unreachable").at(0).at("state"), "waiting");
}

TEST_F(HostTool, StatusOfOneGuestIsItsBridgesAlone) {
  const ToolResult web = run_tool(dir_.path(), {"status", "web"});
  EXPECT_THAT(web.out, StartsWith("guest web (domain 1): worker"));
  const ToolResult waiting = run_tool(dir_.path(), {"status", "db"});
  EXPECT_EQ(waiting.exit_code, exit_no_daemon);
  EXPECT_EQ(waiting.err,
            "xenlane: db: no bridge serves this guest now (it is waiting); see 'xenlane status'\n");
}

TEST_F(HostTool, WorkerThatTalksNonsenseIsNamedByItsSocket) {
  worker_.reset();
  const FakeSocket worker(dir_ / "web/control", [](int fd) {
    char request = 0;
    while (::read(fd, &request, 1) == 1 && request != '\n') {
    }
    write_all(fd, "gibberish\n");
  });
  const ToolResult got = run_tool(dir_.path(), {"status", "web"});
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_EQ(got.err, "xenlane: " + (dir_ / "web/control") +
                         ": the reply is not a JSON object; look at the daemon's log\n");
}

TEST_F(HostTool, WithoutAnyGuestNoneIsKnown) {
  broker_->change([](json::object& status) { status["guests"] = json::array{}; });
  const ToolResult got = run_tool(dir_.path(), {"status", "web"});
  EXPECT_EQ(got.exit_code, exit_unknown);
  EXPECT_EQ(got.err, "xenlane: web: unknown guest; no guest is known now\n");
}

TEST_F(HostTool, StatusShowsTheBrokerAndItsBridges) {
  const ToolResult got = run_tool(dir_.path(), {"status"});
  EXPECT_THAT(got.out, AllOf(StartsWith("broker 0.1.0, pid 41, up 5 s, guests: 2\n"),
                             HasSubstr("guest web (domain 1): worker"),
                             HasSubstr("guest db (domain 2): waiting, no bridge answers\n")));
  const json::value parsed = json::parse(run_tool(dir_.path(), {"status", "--json"}).out);
  EXPECT_EQ(parsed.at("broker").at("guests").as_array().size(), 2U);
  EXPECT_EQ(parsed.at("bridges").as_array().size(), 1U);
}

TEST(Tool, HelpAndVersionGoToStdout) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--help"},
                                                    {"ls", "--help"},
                                                    {"status", "--help"},
                                                    {"connect", "--help"}}) {
    const ToolResult got = run_tool("/nowhere", arguments);
    EXPECT_EQ(got.exit_code, exit_ok);
    EXPECT_THAT(got.out, HasSubstr("Examples:"));
  }
  EXPECT_THAT(run_tool("/nowhere", {"--version"}).out, MatchesRegex("xenlane [0-9.]+\n"));
}

TEST(Tool, WrongUsageIsOneLineAndExitCodeTwo) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{}, {"lss"}, {"ls", "--jsn"}, {"connect"}, {"ls", "a", "b"}}) {
    const ToolResult got = run_tool("/nowhere", arguments);
    EXPECT_EQ(got.exit_code, exit_usage);
    EXPECT_THAT(got.err, MatchesRegex("xenlane: [^\n]+; see 'xenlane --help'\n"));
    EXPECT_EQ(got.out, "");
  }
}

TEST(Tool, WithoutADaemonEveryVerbSaysSo) {
  const TempDir dir;
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"ls"},
                                                    {"status"},
                                                    {"connect", "org.example.x"},
                                                    {"connect", "web/org.example.x"}}) {
    const ToolResult got = run_tool(dir.path(), arguments);
    EXPECT_EQ(got.exit_code, exit_no_daemon) << got.err;
    EXPECT_EQ(got.err, "xenlane: " + (dir / "control") +
                           ": no xenlane daemon answers there (No such file or directory); start "
                           "xenlane-guest or xenlane-host, or give its --run-dir\n");
  }
}

TEST(Tool, StaleControlSocketIsNoDaemon) {
  const TempDir dir;
  { const FakeControl gone(dir / "control", {}); }
  const ToolResult got = run_tool(dir.path(), {"ls"});
  EXPECT_EQ(got.exit_code, exit_no_daemon);
  EXPECT_THAT(got.err, HasSubstr("Connection refused"));
}

}  // namespace
}  // namespace xenlane::bridge

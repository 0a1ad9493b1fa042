// The lives of forwards: they outlast both daemons, are found and stopped, run from a
// configuration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <future>

#include "tests/e2e/forwards.hpp"

namespace xenlane::tests {
namespace {

namespace json = boost::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using transport::UniqueFd;

bool port_echoes(int port) {
  const UniqueFd client = connect_port(port);
  int error = 0;
  return client && send_all(client.get(), "ping") &&
         receive_bytes(client.get(), 4, error) == "ping";
}

TEST(ForwardLife, ConnectionMadeWhileTheGuestsDaemonIsAwayWaits) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const int far_port = free_port();
  const Process forward = there.start("0",
                                      {"-L", std::to_string(port) + ":web:" + service.text(), "-R",
                                       std::to_string(far_port) + ":web:" + service.text()},
                                      "listens on");
  ASSERT_TRUE(port_echoes(port));
  there.world.guest("web").kill_and_reap();
  ASSERT_TRUE(eventually([&] { return there.said().find("web: down") != std::string::npos; }));
  auto waiting = std::async(std::launch::async, [&] { return port_echoes(port); });
  EXPECT_TRUE(
      eventually([&] { return list_of(there.world, "0")[0].at("waiting").to_number<int>() == 1; }));
  there.world.start_guest("web");
  EXPECT_TRUE(waiting.get()) << there.said();
  EXPECT_TRUE(eventually([&] { return port_echoes(far_port); })) << there.said();
}

TEST(ForwardLife, OutlastsTheHostsWorkerAndItsDaemon) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  ASSERT_TRUE(port_echoes(port));
  // What was open breaks, and says so.
  const UniqueFd open = connect_port(port);
  int error = 0;
  ASSERT_TRUE(send_all(open.get(), "ping"));
  ASSERT_EQ(receive_bytes(open.get(), 4, error), "ping");
  ::kill(there.world.worker_pid("web"), SIGKILL);
  EXPECT_EQ(receive_bytes(open.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_TRUE(port_echoes(port)) << there.said();
  there.world.stop_host();
  auto waiting = std::async(std::launch::async, [&] { return port_echoes(port); });
  there.world.start_host();
  EXPECT_TRUE(waiting.get()) << there.said();
}

TEST(ForwardLife, WithRefuseNobodyWaits) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward =
      there.start("0", {"--refuse", "-L", std::to_string(port) + ":web:" + service.text()});
  there.world.guest("web").kill_and_reap();
  ASSERT_TRUE(eventually([&] { return there.said().find("web: down") != std::string::npos; }));
  const UniqueFd client = connect_port(port);
  int error = 0;
  EXPECT_EQ(receive_bytes(client.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  there.world.start_guest("web");
  EXPECT_TRUE(eventually([&] { return port_echoes(port); })) << there.said();
}

TEST(ForwardLife, DetachedOneIsListedAndStopped) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const std::string spec = std::to_string(port) + ":web:" + service.text();
  const Outcome detached = there.world.tool("0", {"forward", "--detach", "-L", spec});
  ASSERT_EQ(detached.code, 0) << detached.err;
  const std::string id = detached.out.substr(0, detached.out.find('\n'));
  EXPECT_TRUE(port_echoes(port));
  const auto listed = list_of(there.world, "0");
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0].at("id").as_string(), id);
  EXPECT_EQ(listed[0].at("forward").as_string(), spec);
  EXPECT_THAT(there.world.tool("0", {"forward", "--list"}).out, HasSubstr(spec));
  EXPECT_THAT(there.world.tool("0", {"status"}).out, HasSubstr(spec));
  const json::value status = there.world.tool_json("0", {"status", "--json"});
  EXPECT_THAT(status.at("forwards").as_array(), SizeIs(1));

  // The port is taken now, which is said before anything runs on.
  const Outcome second = there.world.tool("0", {"forward", "--detach", "-L", spec});
  EXPECT_EQ(second.code, 1);
  EXPECT_THAT(second.err, HasSubstr("Address already in use"));

  EXPECT_EQ(there.world.tool("0", {"forward", "--stop", "1"}).code, 4);
  EXPECT_EQ(there.world.tool("0", {"forward", "--stop", id}).code, 0);
  EXPECT_TRUE(eventually([&] { return list_of(there.world, "0").empty(); }));
  EXPECT_FALSE(connect_port(port));
}

TEST(ForwardLife, OneThatWasKilledIsForgotten) {
  Forwards there;
  Process forward = there.start("0", {"-L", there.path("here") + ":web:22"});
  ASSERT_THAT(list_of(there.world, "0"), SizeIs(1));
  forward.kill_and_reap();
  EXPECT_THAT(list_of(there.world, "0"), IsEmpty());
  const std::string folder = there.world.run_dir("Domain-0") + "-forward";
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  // Its socket is in the way of nobody.
  Process again = there.start("0", {"-L", there.path("here") + ":web:22"});
  again.signal(SIGTERM);
  EXPECT_EQ(again.wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(there.path("here")));
}

TEST(ForwardLife, ConfiguredOnesRunAndAreReadAgain) {
  const TcpServer service(echo);
  const int port = free_port();
  const int other = free_port();
  const auto section = [&](int at) {
    return "[[forward]]\nlocal = \"" + std::to_string(at) + "\"\nguest = \"web\"\nremote = \"" +
           service.text() + "\"\n";
  };
  const std::string wrong = "[[forward]]\nlocal = \"no port\"\nguest = \"web\"\nremote = \"1\"\n";
  Forwards there(R"(["tcp:*:*"])", R"(["tcp:*:*"])", section(port) + wrong);
  const std::string config = there.world.host_config_path();
  const Process forward = there.start("0", {"--configured", "--host", "--config", config}, ": up");
  EXPECT_TRUE(port_echoes(port)) << there.said();
  EXPECT_THAT(there.said(), HasSubstr(config + ":"));
  EXPECT_THAT(there.said(), HasSubstr("this one is left out"));
  write_file(config, read_file(config) + section(other));
  forward.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return port_echoes(other); })) << there.said();
  EXPECT_TRUE(port_echoes(port));
}

TEST(Top, ShowsGuestsChannelsAndForwardsOnce) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const std::string spec = std::to_string(port) + ":web:" + service.text();
  const Process forward = there.start("0", {"-L", spec});
  const UniqueFd client = connect_port(port);
  int error = 0;
  ASSERT_TRUE(send_all(client.get(), "ping"));
  ASSERT_EQ(receive_bytes(client.get(), 4, error), "ping");
  const Outcome once = there.world.tool("0", {"top", "--once", "--interval", "0.1"});
  EXPECT_EQ(once.code, 0) << once.err;
  EXPECT_THAT(once.out, HasSubstr("GUEST  SESSION  LANE"));
  EXPECT_THAT(once.out, HasSubstr("org.xenlane.forward-in-guest.0"));
  EXPECT_THAT(once.out, HasSubstr(spec));
  const json::value report = there.world.tool_json("0", {"top", "--json", "--interval", "0.1"});
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report.at("guests").as_array().at(0).at("guest").as_string(), "web");
  EXPECT_EQ(report.at("forwards").as_array().at(0).at("open").to_number<int>(), 1);
  EXPECT_EQ(there.world.tool("0", {"top", "nobody", "--once"}).code, 4);
}

TEST(Top, GivesTheTerminalBackAsItWas) {
  Forwards there;
  for (const int signal : {0, SIGTERM, SIGINT}) {
    int terminal = -1;
    winsize size{24, 80, 0, 0};
    const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
    if (child == 0) {
      const std::string xensim = program("xensim");
      const std::string xenlane = program("xenlane");
      ::execl(xensim.c_str(), xensim.c_str(), "exec", "0", "--", xenlane.c_str(), "top",
              "--interval", "0.1", nullptr);
      ::_exit(127);
    }
    ASSERT_GT(child, 0);
    const UniqueFd owned(terminal);
    std::string shown;
    const auto read_more = [&](const std::string& until) {
      return eventually([&] {
        char bytes[4096];
        pollfd poll{terminal, POLLIN, 0};
        if (::poll(&poll, 1, 100) != 1) return false;
        const ssize_t got = ::read(terminal, bytes, sizeof bytes);
        if (got > 0) shown.append(bytes, static_cast<std::size_t>(got));
        return shown.find(until) != std::string::npos;
      });
    };
    EXPECT_TRUE(read_more("web")) << shown;
    if (signal == 0) {
      ASSERT_EQ(::write(terminal, "q", 1), 1);
    } else {
      ::kill(child, signal);
    }
    EXPECT_TRUE(read_more("\033[?1049l")) << shown;
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (signal == 0) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    } else {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal);
    }
    termios after{};
    if (::tcgetattr(terminal, &after) == 0) {
      EXPECT_NE(after.c_lflag & ECHO, 0U);
      EXPECT_NE(after.c_lflag & ICANON, 0U);
    }
  }
}

}  // namespace
}  // namespace xenlane::tests

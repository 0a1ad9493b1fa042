// xenlane connect, end to end with the built program: bytes, half-close, and each way to fail.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <random>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/cli/fake_daemon.hpp"
#include "tests/bridge/cli/tool.hpp"

namespace xenlane::bridge {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* name = "org.example.echo";

class Connect : public testing::Test {
 protected:
  void start_guest() {
    json::object dial = channel_entry("org.example.in", "");
    dial["end"] = "dial";
    json::object bad = channel_entry("org.example.bad", dir_ / "org.example.bad");
    bad["state"] = "disabled";
    bad["error"] = "target: the path 'x' is not absolute";
    const json::array channels = {channel_entry(name, dir_ / name), dial, bad};
    control_ =
        std::make_unique<FakeControl>(dir_ / "control", bridge_status("guest", "web", channels));
  }

  TempDir dir_;
  std::unique_ptr<FakeControl> control_;
};

std::string random_bytes(std::size_t size) {
  std::mt19937_64 random(7);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

TEST_F(Connect, AnswerSentAfterOurEndIsReceivedWhole) {
  start_guest();
  const std::string answer = random_bytes(3 * 1024 * 1024 + 1);
  std::string heard;
  ToolResult got;
  {
    const FakeSocket server(dir_ / name, [&](int fd) {
      heard = read_all(fd);
      write_all(fd, answer);
    });
    got = run_tool(dir_.path(), {"connect", name}, "x");
  }
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(heard, "x");
  EXPECT_TRUE(got.out == answer);
}

TEST_F(Connect, SixtyFourMebibytesComeBackUnchanged) {
  start_guest();
  const std::string bytes = random_bytes(64 * 1024 * 1024);
  const FakeSocket server(dir_ / name, [](int fd) {
    std::string chunk(65536, '\0');
    for (;;) {
      const ssize_t count = ::read(fd, chunk.data(), chunk.size());
      if (count <= 0) return;
      if (!write_all(fd, {chunk.data(), static_cast<std::size_t>(count)})) return;
    }
  });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, bytes);
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out.size(), bytes.size());
  EXPECT_EQ(std::hash<std::string>{}(got.out), std::hash<std::string>{}(bytes));
}

TEST_F(Connect, EndsWithTheSocketThoughStdinIsStillOpen) {
  start_guest();
  const FakeSocket server(dir_ / name, [](int fd) { write_all(fd, "bye\n"); });
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const transport::UniqueFd read_end(ends[0]);
  const transport::UniqueFd write_end(ends[1]);
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, {}, {.in = read_end.get()});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out, "bye\n");
}

TEST_F(Connect, InputIsStillSentAfterTheOtherSideFinishedItsOutput) {
  start_guest();
  const std::string bytes = random_bytes(8 * 1024 * 1024);
  std::string heard;
  ToolResult got;
  {
    const FakeSocket server(dir_ / name, [&](int fd) {
      ::shutdown(fd, SHUT_WR);
      heard = read_all(fd);
    });
    got = run_tool(dir_.path(), {"connect", name}, bytes);
  }
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_TRUE(heard == bytes);
}

TEST_F(Connect, InputThatTheOtherSideDoesNotTakeIsAnError) {
  start_guest();
  const FakeSocket server(dir_ / name, [](int fd) {
    char byte = 0;
    ASSERT_EQ(::read(fd, &byte, 1), 1);
  });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, random_bytes(8 * 1024 * 1024));
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_THAT(got.err, StartsWith("xenlane: org.example.echo: "));
}

TEST_F(Connect, ResetInTheMiddleIsAnError) {
  start_guest();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const transport::UniqueFd read_end(ends[0]);
  const transport::UniqueFd write_end(ends[1]);
  ASSERT_EQ(::write(write_end.get(), "unread", 6), 6);
  const FakeSocket server(dir_ / name, [](int fd) {
    write_all(fd, "half an ans");
    // Closing with bytes unread is what resets a Unix socket's peer.
    char byte = 0;
    ASSERT_EQ(::recv(fd, &byte, 1, MSG_PEEK), 1);
  });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, {}, {.in = read_end.get()});
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_EQ(got.out, "half an ans");
  EXPECT_EQ(got.err,
            "xenlane: org.example.echo: the connection broke: Connection reset by peer; see "
            "'xenlane status'\n");
}

TEST_F(Connect, ClosedStdoutIsAnErrorAndNotASignal) {
  start_guest();
  const FakeSocket server(dir_ / name, [](int fd) {
    write_all(fd, "hello");
    read_all(fd);
  });
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  transport::UniqueFd read_end(ends[0]);
  const transport::UniqueFd write_end(ends[1]);
  read_end.reset();
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, "x", {.out = write_end.get()});
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_THAT(got.err, HasSubstr("stdout: Broken pipe"));
}

TEST_F(Connect, ClosedStandardInputIsAnEmptyOne) {
  const FakeSocket server(dir_ / name, [](int fd) { write_all(fd, read_all(fd) + "answer"); });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, {}, {.without_in = true});
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out, "answer");
}

/// The process at the other end of a Unix socket.
pid_t peer_pid(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  return credentials.pid;
}

/// Makes the fake bridge say that the connection of process `pid` ended badly.
void tell_bad_ending(FakeControl& control, const char* what, pid_t pid) {
  control.change([&](json::object& status) {
    json::object& channel = status["channels"].as_array()[0].as_object();
    channel["bad_endings"] = json::array{{{"what", what},
                                          {"pid", pid},
                                          {"errno", "ECONNREFUSED"},
                                          {"message", "unix:/run/echo: Connection refused"}}};
  });
}

TEST_F(Connect, RefusalByTheOtherSideIsToldWithItsReason) {
  start_guest();
  const FakeSocket server(dir_ / name,
                          [this](int fd) { tell_bad_ending(*control_, "refused", peer_pid(fd)); });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, "x");
  EXPECT_EQ(got.exit_code, exit_refused);
  EXPECT_EQ(got.err,
            "xenlane: org.example.echo: refused: unix:/run/echo: Connection refused "
            "(ECONNREFUSED); check the other side\n");
}

TEST_F(Connect, BrokenStreamIsNotTakenForItsEnd) {
  start_guest();
  const FakeSocket server(dir_ / name, [this](int fd) {
    write_all(fd, "half an ans");
    tell_bad_ending(*control_, "broken", peer_pid(fd));
  });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, "");
  EXPECT_EQ(got.exit_code, exit_broken);
  EXPECT_EQ(got.out, "half an ans");
  EXPECT_THAT(got.err, HasSubstr("the stream broke: "));
}

TEST_F(Connect, AnotherConnectionsBadEndingIsNotOurs) {
  start_guest();
  const FakeSocket server(dir_ / name, [this](int fd) {
    read_all(fd);
    tell_bad_ending(*control_, "broken", ::getpid());
  });
  EXPECT_EQ(run_tool(dir_.path(), {"connect", name}, "x").exit_code, exit_ok);
}

TEST_F(Connect, InvalidNamesAreUsageErrors) {
  start_guest();
  for (const std::string& bad :
       {std::string("a/b"), std::string(64, 'a'), std::string(","), std::string("nodot"),
        std::string("a/b/c.d"), std::string("../x.y"), std::string("/x.y"), std::string("x.y\n")}) {
    const ToolResult got = run_tool(dir_.path(), {"connect", bad});
    EXPECT_EQ(got.exit_code, exit_usage) << bad;
    EXPECT_THAT(got.err, HasSubstr("invalid ")) << bad;
    EXPECT_EQ(std::count(got.err.begin(), got.err.end(), '\n'), 1) << got.err;
  }
}

TEST_F(Connect, UnknownChannelSuggestsNearNames) {
  start_guest();
  const ToolResult got = run_tool(dir_.path(), {"connect", "org.example.ehco"});
  EXPECT_EQ(got.exit_code, exit_unknown);
  EXPECT_THAT(got.err, StartsWith("xenlane: org.example.ehco: unknown channel; did you mean "
                                  "org.example.echo"));
}

TEST_F(Connect, ChannelsWithoutASocketHereSayWhy) {
  start_guest();
  const ToolResult dial = run_tool(dir_.path(), {"connect", "org.example.in"});
  EXPECT_EQ(dial.exit_code, exit_unknown);
  EXPECT_THAT(dial.err, HasSubstr("no socket on this side"));
  const ToolResult bad = run_tool(dir_.path(), {"connect", "org.example.bad"});
  EXPECT_EQ(bad.exit_code, exit_configuration);
  EXPECT_THAT(bad.err, HasSubstr("disabled: target: the path 'x' is not absolute"));
}

TEST_F(Connect, ListedChannelWhoseSocketIsGoneIsNoDaemon) {
  start_guest();
  const ToolResult got = run_tool(dir_.path(), {"connect", name});
  EXPECT_EQ(got.exit_code, exit_no_daemon);
  EXPECT_THAT(got.err, HasSubstr("nobody listens there"));
}

TEST_F(Connect, WorksWithoutAControlSocketToAsk) {
  const FakeSocket server(dir_ / name, [](int fd) { write_all(fd, read_all(fd)); });
  const ToolResult got = run_tool(dir_.path(), {"connect", name}, "hello");
  EXPECT_EQ(got.exit_code, exit_ok) << got.err;
  EXPECT_EQ(got.out, "hello");
}

TEST_F(Connect, PermissionIsTheSocketsAndNotTheControlSockets) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  std::filesystem::permissions(dir_.path(), std::filesystem::perms{0755});
  start_guest();
  const ToolSetting nobody = {.as_nobody = true};
  const ToolResult status = run_tool(dir_.path(), {"status"}, {}, nobody);
  EXPECT_EQ(status.exit_code, exit_not_permitted);
  EXPECT_EQ(status.err, "xenlane: " + (dir_ / "control") +
                            ": Permission denied; run this as the daemon's user or as root\n");

  const ToolResult absent = run_tool(dir_.path(), {"connect", name}, {}, nobody);
  EXPECT_EQ(absent.exit_code, exit_unknown);
  EXPECT_THAT(absent.err, HasSubstr("there is no such socket"));
  {
    const FakeSocket server(
        dir_ / name, [](int fd) { read_all(fd); }, 0600);
    const ToolResult closed = run_tool(dir_.path(), {"connect", name}, {}, nobody);
    EXPECT_EQ(closed.exit_code, exit_not_permitted);
    EXPECT_THAT(closed.err, HasSubstr("Permission denied; the channel's mode, owner and group"));
  }
  const FakeSocket server(
      dir_ / name, [](int fd) { write_all(fd, read_all(fd)); }, 0666);
  const ToolResult open = run_tool(dir_.path(), {"connect", name}, "hello", nobody);
  EXPECT_EQ(open.exit_code, exit_ok) << open.err;
  EXPECT_EQ(open.out, "hello");
}

class ConnectOnHost : public testing::Test {
 protected:
  ConnectOnHost() {
    std::filesystem::create_directory(dir_ / "web");
    json::object web = {{"name", "web"},
                        {"domid", 1},
                        {"state", "serving"},
                        {"run_dir", dir_ / "web"},
                        {"control", dir_ / "web/control"}};
    broker_ = std::make_unique<FakeControl>(
        dir_ / "control", json::object{{"role", "broker"}, {"guests", json::array{web}}});
    worker_ = std::make_unique<FakeControl>(
        dir_ / "web/control",
        bridge_status("worker", "web", {channel_entry(name, dir_ / "web/org.example.echo")}));
  }

  TempDir dir_;
  std::unique_ptr<FakeControl> broker_;
  std::unique_ptr<FakeControl> worker_;
};

TEST_F(ConnectOnHost, GuestIsNamedBeforeTheChannelOrByOption) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"connect", "web/org.example.echo"},
        {"connect", "org.example.echo", "--guest", "web"},
        {"connect", "--guest", "1", "org.example.echo"}}) {
    const FakeSocket server(dir_ / "web/org.example.echo",
                            [](int fd) { write_all(fd, read_all(fd)); });
    const ToolResult got = run_tool(dir_.path(), arguments, "hello");
    EXPECT_EQ(got.exit_code, exit_ok) << got.err;
    EXPECT_EQ(got.out, "hello");
  }
}

TEST_F(ConnectOnHost, UnknownOrMissingGuestNamesTheKnownOnes) {
  const ToolResult unknown = run_tool(dir_.path(), {"connect", "wbe/org.example.echo"});
  EXPECT_EQ(unknown.exit_code, exit_unknown);
  EXPECT_EQ(unknown.err, "xenlane: wbe: unknown guest; known guests are web\n");
  const ToolResult missing = run_tool(dir_.path(), {"connect", "org.example.echo"});
  EXPECT_EQ(missing.exit_code, exit_usage);
  EXPECT_THAT(missing.err, HasSubstr("give GUEST/org.example.echo, known guests are web"));
  for (const char* bad : {"..", ".", "a/b", "/"}) {
    EXPECT_EQ(run_tool(dir_.path(), {"connect", name, "--guest", bad}).exit_code, exit_usage);
  }
}

}  // namespace
}  // namespace xenlane::bridge

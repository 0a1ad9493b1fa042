// Programs that are started for each connection: what they are given, and how they end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::string exec_channel(const std::string& name, const std::string& command,
                         const std::string& more = "") {
  return channel(name, "dial", "", "target = '''exec:" + command + "'''\n" + more);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// A guest "web" whose channel org.test.run runs a program there, for connections of the host. DIR
/// in the command stands for the test's folder.
class InGuest {
 public:
  explicit InGuest(std::string command, const std::string& more = "") {
    for (std::size_t at = 0; (at = command.find("DIR")) != std::string::npos;) {
      command.replace(at, 3, world.dir());
    }
    write_file(world.host_config_path(), world.host_config() + channel("org.test.run", "listen"));
    write_file(world.guest_config_path("web"),
               world.guest_config("web") + exec_channel("org.test.run", command, more));
    world.start();
    socket = world.host_socket("web", "org.test.run");
  }
  std::string file(const std::string& name) const { return world.dir() + "/" + name; }

  World world{{"web"}};
  std::string socket;
};

/// Waits until there is something to read, and leaves it.
bool has_answer(const Client& client) {
  pollfd entry{client.fd(), POLLIN, 0};
  return ::poll(&entry, 1, 30'000) == 1;
}

/// Whoever has inherited a process that has ended may take its time to notice.
bool runs(pid_t pid) {
  const std::string state = read_file("/proc/" + std::to_string(pid) + "/stat");
  return pid > 0 && !state.empty() && state.find(") Z ") == std::string::npos;
}

pid_t pid_in(const std::string& path) {
  const std::string text = read_file(path);
  return text.ends_with('\n') ? static_cast<pid_t>(std::stol(text)) : 0;
}

TEST(Exec, OnTheHostAProgramIsToldWhichGuestAsksAndNothingElse) {
  World world({"web:7"});
  write_file(world.host_config_path(),
             world.host_config() + exec_channel("org.test.who", "/usr/bin/env"));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel("org.test.who", "listen"));
  world.start();
  std::string uuid = world.xenstore("read", "/local/domain/7/vm").out;
  uuid = uuid.substr(uuid.rfind('/') + 1);
  uuid.erase(uuid.find_last_not_of('\n') + 1);
  const std::string got = Client(world.guest_socket("web", "org.test.who")).receive_to_end();
  EXPECT_THAT(
      lines_of(got),
      UnorderedElementsAre("XENLANE_CHANNEL=org.test.who", "XENLANE_PEER=web", "XENLANE_DOMID=7",
                           "XENLANE_UUID=" + uuid,
                           "XENLANE_PEER_UID=" + std::to_string(::geteuid()), "LANG=C.UTF-8",
                           "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

TEST(Exec, InAGuestItIsToldThatTheHostAsks) {
  InGuest there("/usr/bin/env");
  EXPECT_THAT(
      lines_of(Client(there.socket).receive_to_end()),
      UnorderedElementsAre("XENLANE_CHANNEL=org.test.run", "XENLANE_PEER=host",
                           "XENLANE_PEER_UID=" + std::to_string(::geteuid()), "LANG=C.UTF-8",
                           "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

TEST(Exec, ItHasItsConnectionAndNothingElseOfTheDaemons) {
  InGuest there(
      "/bin/sh -c 'pwd; ls /proc/self/fd; ulimit -Sn; grep -E ^Sig[BI] /proc/self/status; "
      "cat /proc/$$/stat | cut -d\" \" -f 1,5,6'");
  const auto lines = lines_of(Client(there.socket).receive_to_end());
  ASSERT_EQ(lines.size(), 9U);
  EXPECT_EQ(lines[0], "/");
  EXPECT_THAT(std::vector<std::string>(lines.begin() + 1, lines.begin() + 5),
              ElementsAre("0", "1", "2", "3"))
      << "3 is what ls reads from";
  EXPECT_EQ(lines[5], "1024");
  EXPECT_EQ(lines[6], "SigBlk:\t0000000000000000");
  EXPECT_EQ(lines[7], "SigIgn:\t0000000000000000");
  std::istringstream numbers(lines[8]);
  int pid = 0;
  int group = 0;
  int session = 0;
  numbers >> pid >> group >> session;
  EXPECT_GT(pid, 1);
  EXPECT_EQ(group, pid);
  EXPECT_EQ(session, pid);
}

TEST(Exec, BytesGoBothWaysAndHalfClosesToo) {
  InGuest there("/usr/bin/sha256sum");
  Client client(there.socket);
  ASSERT_TRUE(client.send(std::string(1000000, 'x')));
  client.finish();
  EXPECT_THAT(client.receive_to_end(),
              HasSubstr("1b977e9f84f1b26b6ed7f68b0498faee2385ea4125bd29adce4a7d9106ba3134"))
      << "of a million x";
}

TEST(Exec, WhatItSaysOnStandardErrorIsLogged) {
  InGuest there("/bin/sh -c 'printf \"one\\033\\ntwo\" >&2; exit 3'");
  EXPECT_EQ(Client(there.socket).receive_to_end(), "");
  EXPECT_TRUE(eventually(
      [&] { return there.world.log("web").find("ended (exit 3)") != std::string::npos; }));
  const std::string log = there.world.log("web");
  EXPECT_THAT(log, HasSubstr(": one\\x1b\n"));
  EXPECT_THAT(log, HasSubstr(": two\n"));
  EXPECT_THAT(log, HasSubstr("info: channel org.test.run: program "));
}

TEST(Exec, AProgramThatCannotBeRunRefusesTheConnection) {
  for (const auto& [command, error] : {std::pair("/no/such/program secret", "ENOENT"),
                                       std::pair("/etc/passwd secret", "EACCES")}) {
    InGuest there(command);
    const Outcome outcome = there.world.tool("0", {"connect", "web/org.test.run"});
    EXPECT_EQ(outcome.code, 5);
    EXPECT_THAT(outcome.err, HasSubstr(error));
    EXPECT_EQ(outcome.err.find("secret"), std::string::npos) << "arguments are not for the peer";
  }
}

TEST(Exec, NoMoreRunThanThereMayBe) {
  InGuest there("/bin/cat", "exec_max = 2\n");
  Client first(there.socket);
  Client second(there.socket);
  for (Client* const one : {&first, &second}) {
    ASSERT_TRUE(one->send("here"));
    ASSERT_EQ(one->receive(4), "here");
  }
  const Outcome third = there.world.tool("0", {"connect", "web/org.test.run"});
  EXPECT_EQ(third.code, 5);
  EXPECT_THAT(third.err, HasSubstr("EAGAIN"));
  second.close();
  EXPECT_TRUE(there.world.echo_works(there.socket)) << "its place is free again";
  ASSERT_TRUE(first.send("still here"));
  EXPECT_EQ(first.receive(10), "still here");
}

TEST(Exec, ABrokenConnectionHangsUpItsWholeGroup) {
  // The child is another program by the time that it says so, and has no trap of its parent's left.
  InGuest there(
      "/bin/sh -c 'trap \"echo hung up >DIR/end; exit 0\" HUP; "
      "sh -c \"echo \\$\\$ >DIR/child; exec sleep 1000\" & echo ready; wait'");
  Client client(there.socket);
  ASSERT_TRUE(has_answer(client));
  ASSERT_TRUE(eventually([&] { return pid_in(there.file("child")) != 0; }));
  const pid_t child = pid_in(there.file("child"));
  ASSERT_TRUE(runs(child));
  client.close();  // without having read the answer: that breaks it
  EXPECT_TRUE(eventually([&] { return read_file(there.file("end")) == "hung up\n"; }));
  EXPECT_TRUE(eventually([&] { return !runs(child); }, Seconds{3 * slowness}))
      << "it was in the group";
}

/// Its processes ignore that they are hung up.
class Stubborn : public InGuest {
 public:
  Stubborn()
      : InGuest(
            "/bin/sh -c 'trap \"\" HUP; sleep 1000 & echo $! >DIR/child; echo $$ >DIR/leader; "
            "echo ready; wait'"),
        client(socket) {
    EXPECT_TRUE(has_answer(client));
    leader = pid_in(file("leader"));
    child = pid_in(file("child"));
    EXPECT_TRUE(runs(leader) && runs(child));
  }
  Client client;
  pid_t leader = 0;
  pid_t child = 0;
};

TEST(Exec, WhoeverIgnoresThatIsKilledFiveSecondsLater) {
  Stubborn there;
  there.client.close();
  EXPECT_FALSE(eventually([&] { return !runs(there.leader) || !runs(there.child); }, Seconds{3}));
  EXPECT_TRUE(eventually([&] { return !runs(there.leader) && !runs(there.child); },
                         Seconds{10 * slowness}));
}

TEST(Exec, ADaemonThatEndsTakesItsProgramsAlong) {
  Stubborn there;
  there.world.stop_guest("web");
  EXPECT_FALSE(runs(there.leader));
  EXPECT_TRUE(eventually([&] { return !runs(there.child); }));
  there.world.start_guest("web");
  ASSERT_TRUE(there.world.wait_session("web"));
}

TEST(Exec, ADaemonThatIsKilledTakesItsProgramsAlong) {
  InGuest there("/bin/sh -c 'echo $$; exec sleep 1000'");
  Client client(there.socket);
  const std::string said = client.receive(2);
  ASSERT_EQ(said.size(), 2U);
  std::string digits = said;
  while (!digits.ends_with('\n')) digits += client.receive(1);
  const auto pid = static_cast<pid_t>(std::stol(digits));
  ASSERT_TRUE(runs(pid));
  there.world.guest("web").kill_and_reap();
  EXPECT_TRUE(eventually([&] { return !runs(pid); }));
  there.world.start_guest("web");
  ASSERT_TRUE(there.world.wait_session("web"));
}

TEST(Exec, ItCanBeAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  InGuest there("/usr/bin/id", "user = \"nobody\"\n");
  EXPECT_EQ(Client(there.socket).receive_to_end(),
            "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n");
}

TEST(Exec, OnlyRootCanMakeItAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  World world({"web"});
  const std::string copy = world.dir() + "/xenlane-guest";
  std::filesystem::copy_file(program("xenlane-guest"), copy);
  write_file(world.dir() + "/other.toml",
             exec_channel("org.test.run", "/usr/bin/id", "user = \"root\"\n"));
  ::chmod((world.dir() + "/other.toml").c_str(), 0644);
  const Outcome outcome =
      run_program({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy, "--check",
                   "--config", world.dir() + "/other.toml"},
                  world.dir());
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("channel.user: only root can run programs as another user"));
}

}  // namespace
}  // namespace xenlane::tests

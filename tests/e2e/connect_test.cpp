// The connect socket: one way in for all channels, in Firecracker's words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

using ::testing::HasSubstr;

TEST(Connect, NamedChannelAnswersOkAndThenIsThere) {
  World world({"web"});
  world.start();
  for (const auto& [path, name] :
       {std::pair(world.host_socket("web", "connect"), "org.guest.echo"),
        std::pair(world.guest_socket("web", "connect"), "org.host.echo")}) {
    Client client(path);
    const std::string ok = std::string("OK ") + name + "\n";
    // What is behind the line is the channel's, and there is much of it.
    Pattern pattern(3);
    std::string bytes(200'000, '\0');
    pattern.fill(bytes);
    std::thread sender([&] {
      EXPECT_TRUE(client.send(std::string("CONNECT ") + name + "\n" + bytes));
      client.finish();
    });
    EXPECT_EQ(client.receive(ok.size()), ok);
    EXPECT_TRUE(client.receive_to_end() == bytes);
    sender.join();
  }
}

TEST(Connect, LineMayComeInPieces) {
  World world({"web"});
  world.start();
  Client client(world.host_socket("web", "connect"));
  for (const char* piece : {"C", "ONNECT", " org.guest", ".ech", "o", "\nhel", "lo"}) {
    ASSERT_TRUE(client.send(piece));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that each is read by itself
  }
  client.finish();
  EXPECT_EQ(client.receive_to_end(), "OK org.guest.echo\nhello");
}

TEST(Connect, NumbersMeanWhatIsConfigured) {
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + "[connect]\n22 = \"org.guest.echo\"\n7 = \"org.guest.none\"\n");
  world.start();
  const std::string path = world.host_socket("web", "connect");
  Client client(path);
  ASSERT_TRUE(client.send("CONNECT 22\nhello"));
  client.finish();
  EXPECT_EQ(client.receive_to_end(), "OK 22\nhello");
  for (const char* line : {"CONNECT 7\n", "CONNECT 23\n", "CONNECT 4294967296\n"}) {
    Client other(path);
    ASSERT_TRUE(other.send(line));
    EXPECT_EQ(other.receive_to_end(), "") << line;
  }
}

TEST(Connect, PortsAreReachedToo) {
  World world({"web"});
  world.start();
  Client host(world.host_socket("web", "connect"));
  Client guest(world.guest_socket("web", "connect"));
  const std::string ok = "OK org.port.one\n";
  ASSERT_TRUE(guest.send("CONNECT org.port.one\nfrom the guest"));
  ASSERT_TRUE(host.send("CONNECT org.port.one\nfrom the host"));
  EXPECT_EQ(host.receive(ok.size() + 14), ok + "from the guest");
  EXPECT_EQ(guest.receive(ok.size() + 13), ok + "from the host");
}

TEST(Connect, WhatCannotBeHadIsClosedAndTheReasonKept) {
  World world({"web"});
  world.start();
  const std::string path = world.host_socket("web", "connect");
  const struct {
    std::string line;
    const char* logged;
  } table[] = {
      {"CONNECT org.guest.nothing\n", "org.guest.nothing: no such channel here"},
      {"CONNECT org.host.echo\n", "the channel has no socket on this side"},
      {"CONNECT ../control\n", "'../control': '.' may not come first"},
      {"CONNECT \n", "the name is empty"},
      {"connect org.guest.echo\n", "'connect org.guest.echo' is not \"CONNECT NAME\""},
      {"CONNECT org.guest.echo\r\n", "'\\x0d' at byte 15"},
      {"CONNECT " + std::string(64, 'a') + "\n", "the line is longer than 72 bytes"},
      {std::string(100'000, '\0'), "the line is longer than 72 bytes"},
  };
  for (const auto& [line, logged] : table) {
    Client client(path);
    client.send(line);  // may fail: nobody reads on
    EXPECT_EQ(client.receive_to_end(end_within), "") << line;
    EXPECT_NE(client.ending(), Ending::open) << line;
    EXPECT_TRUE(eventually([&] { return world.log("host").find(logged) != std::string::npos; }))
        << logged;
  }
  EXPECT_THAT(world.tool("0", {"status", "web", "--json"}).out,
              HasSubstr("\"connects_turned_away\":8"));
}

TEST(Connect, TargetThatRefusesClosesItWithoutOk) {
  World world({"web"});
  world.start();
  world.stop_serving("web", "echo");
  Client client(world.host_socket("web", "connect"));
  ASSERT_TRUE(client.send("CONNECT org.guest.echo\nhello"));
  EXPECT_EQ(client.receive_to_end(), "");
  EXPECT_THAT(world.tool("0", {"status", "web", "--json"}).out, HasSubstr("ENOENT"));
}

TEST(Connect, ThoseWhoSayNothingKeepOthersOutForFiveSecondsOnly) {
  World world({"web"});
  world.start();
  const std::string path = world.host_socket("web", "connect");
  std::vector<Client> silent;
  for (int i = 0; i < 64; ++i) silent.emplace_back(path);
  Client client(path);
  ASSERT_TRUE(client.send("CONNECT org.guest.echo\nhello"));
  client.finish();
  EXPECT_EQ(client.receive_to_end(Seconds{15 * slowness}), "OK org.guest.echo\nhello");
  EXPECT_EQ(silent.front().receive_to_end(end_within), "");
  EXPECT_EQ(silent.front().ending(), Ending::closed);
}

TEST(Connect, ItLetsInWhomTheChannelsOwnSocketLetsIn) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  World world({"web"});
  const std::string run_dir = world.dir() + "/r";
  std::filesystem::create_directory(run_dir);
  ::chmod(run_dir.c_str(), 0755);
  write_file(world.guest_config_path("web"),
             "[daemon]\nrun_dir = \"" + run_dir + "\"\n[connect]\nmode = \"0666\"\n" +
                 channel("org.host.digest", "listen") +
                 channel("org.host.echo", "listen", "", "mode = \"0660\"\ngroup = 4711\n"));
  world.start_host();
  world.start_guest("web");
  ASSERT_TRUE(eventually([&] { return Client(run_dir + "/org.host.echo").ok(); }));
  ASSERT_TRUE(world.echo_works(run_dir + "/org.host.echo"));
  const auto as_other = [&](const std::string& groups, const std::string& name) {
    return run_program({"setpriv", "--reuid=65534", "--regid=65534", groups, "socat", "-t30", "-",
                        "UNIX-CONNECT:" + run_dir + "/connect"},
                       world.dir(), "CONNECT " + name + "\nhello")
        .out;
  };
  EXPECT_EQ(as_other("--groups=4711", "org.host.echo"), "OK org.host.echo\nhello");
  EXPECT_EQ(as_other("--clear-groups", "org.host.echo"), "");
  EXPECT_EQ(as_other("--groups=4711", "org.host.digest"), "");
}

}  // namespace
}  // namespace xenlane::tests

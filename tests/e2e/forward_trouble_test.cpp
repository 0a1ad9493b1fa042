// Forwards in trouble: programs that never read, come and go, or say what is no request; guests
// that are made anew or restored; lanes that change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/e2e/forwards.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using transport::UniqueFd;

const std::string in_guest = "org.xenlane.forward-in-guest.0";

std::size_t descriptors_of(pid_t pid) {
  std::error_code error;
  const fs::directory_iterator all("/proc/" + std::to_string(pid) + "/fd", error);
  return static_cast<std::size_t>(std::distance(fs::begin(all), fs::end(all)));
}

std::uint64_t resident_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    std::uint64_t kib = 0;
    if (word == "VmRSS:" && status >> kib) return kib;
  }
  return 0;
}

bool answers(int socket, const std::string& text) {
  int error = 0;
  return send_all(socket, text) && receive_bytes(socket, text.size(), error) == text;
}

TEST(ForwardTrouble, ProgramsThatNeverReadHoldUpNobodyAndCostLittle) {
  const std::uint64_t much = 64 * mebibyte;
  Forwards there;
  const Process forward = there.start(
      "0", {"-L", there.path("source") + ":web:" + there.world.service_path("web", "source"), "-L",
            there.path("echo") + ":web:" + there.world.service_path("web", "echo")});
  std::vector<Client> idle;
  for (int i = 0; i < 16; ++i) {
    idle.emplace_back(there.path("source"));
    ASSERT_TRUE(idle.back().send(std::to_string(i) + " " + std::to_string(much) + "\n"));
  }
  std::vector<Client> others;
  for (int i = 0; i < 4; ++i) others.emplace_back(there.path("echo"));
  EXPECT_TRUE(exchange_with_echo(others, 4 * mebibyte));
  EXPECT_LT(resident_kib(forward.pid()), 64 * slowness * 1024);
  // What waited is all there.
  EXPECT_EQ(idle[3].receive_pattern_to_end(Pattern(3)), static_cast<std::int64_t>(much));
}

TEST(ForwardTrouble, ConnectionsThatComeAndGoLeaveNothingBehind) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  ASSERT_TRUE(answers(connect_port(port).get(), "ping"));
  const pid_t bridge = there.world.guest("web").pid();
  const auto open_now = [&] { return list_of(there.world, "0")[0].at("open").to_number<int>(); };
  ASSERT_TRUE(eventually([&] { return open_now() == 0; }));
  const std::size_t before = descriptors_of(forward.pid());
  const std::size_t bridge_before = descriptors_of(bridge);
  for (int i = 0; i < 600; ++i) {
    UniqueFd client = connect_port(port);
    ASSERT_TRUE(client);
    if (i % 3 == 0) close_with_reset(std::move(client));
    if (i % 3 == 1) send_all(client.get(), "unread");
  }
  EXPECT_TRUE(answers(connect_port(port).get(), "ping"));
  EXPECT_TRUE(eventually([&] {
    const auto forward_now = list_of(there.world, "0")[0];
    return forward_now.at("open").to_number<int>() == 0 &&
           forward_now.at("waiting").to_number<int>() == 0 &&
           descriptors_of(forward.pid()) <= before && descriptors_of(bridge) <= bridge_before;
  })) << boost::json::serialize(list_of(there.world, "0"))
      << descriptors_of(forward.pid()) << " of " << before << ", bridge " << descriptors_of(bridge)
      << " of " << bridge_before;
}

TEST(ForwardTrouble, WhatIsNoRequestIsAnsweredAndEnded) {
  Forwards there;
  ASSERT_TRUE(eventually([&] { return Client(there.world.host_socket("web", in_guest)).ok(); }));
  const auto ask = [&](const std::string& said, bool finishes) {
    Client client(there.world.host_socket("web", in_guest));
    EXPECT_TRUE(client.send(said));
    if (finishes) client.finish();
    return client.receive_to_end();
  };
  EXPECT_THAT(ask("GET / HTTP/1.1\r\n\r\n", false), StartsWith("error 71 "));
  EXPECT_THAT(ask(std::string(10'000, 'x'), false), StartsWith("error 71 "));
  EXPECT_THAT(ask("forward/1 con", true), StartsWith("error 71 "));
  EXPECT_THAT(ask("forward/9 connect tcp:localhost:1\n", false), StartsWith("error 93 "));
  EXPECT_THAT(ask("forward/1 take " + std::string(32, 'a') + "\n", false), StartsWith("error 2 "));
  EXPECT_THAT(ask("forward/1 connect tcp:localhost:1\n", false), StartsWith("error 111 "));
  EXPECT_THAT(ask("forward/1 control\nnonsense\n", false), "ok\n");
  // A program that speaks at once is heard.
  EXPECT_THAT(
      ask("forward/1 connect unix:" + there.world.service_path("web", "echo") + "\nping", true),
      ::testing::EndsWith("\nping"));
}

TEST(ForwardTrouble, GuestThatIsMadeAnewIsReachedByTheSameForward) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const int far_port = free_port();
  const Process forward = there.start("0",
                                      {"-L", std::to_string(port) + ":web:" + service.text(), "-R",
                                       std::to_string(far_port) + ":web:" + service.text()},
                                      "listens on");
  const UniqueFd open = connect_port(port);
  ASSERT_TRUE(answers(open.get(), "ping"));
  ASSERT_EQ(there.world.xensim({"destroy", "web"}).code, 0);
  there.world.guest("web").wait();
  int error = 0;
  EXPECT_EQ(receive_bytes(open.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  const UniqueFd waiting = connect_port(port);
  ASSERT_EQ(there.world.xensim({"create", "web"}).code, 0);
  there.world.start_guest("web");
  EXPECT_TRUE(answers(waiting.get(), "ping")) << there.said();
  EXPECT_TRUE(eventually([&] {
    const UniqueFd client = connect_port(far_port);
    return client && answers(client.get(), "ping");
  })) << there.said();
}

TEST(ForwardTrouble, RestoredGuestIsReachedByTheSameForward) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  const UniqueFd open = connect_port(port);
  ASSERT_TRUE(answers(open.get(), "ping"));
  const std::string domain = "/local/domain/7";
  ASSERT_EQ(there.world.run_in("0", {"xenstore-rm", domain + "/data/xenlane"}).code, 0);
  ASSERT_EQ(there.world.run_in("0", {"xenstore-write", domain + "/xenlane/x", ""}).code, 0);
  int error = 0;
  EXPECT_EQ(receive_bytes(open.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  EXPECT_TRUE(answers(connect_port(port).get(), "ping")) << there.said();
  EXPECT_THAT(there.world.log("web"), HasSubstr("this domain was restored"));
}

TEST(ForwardTrouble, ChangeOfTheLaneIsNotNoticed) {
  const TcpServer service(echo);
  Forwards there(R"(["tcp:*:*"])", R"(["tcp:*:*"])", "", "[lanes]\nidle_ms = 60000\n");
  const int port = free_port();
  const Process forward =
      there.start("0", {"-L", std::to_string(port) + ":7:" + service.text()}, "7: up");
  const UniqueFd open = connect_port(port);
  for (const char* lane : {"console", "vchan", "console", "vchan"}) {
    ASSERT_EQ(there.world.tool("0", {"lane", "web", lane}).code, 0);
    EXPECT_TRUE(answers(open.get(), std::string(5'000, 'x'))) << lane << there.said();
    EXPECT_TRUE(eventually([&] {
      const auto status = there.world.bridge_status("0", "web");
      return status.at("lane").at("kind").as_string() == lane;
    })) << lane;
    EXPECT_TRUE(answers(open.get(), "ping")) << lane << there.said();
  }
  EXPECT_THAT(there.said(), ::testing::Not(HasSubstr("down")));
}

}  // namespace
}  // namespace xenlane::tests

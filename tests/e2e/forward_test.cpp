// xenlane forward: what goes in on one side comes out on the other, and ends as it ended.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <future>

#include "tests/e2e/forwards.hpp"

namespace xenlane::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using transport::UniqueFd;

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++count;
  }
  return count;
}

std::string pattern_of(std::size_t bytes) {
  std::string text(bytes, '\0');
  Pattern(5).fill(text);
  return text;
}

/// Sends all, reads as much back, while both are under way.
bool echoes(int socket, std::size_t bytes) {
  const std::string sent = pattern_of(bytes);
  std::thread sender([&] {
    send_all(socket, sent);
    ::shutdown(socket, SHUT_WR);
  });
  int error = 0;
  const std::string got = receive_bytes(socket, bytes + 1, error);
  sender.join();
  return got == sent && error == 0;
}

TEST(Forward, TcpPortLeadsToATcpServiceInTheGuest) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  const UniqueFd client = connect_port(port);
  EXPECT_TRUE(echoes(client.get(), 4 * mebibyte)) << there.said();
  const auto listed = list_of(there.world, "0");
  ASSERT_THAT(listed, SizeIs(1));
  EXPECT_EQ(listed[0].at("state").as_string(), "up");
  EXPECT_EQ(listed[0].at("opened").to_number<int>(), 1);
  EXPECT_EQ(listed[0].at("bytes_in").to_number<std::uint64_t>(), 4 * mebibyte);
  EXPECT_EQ(listed[0].at("bytes_out").to_number<std::uint64_t>(), 4 * mebibyte);
}

TEST(Forward, UnixSocketsAreEndsTooAndManyGoAtOnce) {
  Forwards there;
  const Process forward = there.start(
      "0", {"-L", there.path("here") + ":web:" + there.world.service_path("web", "echo")});
  std::vector<Client> clients;
  for (int i = 0; i < 16; ++i) clients.emplace_back(there.path("here"));
  EXPECT_TRUE(exchange_with_echo(clients, mebibyte)) << there.said();
}

TEST(Forward, GuestReachesTheHostAlike) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward =
      there.start("web", {"-L", std::to_string(port) + ":host:127.0.0.1:" + service.text()});
  EXPECT_TRUE(echoes(connect_port(port).get(), mebibyte)) << there.said();
}

TEST(Forward, AnswerBehindTheEndOfTheQuestionArrives) {
  const TcpServer service(answer_digest);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  const UniqueFd client = connect_port(port);
  ASSERT_TRUE(send_all(client.get(), "question"));
  ::shutdown(client.get(), SHUT_WR);
  int error = 0;
  EXPECT_EQ(receive_bytes(client.get(), 1000, error), digest_of("question"));
  EXPECT_EQ(error, 0);
}

TEST(Forward, ServiceMayFinishFirst) {
  std::promise<std::string> collected;
  const TcpServer service(
      finish_then_collect([&](const std::string& digest) { collected.set_value(digest); }));
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  const UniqueFd client = connect_port(port);
  int error = 0;
  EXPECT_EQ(receive_bytes(client.get(), 1000, error), "done");
  ASSERT_TRUE(send_all(client.get(), "still here"));
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(collected.get_future().get(), digest_of("still here"));
}

TEST(Forward, ResetOfTheClientResetsTheService) {
  std::promise<int> seen;
  const TcpServer service([&](int socket) {
    int error = 0;
    receive_bytes(socket, 1, error);
    receive_bytes(socket, 1, error);
    seen.set_value(error);
  });
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  UniqueFd client = connect_port(port);
  ASSERT_TRUE(send_all(client.get(), "x"));
  ASSERT_TRUE(
      eventually([&] { return list_of(there.world, "0")[0].at("open").to_number<int>() == 1; }));
  close_with_reset(std::move(client));
  EXPECT_EQ(seen.get_future().get(), ECONNRESET);
}

TEST(Forward, ResetOfTheServiceResetsTheClient) {
  const TcpServer service([](int socket) {
    int error = 0;
    receive_bytes(socket, 1, error);
    const linger at_once{1, 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  });
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  // With and without a half-close of the client's own, which the bridge sees as another state.
  for (const bool finishes : {false, true}) {
    const UniqueFd client = connect_port(port);
    ASSERT_TRUE(send_all(client.get(), "x"));
    if (finishes) ::shutdown(client.get(), SHUT_WR);
    int error = 0;
    receive_bytes(client.get(), 1, error);
    EXPECT_EQ(error, ECONNRESET) << finishes;
  }
}

TEST(Forward, WhatIsNotAllowedIsRefusedWithOneLineAndOneEvent) {
  const TcpServer service(echo);
  Forwards there(R"(["tcp:localhost:1"])", R"(["tcp:localhost:1"])");
  const std::string events_file = there.world.dir() + "/events";
  const Process watch({program("xensim"), "exec", "web", "--", program("xenlane"), "watch"},
                      {"/dev/null", events_file, "/dev/null"});
  // Something is watched when the socket of the events has a reader.
  ASSERT_TRUE(eventually([&] {
    return there.world.tool("web", {"connect", "no.such.channel"}).code != 0 && watch.started();
  }));
  const int port = free_port();
  const Process forward = there.start("0", {"-L", std::to_string(port) + ":web:" + service.text()});
  const UniqueFd client = connect_port(port);
  int error = 0;
  EXPECT_EQ(receive_bytes(client.get(), 1, error), "");
  EXPECT_EQ(error, ECONNRESET);
  const std::string why = "tcp:localhost:" + service.text() + ": not among the channel's allow";
  EXPECT_THAT(there.said(), HasSubstr(why));
  EXPECT_TRUE(eventually([&] {
    return read_file(events_file).find("refused") != std::string::npos;
  })) << read_file(events_file);
  EXPECT_EQ(count_of(there.world.log("web"), why), 1U);
  EXPECT_EQ(count_of(read_file(events_file), "refused channel=org.xenlane.forward-in-guest.0"), 1U);
}

TEST(Forward, ListenerInTheGuestLeadsHere) {
  const TcpServer service(echo);
  Forwards there;
  const int port = free_port();
  const Process forward = there.start("0", {"-R", std::to_string(port) + ":web:" + service.text()},
                                      "listens on tcp:localhost");
  std::vector<std::future<bool>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(
        std::async(std::launch::async, [&] { return echoes(connect_port(port).get(), 10'000); }));
  }
  for (auto& client : clients) EXPECT_TRUE(client.get());
  EXPECT_EQ(list_of(there.world, "0")[0].at("opened").to_number<int>(), 100) << there.said();
}

TEST(Forward, ListenerThatIsNotAllowedIsSaidAndAskedForAgain) {
  Forwards there(R"(["tcp:*:*"])", R"(["tcp:localhost:1"])");
  const int port = free_port();
  const Process forward =
      there.start("0", {"-R", std::to_string(port) + ":web:22"}, "does not listen");
  EXPECT_THAT(there.said(), HasSubstr("not among allow_listen"));
  EXPECT_FALSE(connect_port(port));
  // The guest's owner changes its mind.
  std::string config = read_file(there.world.guest_config_path("web"));
  const std::string rule = "tcp:localhost:1\"";
  config.replace(config.find(rule), rule.size(), "tcp:localhost:*\"");
  write_file(there.world.guest_config_path("web"), config);
  ASSERT_EQ(there.world.tool("web", {"reload"}).code, 0);
  EXPECT_TRUE(eventually([&] { return static_cast<bool>(connect_port(port)); })) << there.said();
}

TEST(Forward, ThousandConnectionsAtOnce) {
  constexpr int many = 1000;
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_max < 4 * many) GTEST_SKIP() << "needs more open files";
  // One thread, however many connections.
  Forwards there;
  const Process forward = there.start(
      "0", {"-L", there.path("here") + ":web:" + there.world.service_path("web", "echo")});
  std::vector<Client> clients;
  for (int i = 0; i < many; ++i) {
    clients.emplace_back(there.path("here"));
    ASSERT_TRUE(clients.back().send("hello " + std::to_string(i)));
  }
  for (int i = 0; i < many; ++i) {
    const std::string sent = "hello " + std::to_string(i);
    ASSERT_EQ(clients[static_cast<std::size_t>(i)].receive(sent.size()), sent) << i << there.said();
  }
  EXPECT_EQ(list_of(there.world, "0")[0].at("open").to_number<int>(), many);
}

}  // namespace
}  // namespace xenlane::tests

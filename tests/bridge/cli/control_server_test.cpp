// The control server against clients that mean well and clients that do not. After each hostile
// one, an honest client must still be answered.
#include "bridge/control/server.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <stdexcept>
#include <thread>

#include "bridge/channel/listener.hpp"
#include "bridge/control/client.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/no_descriptors.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class Control : public testing::Test {
 protected:
  void start(ControlServer::Options options = {}) {
    auto listener = listen_unix(path_, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 256);
    ASSERT_TRUE(listener.has_value());
    server_ = std::make_unique<ControlServer>(
        io_.get_executor(), std::move(listener->fd),
        [this](const boost::json::object& request) -> ControlReply {
          const std::string op = json_text(request, "op");
          using Object = boost::json::object;
          if (op == "hold") return {Object{{"role", "guest"}}, keep_};
          if (op == "status") return Object{{"role", "guest"}};
          if (op == "huge") return Object{{"text", std::string(control_reply_bytes_max, 'x')}};
          if (op == "large") {
            return Object{{"text", std::string(control_reply_bytes_max - 100, 'x')}};
          }
          if (op == "throw") throw std::runtime_error("handler fell over");
          return control_error("unknown-op", "no such op");
        },
        options);
    thread_ = std::thread([this] { io_.run(); });
  }

  ~Control() override {
    if (thread_.joinable()) {
      io_.stop();
      thread_.join();
    }
  }

  transport::UniqueFd connect() {
    auto fd = connect_unix(path_);
    EXPECT_TRUE(fd.has_value());
    return std::move(*fd);
  }

  static void send(int fd, std::string_view bytes) {
    ASSERT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }

  /// One line; empty when the server closed first.
  static std::string receive_line(int fd) {
    std::string line;
    char byte = 0;
    while (::recv(fd, &byte, 1, 0) == 1) {
      if (byte == '\n') return line;
      line += byte;
    }
    return {};
  }

  void expect_honest_client_is_answered() {
    const auto reply = control_request(path_, "status");
    ASSERT_TRUE(reply.has_value()) << reply.error().text;
    EXPECT_EQ(json_text(*reply, "role"), "guest");
  }

  TempDir dir_;
  std::string path_ = dir_ / "control";
  std::shared_ptr<const int> keep_ = std::make_shared<int>(0);
  boost::asio::io_context io_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
};

TEST_F(Control, SeveralRequestsOnOneConnectionAreAnsweredInOrder) {
  start();
  const auto fd = connect();
  send(fd.get(), "{\"v\":1,\"op\":\"status\"}\n{\"v\":1,\"op\":\"x\"}\n{\"v\":1,\"op\":\"sta");
  EXPECT_EQ(receive_line(fd.get()), R"({"role":"guest","v":1,"ok":true})");
  EXPECT_EQ(receive_line(fd.get()),
            R"({"v":1,"ok":false,"error":{"code":"unknown-op","message":"no such op"}})");
  send(fd.get(), "tus\"}\n");
  EXPECT_EQ(receive_line(fd.get()), R"({"role":"guest","v":1,"ok":true})");
}

// The broker starts workers while clients are connected.
TEST_F(Control, ConnectionIsNotHandedOnToProgramsThatAreStarted) {
  start();
  const auto fd = connect();
  send(fd.get(), "{\"v\":1,\"op\":\"status\"}\n");
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("guest"));
  int connections = 0;
  for (int other = 3; other < 256; ++other) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(other, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid == 0) continue;
    ++connections;
    EXPECT_NE(::fcntl(other, F_GETFD) & FD_CLOEXEC, 0) << "descriptor " << other;
  }
  EXPECT_GE(connections, 2);  // the client's end and the server's
}

TEST_F(Control, RequestBeforeAHalfCloseIsStillAnswered) {
  start();
  const auto fd = connect();
  send(fd.get(), "{\"v\":1,\"op\":\"status\"}\n");
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("guest"));
  EXPECT_EQ(receive_line(fd.get()), "");
}

TEST_F(Control, GarbageIsAnsweredWithItsErrorAndTheConnectionLives) {
  start();
  const auto fd = connect();
  const std::pair<std::string, std::string> table[] = {
      {"\n", "bad-request"},
      {"hello\n", "bad-request"},
      {std::string("\0\xff\n", 3), "bad-request"},
      {"[1]\n", "bad-request"},
      {"{}\n", "bad-version"},
      {"{\"v\":2,\"op\":\"status\"}\n", "bad-version"},
      {"{\"v\":\"1\",\"op\":\"status\"}\n", "bad-version"},
      {"{\"v\":1}\n", "bad-request"},
      {"{\"v\":1,\"op\":{}}\n", "bad-request"},
      {std::string(4000, '[') + "\n", "bad-request"},
      {"{\"v\":1,\"op\":\"throw\"}\n", "internal"},
      {"{\"v\":1,\"op\":\"huge\"}\n", "reply-too-large"},
  };
  for (const auto& [request, code] : table) {
    send(fd.get(), request);
    EXPECT_THAT(receive_line(fd.get()), HasSubstr("\"code\":\"" + code + "\"")) << request;
  }
  expect_honest_client_is_answered();
}

TEST_F(Control, LineOfExactlyTheLimitIsReadAndOneByteMoreEndsTheConnection) {
  start();
  const auto fd = connect();
  std::string request = "{\"v\":1,\"op\":\"status\"}";
  request += std::string(control_request_bytes_max - 1 - request.size(), ' ') + "\n";
  send(fd.get(), request);
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("guest"));
  send(fd.get(), std::string(control_request_bytes_max, ' '));
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("line-too-long"));
  EXPECT_EQ(receive_line(fd.get()), "");
  expect_honest_client_is_answered();
}

TEST_F(Control, LargestReplyArrivesWhole) {
  start();
  const auto reply = control_request(path_, "large");
  ASSERT_TRUE(reply.has_value()) << reply.error().text;
  EXPECT_EQ(json_text(*reply, "text").size(), control_reply_bytes_max - 100);
}

TEST_F(Control, ClientsThatLeaveInTheMiddleAreForgotten) {
  start();
  for (std::size_t i = 0; i < 3 * control_connections_max; ++i) {
    const auto fd = connect();
    // Some leave half a request, some a request whose 4 MiB answer they never read.
    send(fd.get(), i % 2 == 0 ? "{\"v\":1,\"op" : "{\"v\":1,\"op\":\"large\"}\n");
  }
  // The server may be behind in noticing; being "busy" until then is correct.
  for (int tries = 0; tries < 200; ++tries) {
    if (control_request(path_, "status")) break;
  }
  expect_honest_client_is_answered();
}

TEST_F(Control, ConnectionsAboveTheLimitAreTurnedAwayAndPlacesComeBack) {
  start({.connections_max = 2, .idle_deadline = 30s});
  auto first = connect();
  auto second = connect();
  for (const auto* fd : {&first, &second}) {
    send(fd->get(), "{\"v\":1,\"op\":\"status\"}\n");
    EXPECT_THAT(receive_line(fd->get()), HasSubstr("guest"));
  }
  const auto third = connect();
  EXPECT_THAT(receive_line(third.get()), HasSubstr("\"code\":\"busy\""));
  EXPECT_EQ(receive_line(third.get()), "");
  first.reset();
  bool is_answered = false;
  for (int tries = 0; tries < 1000 && !is_answered; ++tries) {
    is_answered = control_request(path_, "status").has_value();
  }
  EXPECT_TRUE(is_answered);
}

TEST_F(Control, WhatIsHeldForAClientLastsAsLongAsItsConnection) {
  start({.connections_max = 4, .idle_deadline = 50ms});
  auto conversation = control_converse(path_, {{"op", "hold"}});
  ASSERT_TRUE(conversation.has_value()) << conversation.error().text;
  EXPECT_EQ(json_text(conversation->reply, "role"), "guest");
  std::this_thread::sleep_for(200ms);  // far beyond the deadline
  EXPECT_EQ(keep_.use_count(), 2);
  send(conversation->connection.get(), "{\"v\":1,\"op\":\"hold\"}\n");
  EXPECT_NE(receive_line(conversation->connection.get()), "");
  EXPECT_EQ(keep_.use_count(), 2) << "another in its place";
  conversation->connection.reset();
  for (int i = 0; i < 1000 && keep_.use_count() > 1; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(keep_.use_count(), 1);
  expect_honest_client_is_answered();
}

TEST_F(Control, IdleAndTricklingClientsAreCutAtTheDeadline) {
  start({.connections_max = 4, .idle_deadline = 50ms});
  const auto idle = connect();
  const auto trickling = connect();
  send(trickling.get(), "{\"v\":1");
  const auto not_reading = connect();
  send(not_reading.get(), "{\"v\":1,\"op\":\"large\"}\n");
  // Each of these returns only because the server closed.
  EXPECT_EQ(receive_line(idle.get()), "");
  EXPECT_EQ(receive_line(trickling.get()), "");
  pollfd hung_up = {not_reading.get(), 0, 0};
  ASSERT_EQ(::poll(&hung_up, 1, 10000), 1);
  EXPECT_NE(hung_up.revents & POLLHUP, 0);
  expect_honest_client_is_answered();
}

// A byte now and then must not keep a place for ever.
TEST_F(Control, ClientThatSendsAByteNowAndThenIsCutAllTheSame) {
  start({.connections_max = 4, .idle_deadline = 50ms});
  const auto trickling = connect();
  int sent = 0;
  pollfd cut = {trickling.get(), POLLIN, 0};
  while (::poll(&cut, 1, 5) == 0 && sent < 1000) {
    ::send(trickling.get(), "{", 1, MSG_NOSIGNAL);
    ++sent;
  }
  EXPECT_LT(sent, 1000) << "ten times the deadline and more";
  EXPECT_GT(sent, 0);
}

// In one thread, so that the test decides when the server runs.
TEST_F(Control, ClientThatCameWhileNoDescriptorsWereLeftIsAnsweredLater) {
  auto listener = listen_unix(path_, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
  ASSERT_TRUE(listener.has_value());
  ControlServer server(io_.get_executor(), std::move(listener->fd), [](const auto&) {
    return boost::json::object{{"role", "guest"}};
  });
  const auto fd = connect();
  send(fd.get(), "{\"v\":1,\"op\":\"status\"}\n");
  {
    const tests::NoDescriptors none_left;
    EXPECT_EQ(io_.poll(), 1U) << "one attempt";
    EXPECT_EQ(io_.poll(), 0U) << "to try again at once would spin";
  }
  pollfd answered = {fd.get(), POLLIN, 0};
  while (::poll(&answered, 1, 0) == 0) ASSERT_EQ(io_.run_one_for(20s), 1U);
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("guest"));
}

TEST_F(Control, StoppedServerClosesItsConnections) {
  start();
  const auto fd = connect();
  send(fd.get(), "{\"v\":1,\"op\":\"status\"}\n");
  EXPECT_THAT(receive_line(fd.get()), HasSubstr("guest"));
  boost::asio::post(io_, [this] { server_->stop(); });
  EXPECT_EQ(receive_line(fd.get()), "");
  EXPECT_EQ(control_request(path_, "status").error().kind, ControlError::Kind::no_daemon);
}

TEST_F(Control, RequestToADaemonThatDoesNotAnswerEndsAtItsDeadline) {
  // Listening, but nobody accepts.
  const auto listener = listen_unix(path_, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
  const auto reply = control_request(path_, "status", 50ms);
  ASSERT_TRUE(reply.has_error());
  EXPECT_EQ(reply.error().kind, ControlError::Kind::failed);
  EXPECT_EQ(reply.error().text, "no answer in time");
}

TEST_F(Control, RequestWithAFullBacklogEndsAtItsDeadline) {
  const auto listener = listen_unix(path_, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 0);
  const auto waiting = connect();
  const auto reply = control_request(path_, "status", 50ms);
  ASSERT_TRUE(reply.has_error());
  EXPECT_EQ(reply.error().text, "no answer in time");
}

TEST(ControlReply, AFailureWithoutWordsIsStillToldInWords) {
  for (const char* line : {R"({"v":1,"ok":false})", R"({"v":1,"ok":false,"error":{}})",
                           R"({"v":1,"ok":false,"error":{"code":"busy","message":""}})"}) {
    const auto reply = parse_control_reply(line);
    ASSERT_TRUE(reply.has_error()) << line;
    EXPECT_EQ(reply.error().text, "the request failed") << line;
  }
}

TEST_F(Control, NoDaemonAndNoPermissionAreToldApart) {
  EXPECT_EQ(control_request(path_, "status").error().kind, ControlError::Kind::no_daemon);
  EXPECT_EQ(control_request("/" + std::string(200, 'x'), "status").error().kind,
            ControlError::Kind::failed);
}

}  // namespace
}  // namespace xenlane::bridge

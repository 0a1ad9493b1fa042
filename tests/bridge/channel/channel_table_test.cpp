// A host's channels against a guest that keeps the session but not always its manners.
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <sstream>

#include "bridge/channel/channel_table.hpp"
#include "bridge/channel/listener.hpp"
#include "bridge/control/client.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/no_descriptors.hpp"
#include "tests/support/patience.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

using std::chrono::milliseconds;

/// A guest that takes every OPEN and answers only if it is told to.
class Guest final : public StreamOwner {
 public:
  void handle_session_up() override { up = true; }
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      ++opens;
      if (answers) driver->mux()->accept(open->id);
    } else if (const auto* refused = std::get_if<Refused>(&event)) {
      refusals[refused->id] = refused->error;
    }
    resets += std::holds_alternative<PeerReset>(event) ? 1 : 0;
  }
  SourceBytes read_source(StreamId, const transport::WritableSpans& to) override {
    const std::string bytes = std::exchange(to_send, "");
    copy_in(to, 0, std::as_bytes(std::span(bytes)));
    return {static_cast<std::uint32_t>(bytes.size()), true};
  }
  void deliver(StreamId, const transport::ReadableSpans&) override {}
  void handle_pass_over() override {}

  SessionDriver* driver = nullptr;
  std::string to_send;
  bool answers = false;
  bool up = false;
  int opens = 0;
  int resets = 0;
  std::map<StreamId, int> refusals;
};

class ChannelTableTest : public testing::Test {
 protected:
  explicit ChannelTableTest(const MuxLimits& guests_limits = {}) {
    auto [host_lane, guest_lane] = transport::MemoryLane::make_pair(65536);
    const auto executor = context.get_executor();
    host_driver.emplace(executor, std::move(host_lane), settings(Role::host), DriverTimeouts{},
                        static_cast<StreamOwner&>(table));
    guest_driver.emplace(executor, std::move(guest_lane), settings(Role::guest, guests_limits),
                         DriverTimeouts{}, static_cast<StreamOwner&>(guest));
    guest.driver = &*guest_driver;
  }
  ~ChannelTableTest() override {
    host_driver->stop("done");
    guest_driver->stop("done");
    context.poll();
  }
  static Session::Settings settings(Role role, const MuxLimits& limits = {}) {
    return {role, {}, {}, 1, limits};
  }

  void add(ChannelConfig config) {
    transport::UniqueFd listener;
    std::string path;
    if (config.end != EndKind::dial) {
      path = dir / config.name.text();
      auto socket = listen_unix(path, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
      ASSERT_TRUE(socket);
      listener = std::move(socket->fd);
    }
    table.add(std::move(config), path, std::move(listener));
  }
  void start() {
    table.attach(*host_driver);
    // As the peer does it (bridge/daemon/peer.cpp).
    boost::asio::co_spawn(context, host_driver->run(),
                          [this](const std::exception_ptr&, const std::string& reason) {
                            table.detach(reason);
                            detached = true;
                          });
    boost::asio::co_spawn(context, guest_driver->run(), boost::asio::detached);
    run_until([this] { return guest.up; });
  }
  /// Runs until `done`; fails rather than hangs.
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      context.run_one_for(milliseconds(10));
    }
    ASSERT_TRUE(done());
  }
  /// True when the socket's other end was closed.
  static bool ended(const transport::UniqueFd& client) {
    pollfd poll{client.get(), POLLIN, 0};
    return ::poll(&poll, 1, 0) > 0;
  }
  const ChannelStats& stats() const { return table.channels().front()->stats; }

  const TempDir dir;
  boost::asio::io_context context{1};
  ChannelTable table{context.get_executor(), Role::host, "web", milliseconds(50), milliseconds(50)};
  Guest guest;
  std::optional<SessionDriver> host_driver;
  std::optional<SessionDriver> guest_driver;
  bool detached = false;
};

ChannelConfig listening(const std::string& name) {
  return {.name = *ChannelName::parse(name), .end = EndKind::listen};
}

ChannelConfig port(const std::string& name) {
  return {.name = *ChannelName::parse(name), .end = EndKind::port};
}

/// What is logged while it lives.
class Log {
 public:
  Log() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_st>(text_)));
  }
  ~Log() { spdlog::set_default_logger(usual_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  bool says(std::string_view what) const { return text_.str().find(what) != std::string::npos; }

 private:
  std::shared_ptr<spdlog::logger> usual_ = spdlog::default_logger();
  std::ostringstream text_;
};

TEST_F(ChannelTableTest, ConnectionThatThePeerNeverAnswersIsRefusedInTime) {
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return ended(*client) && guest.resets > 0; });
  EXPECT_EQ(guest.opens, 1);
  EXPECT_EQ(guest.resets, 1) << "the guest is told that nobody waits any more";
  EXPECT_EQ(stats().open, 0U);
  EXPECT_EQ(stats().refused, 1U);
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ETIMEDOUT);
  EXPECT_EQ(stats().bad_endings.front().message, "web did not answer within 50 ms");
}

TEST_F(ChannelTableTest, SessionThatEndsTakesItsConnectionsAlong) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return stats().open == 1 && guest.opens == 1; });
  EXPECT_FALSE(ended(*client));
  host_driver->stop("the guest was destroyed");
  run_until([&] { return detached; });
  EXPECT_TRUE(ended(*client)) << "or its program waits for ever";
  EXPECT_EQ(stats().open, 0U);
  EXPECT_EQ(stats().broken, 1U);
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ECONNRESET);
  EXPECT_EQ(stats().bad_endings.front().message, "the guest was destroyed");
}

class ChannelTableWithOneOpenAtATime : public ChannelTableTest {
 protected:
  ChannelTableWithOneOpenAtATime() : ChannelTableTest({.open_backlog_max = 1}) {}
};

// What makes room for another stream is a frame that has come; no connection changes with it.
TEST_F(ChannelTableWithOneOpenAtATime, WaitingConnectionGoesOnWhenAnotherIsAnswered) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto first = connect_unix(dir / "a.b");
  const auto second = connect_unix(dir / "a.b");
  ASSERT_TRUE(first && second);
  run_until([&] { return guest.opens == 2; });
  EXPECT_EQ(stats().open, 2U);
  EXPECT_EQ(stats().refused, 0U);
}

TEST_F(ChannelTableTest, ConnectionThatCannotBeAcceptedForWantOfDescriptorsIsAcceptedLater) {
  const Log log;
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  {
    const tests::NoDescriptors none_left;
    run_until([&] { return log.says("a.b: cannot accept: "); });
    EXPECT_EQ(stats().opened, 0U);
  }
  run_until([&] { return guest.opens == 1; });
  EXPECT_EQ(stats().open, 1U);
  EXPECT_FALSE(ended(*client));
}

TEST_F(ChannelTableTest, StreamThatItsOpenerResetsBeforeItHasAPartnerIsForgottenWithItsBytes) {
  add(port("a.b"));
  start();
  const Channel& channel = *table.channels().front();
  Mux& mux = *guest_driver->mux();
  const StreamId id = mux.open(EndShape::port, "a.b");
  guest.to_send = "early";
  mux.source_ready(id);
  guest_driver->wake();
  run_until([&] { return host_driver->mux()->held_bytes() == 5; });
  EXPECT_EQ(channel.waiting_remote.size(), 1U);
  mux.reset(id, StreamError::cancelled);
  guest_driver->wake();
  run_until([&] { return channel.waiting_remote.empty(); });
  EXPECT_EQ(host_driver->mux()->held_bytes(), 0U);
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return channel.waiting_local.size() == 1; });
  EXPECT_FALSE(ended(*client)) << "it waits for a partner that lives";
}

TEST_F(ChannelTableTest, RowOfStreamsThatWaitForPartnersHasAnEnd) {
  add(port("a.b"));
  start();
  Mux& mux = *guest_driver->mux();
  for (std::size_t i = 0; i < port_waiting_max; ++i) mux.open(EndShape::port, "a.b");
  const StreamId last = mux.open(EndShape::port, "a.b");
  guest_driver->wake();
  run_until([&] { return !guest.refusals.empty(); });
  EXPECT_EQ(guest.refusals, (std::map<StreamId, int>{{last, EAGAIN}}));
  EXPECT_EQ(table.channels().front()->waiting_remote.size(), port_waiting_max);
  EXPECT_EQ(stats().refused, 1U);
}

TEST_F(ChannelTableTest, PeerThatGoesAwayMaySayWhyInOneLine) {
  const Log log;
  start();
  guest_driver->mux()->go_away("updating\nerror: not my line");
  guest_driver->wake();
  run_until([&] { return log.says("web: goes away: updating\\x0aerror: not my line"); });
}

// The table is looked up by text, so that a name which is none would find nothing; but it says so
// before anything is done with it.
TEST_F(ChannelTableTest, NamesOfThePeerAreCheckedBeforeTheyAreUsed) {
  add(listening("a.b"));
  start();
  Mux& mux = *guest_driver->mux();
  const std::map<std::string, int> expected{{"../a.b", EINVAL},
                                            {"a/b", EINVAL},
                                            {std::string("a.b\0", 4), EINVAL},
                                            {"-a", EINVAL},
                                            {std::string(1, '\n'), EINVAL},
                                            {"a.c", ENOENT},
                                            {"A.B", ENOENT},
                                            {"a.b", EPROTOTYPE}};
  std::map<StreamId, std::string> asked;
  for (const auto& [name, error] : expected) asked[mux.open(EndShape::service, name)] = name;
  guest_driver->wake();
  run_until([&] { return guest.refusals.size() == expected.size(); });
  for (const auto& [id, name] : asked) EXPECT_EQ(guest.refusals[id], expected.at(name)) << name;
}

}  // namespace
}  // namespace xenlane::bridge

// A host's channels against a guest that keeps the session but not always its manners.
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <vector>

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
  explicit Guest(Session& of) : session(of) {}

  void handle_session_up() override { up = true; }
  void handle_session_ended(int, const std::string&) override { up = false; }
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      ++opens;
      open_streams.push_back(open->id);
      if (answers) session.mux()->accept(open->id);
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
  void deliver(StreamId id, const transport::ReadableSpans& payload) override {
    received += payload.size();
    session.mux()->delivered(id, payload.size());
  }
  void handle_pass_over() override {}

  /// Ends its own direction of every stream.
  void close_all() {
    for (const StreamId id : open_streams) {
      if (session.mux()->has_stream(id)) session.mux()->finish(id);
    }
    session.wake();
  }

  Session& session;
  std::string to_send;
  bool answers = false;
  bool up = false;
  int opens = 0;
  std::size_t received = 0;
  std::vector<StreamId> open_streams;
  int resets = 0;
  std::map<StreamId, int> refusals;
};

class ChannelTableTest : public testing::Test {
 protected:
  explicit ChannelTableTest(const MuxLimits& guests_limits = {},
                            std::uint16_t guests_version = protocol_version_max)
      : guest_session({Role::guest, id_of(2), guests_limits, guests_version}) {
    connect();
  }
  ~ChannelTableTest() override {
    host_driver->stop("done");
    guest_driver->stop("done");
    context.poll();
  }
  static RandomId id_of(std::uint8_t value) {
    RandomId id;
    id.fill(std::byte{value});
    return id;
  }
  /// A lane between the two, in place of the one before.
  void connect() {
    auto [host_lane, guest_lane] = transport::MemoryLane::make_pair(65536);
    const auto executor = context.get_executor();
    host_driver.emplace(executor, std::move(host_lane), host_session,
                        LaneTerms{.epoch = 1, .fresh_id = id_of(9)}, DriverTimeouts{},
                        static_cast<StreamOwner&>(table));
    guest_driver.emplace(executor, std::move(guest_lane), guest_session, LaneTerms{.epoch = 1},
                         DriverTimeouts{}, static_cast<StreamOwner&>(guest));
  }
  /// As the daemon does it when there will be no lane (bridge/daemon/peer.cpp).
  void end_session(int error, const std::string& reason) {
    table.handle_session_ended(error, reason);
    host_session.end();
    host_driver->stop(reason);
  }

  void add(ChannelConfig config) {
    transport::UniqueFd listener;
    std::string path;
    if (config.end != EndKind::dial) {
      path = dir / config.name.text();
      auto socket =
          listen_unix(path, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8, config.socket);
      ASSERT_TRUE(socket);
      listener = std::move(socket->fd);
    }
    table.add(std::move(config), path, std::move(listener));
  }
  void start() {
    boost::asio::co_spawn(context, host_driver->run(), boost::asio::detached);
    boost::asio::co_spawn(context, guest_driver->run(), boost::asio::detached);
    run_until([this] { return guest_session.state() == SessionState::up; });
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
  Session host_session{{Role::host, id_of(1), {}}};
  Session guest_session;
  ChannelTable table{context.get_executor(), host_session, "web", milliseconds(50),
                     milliseconds(50)};
  Guest guest{guest_session};
  std::optional<SessionDriver> host_driver;
  std::optional<SessionDriver> guest_driver;
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
  end_session(ECONNRESET, "the guest was destroyed");
  EXPECT_TRUE(ended(*client)) << "or its program waits for ever";
  EXPECT_EQ(stats().open, 0U);
  EXPECT_EQ(stats().broken, 1U);
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ECONNRESET);
  EXPECT_EQ(stats().bad_endings.front().message, "the guest was destroyed");
}

// The two sides do not agree on what was sent any more: whoever asks for the reason is told so.
TEST_F(ChannelTableTest, ConnectionsSayWhyTheirSessionEnded) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return guest.opens == 1; });
  end_session(ENETRESET, "the other side's bridge began anew");
  EXPECT_TRUE(ended(*client));
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, ENETRESET);
  EXPECT_FALSE(stats().bad_endings.front().refused);
}

TEST_F(ChannelTableTest, ConnectionsOutliveTheirLane) {
  guest.answers = true;
  add(listening("a.b"));
  start();
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  run_until([&] { return guest.opens == 1; });
  host_driver->stop("the lane broke");
  guest_driver->stop("the lane broke");
  EXPECT_EQ(host_session.state(), SessionState::cut);
  context.poll();
  EXPECT_FALSE(ended(*client));
  // One that comes while there is no lane is opened over the next.
  const auto meanwhile = connect_unix(dir / "a.b");
  ASSERT_TRUE(meanwhile);
  run_until([&] { return stats().open == 2; });
  EXPECT_EQ(guest.opens, 1);
  connect();
  start();
  run_until([&] { return guest.opens == 2; });
  EXPECT_FALSE(ended(*client) || ended(*meanwhile));
  EXPECT_EQ(stats().broken, 0U);
  EXPECT_EQ(stats().refused, 0U);
}

// What a channel's `lane` asks for lasts as long as its connections do.
TEST_F(ChannelTableTest, ConnectionsOfAnEagerChannelWantTheVchan) {
  guest.answers = true;
  ChannelConfig eager = listening("a.b");
  eager.lane = LanePreference::vchan;
  add(std::move(eager));
  add(listening("a.c"));
  start();
  const auto other = connect_unix(dir / "a.c");
  run_until([&] { return guest.opens == 1; });
  EXPECT_FALSE(table.wants_vchan());
  auto first = connect_unix(dir / "a.b");
  auto second = connect_unix(dir / "a.b");
  ASSERT_TRUE(first && second);
  run_until([&] { return guest.opens == 3; });
  EXPECT_TRUE(table.wants_vchan());
  first->reset();
  guest.close_all();
  run_until([&] { return stats().open == 1; });
  EXPECT_TRUE(table.wants_vchan()) << "one is left";
  second->reset();
  run_until([&] { return stats().open == 0; });
  EXPECT_FALSE(table.wants_vchan());
}

TEST_F(ChannelTableTest, EagernessEndsWithTheSession) {
  guest.answers = true;
  ChannelConfig eager = listening("a.b");
  eager.lane = LanePreference::vchan;
  add(std::move(eager));
  start();
  const auto client = connect_unix(dir / "a.b");
  run_until([&] { return guest.opens == 1; });
  EXPECT_TRUE(table.wants_vchan());
  end_session(ECONNRESET, "the guest was destroyed");
  EXPECT_FALSE(table.wants_vchan());
}

// A backup may take all night on the console: its bytes are no reason for a vchan.
TEST_F(ChannelTableTest, BytesOfAWeightlessChannelDoNotCount) {
  guest.answers = true;
  ChannelConfig weightless = listening("a.b");
  weightless.lane = LanePreference::console;
  add(std::move(weightless));
  add(listening("a.c"));
  start();
  const auto slow = connect_unix(dir / "a.b");
  ASSERT_TRUE(slow);
  ASSERT_EQ(::send(slow->get(), "twelve bytes", 12, 0), 12);
  run_until([&] { return guest.received == 12; });
  EXPECT_EQ(host_session.mux()->period_volume(), 0U);
  const auto fast = connect_unix(dir / "a.c");
  ASSERT_TRUE(fast);
  ASSERT_EQ(::send(fast->get(), "five.", 5, 0), 5);
  run_until([&] { return guest.received == 17; });
  EXPECT_EQ(host_session.mux()->period_volume(), 5U);
  EXPECT_FALSE(table.wants_vchan());
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

class ChannelTableWithAnOldGuest : public ChannelTableTest {
 protected:
  ChannelTableWithAnOldGuest() : ChannelTableTest({}, 2) {}
};

TEST_F(ChannelTableWithAnOldGuest, RefusesMessagesHereAndCarriesStreams) {
  ChannelConfig messages = listening("a.messages");
  messages.socket = SocketKind::seqpacket;
  add(messages);
  add(listening("a.stream"));
  guest.answers = true;
  start();
  const transport::UniqueFd client(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (dir / "a.messages").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  run_until([&] { return ended(client); });
  ASSERT_EQ(stats().bad_endings.size(), 1U);
  EXPECT_EQ(stats().bad_endings.front().error, EPROTONOSUPPORT);
  EXPECT_EQ(stats().bad_endings.front().message,
            "web speaks version 2 of the protocol, in which there are no messages; upgrade it");
  EXPECT_EQ(guest.opens, 0);
  const auto stream = connect_unix(dir / "a.stream");
  ASSERT_TRUE(stream);
  run_until([&] { return guest.opens == 1; });
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
  run_until([&] { return channel.waiting_remote.size() == 1 && guest.to_send.empty(); });
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

TEST_F(ChannelTableTest, LoneStreamOfAPortMaySaySoMuchAndThenHasToWait) {
  constexpr std::uint64_t limit = 40 * 1024;
  constexpr std::size_t piece = 1024;
  ChannelConfig config = port("a.b");
  config.byte_limit = limit;
  add(config);
  start();
  Mux& mux = *guest_driver->mux();
  const StreamId id = mux.open(EndShape::port, "a.b");
  const auto received = [&] { return host_driver->mux()->counters().data_bytes_in; };
  int quiet = 0;
  for (std::uint64_t before = 0; quiet < 20; before = received()) {
    if (guest.to_send.empty()) guest.to_send.assign(piece, 'w');
    mux.source_ready(id);
    guest_driver->wake();
    for (int i = 0; i < 20; ++i) context.poll_one();
    quiet = received() > before ? 0 : quiet + 1;
  }
  EXPECT_GT(received(), limit);
  EXPECT_LE(received(), limit + MuxLimits{}.stream_window_bytes_min + piece);
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  std::uint64_t heard = 0;
  const std::uint64_t said = received();
  run_until([&] {
    char bytes[4096];
    const ssize_t got = ::recv(client->get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got > 0) heard += static_cast<std::uint64_t>(got);
    return heard >= said;
  });
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

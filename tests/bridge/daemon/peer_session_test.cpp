// A daemon's session and its lanes: how long it waits for another one, what becomes of its streams
// meanwhile, and which lane it asks for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <deque>
#include <functional>
#include <sstream>

#include "bridge/channel/listener.hpp"
#include "bridge/control/client.hpp"
#include "bridge/control/protocol.hpp"
#include "bridge/daemon/peer.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/patience.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using transport::MemoryLane;

constexpr std::uint32_t ring_bytes = 16 * 1024;

/// One daemon's part of it.
struct Side {
  Side(boost::asio::io_context& context, Role role, const BridgeConfig& config)
      : io(context),
        peer(context.get_executor(), role, role == Role::host ? "web" : "host", config) {
    peer.on_lanes_changed([this] { ++changes; });
  }
  void run(LaneKind kind, std::unique_ptr<MemoryLane> lane, std::uint64_t epoch) {
    std::string& reason = ended.emplace_back();
    boost::asio::co_spawn(
        io, peer.run_lane(kind, std::move(lane), epoch),
        [&reason](const std::exception_ptr&, std::string why) { reason = std::move(why); });
  }
  std::string state() const {
    return std::string(peer.status().at("session").at("state").as_string());
  }
  std::string lane(const char* what) const {
    return std::string(peer.status().at("lane").at(what).as_string());
  }

  boost::asio::io_context& io;
  Peer peer;
  std::deque<std::string> ended;  ///< why each lane ended; empty while it has not
  int changes = 0;
};

class PeerLanes : public testing::Test {
 protected:
  PeerLanes() { config.timeouts.resume_ms = 100; }

  void start() {
    host = std::make_unique<Side>(io, Role::host, config);
    guest = std::make_unique<Side>(io, Role::guest, config);
  }
  void connect(LaneKind kind = LaneKind::vchan) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring_bytes);
    host->run(kind, std::move(host_lane), ++epoch);
    guest->run(kind, std::move(guest_lane), epoch);
  }
  /// A listening channel on the host whose connections the guest dials to a socket of the test's.
  void add_channel(LanePreference lane = LanePreference::any) {
    ChannelConfig listens{.name = *ChannelName::parse("a.b"), .end = EndKind::listen};
    auto socket = listen_unix(dir / "a.b", 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
    ASSERT_TRUE(socket);
    host->peer.channels().add(listens, dir / "a.b", std::move(socket->fd));
    auto served = listen_unix(dir / "x", 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
    ASSERT_TRUE(served);
    target = std::move(served->fd);
    ChannelConfig dials{.name = *ChannelName::parse("a.b"), .end = EndKind::dial};
    dials.target = *Target::parse("unix:" + (dir / "x"));
    dials.lane = lane;
    guest->peer.channels().add(dials, {}, {});
  }
  /// A program on the host that talks to a service in the guest.
  void open_stream() {
    auto socket = connect_unix(dir / "a.b");
    ASSERT_TRUE(socket);
    client = std::move(*socket);
    run_until([&] { return readable(target); });
    service = transport::UniqueFd(::accept4(target.get(), nullptr, nullptr, SOCK_NONBLOCK));
    ASSERT_TRUE(carries("hello"));
  }
  /// Bytes that the program sends reach the service.
  bool carries(std::string_view text) {
    if (::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) return false;
    std::string got;
    run_until([&] {
      char buffer[8192];
      const auto count = ::recv(service.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (count > 0) got.append(buffer, static_cast<std::size_t>(count));
      return got.size() >= text.size() || count == 0;
    });
    return got == text;
  }
  static bool readable(const transport::UniqueFd& socket) {
    pollfd poll{socket.get(), POLLIN, 0};
    return ::poll(&poll, 1, 0) > 0;
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    io.restart();
    while (!done() && std::chrono::steady_clock::now() < deadline) io.run_one_for(10ms);
    ASSERT_TRUE(done());
  }
  void run_until_up() {
    run_until([&] { return host->peer.session_up() && guest->peer.session_up(); });
  }
  /// The lane is gone for both sides.
  void cut() {
    host->peer.stop_lane(LaneKind::vchan, "the lane broke");
    guest->peer.stop_lane(LaneKind::vchan, "the lane broke");
    run_until([&] { return !host->ended.back().empty() && !guest->ended.back().empty(); });
  }

  const TempDir dir;
  BridgeConfig config;
  boost::asio::io_context io{1};
  std::uint64_t epoch = 0;
  transport::UniqueFd target;
  transport::UniqueFd client;
  transport::UniqueFd service;
  std::unique_ptr<Side> host;
  std::unique_ptr<Side> guest;
};

TEST_F(PeerLanes, StreamsOutliveALaneThatIsReplacedInTime) {
  config.timeouts.resume_ms = 100'000;
  start();
  add_channel();
  connect();
  open_stream();
  cut();
  EXPECT_EQ(host->state(), "cut");
  EXPECT_EQ(host->lane("kind"), "none");
  EXPECT_FALSE(readable(client));
  connect();
  EXPECT_TRUE(carries("and on"));
  EXPECT_EQ(host->state(), "up");
  EXPECT_EQ(host->peer.status().at("lane").at("switches").to_number<int>(), 1);
  EXPECT_EQ(host->peer.status().at("counters").at("sessions").to_number<int>(), 1);
  EXPECT_TRUE(guest->peer.carries(LaneKind::vchan));
}

TEST_F(PeerLanes, StreamsBreakWhenNoOtherLaneComesInTime) {
  start();
  add_channel();
  connect();
  open_stream();
  cut();
  EXPECT_FALSE(readable(client)) << "there is time yet";
  run_until([&] { return readable(client); });
  EXPECT_EQ(host->state(), "down");
  const std::string why = "the lane broke; no other lane within 100 ms";
  EXPECT_EQ(host->peer.status().at("session").at("reason").as_string(), why);
  const auto& ending = host->peer.channels().channels().front()->stats.bad_endings.front();
  EXPECT_EQ(ending.error, ECONNRESET);
  EXPECT_EQ(ending.message, why);
  // What comes next is another session.
  connect();
  run_until_up();
  EXPECT_EQ(host->peer.status().at("counters").at("sessions").to_number<int>(), 2);
  open_stream();
}

// A guest that only ever offers lanes, and never says HELLO, must not hold its streams for ever.
TEST_F(PeerLanes, LanesThatCarryNothingGiveNoMoreTime) {
  start();
  add_channel();
  connect();
  open_stream();
  cut();
  const auto deadline = std::chrono::steady_clock::now() + test::patience();
  while (host->state() == "cut" && std::chrono::steady_clock::now() < deadline) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring_bytes);
    host->run(LaneKind::vchan, std::move(host_lane), ++epoch);
    guest_lane.reset();
    run_until([&] { return !host->ended.back().empty(); });
  }
  EXPECT_EQ(host->state(), "down");
  run_until([&] { return readable(client); });
}

TEST_F(PeerLanes, EndOfTheSessionIsToldToTheOtherSide) {
  config.timeouts.resume_ms = 100'000;
  start();
  add_channel();
  connect();
  open_stream();
  host->peer.end_session(ECONNRESET, "shutting down");
  run_until([&] { return guest->state() == "down"; });
  EXPECT_EQ(guest->peer.status().at("session").at("reason").as_string(),
            "the other side's bridge has stopped");
  run_until([&] { return readable(client) && readable(service); });
}

// --- which lane

/// Both lanes, the vchan carrying and the console on standby.
class PeerLanesBoth : public PeerLanes {
 protected:
  void start_both(LaneMode mode = LaneMode::always) {
    config.timeouts.resume_ms = 100'000;
    config.lanes.policy.mode = mode;
    start();
    for (Side* side : {host.get(), guest.get()}) side->peer.set_console_present(true);
    connect(LaneKind::vchan);
    run_until_up();
    connect(LaneKind::console);
    run_until([&] { return io.poll() == 0; });
  }
  void run_until_on(LaneKind kind) {
    run_until([&] { return host->peer.carries(kind) && guest->peer.carries(kind); });
  }
};

TEST_F(PeerLanesBoth, ForcingTheConsoleLeavesTheVchan) {
  start_both();
  EXPECT_TRUE(guest->peer.wants_vchan());
  guest->changes = 0;
  host->peer.force_lane(LaneForce::console);
  run_until_on(LaneKind::console);
  EXPECT_TRUE(host->peer.refuses_vchan());
  EXPECT_FALSE(guest->peer.wants_vchan()) << "the host's wish counts for the guest";
  EXPECT_FALSE(guest->peer.refuses_vchan());
  EXPECT_GT(guest->changes, 0);
  EXPECT_EQ(host->lane("set"), "console");
  EXPECT_EQ(host->lane("why"), "set by hand");
  EXPECT_EQ(guest->lane("peer_wish"), "console");
  EXPECT_EQ(guest->lane("why"), "the other side wants no vchan");
  EXPECT_EQ(guest->peer.status().at("lane").at("switches").to_number<int>(), 1);
  run_until([&] { return !host->ended[0].empty() && !guest->ended[0].empty(); });
}

TEST_F(PeerLanesBoth, AutomaticAgainTheVchanIsWantedAgain) {
  start_both();
  host->peer.force_lane(LaneForce::console);
  run_until_on(LaneKind::console);
  host->peer.force_lane(LaneForce::automatic);
  run_until([&] { return guest->peer.wants_vchan(); });
  EXPECT_EQ(host->lane("set"), "auto");
  connect(LaneKind::vchan);
  run_until_on(LaneKind::vchan);
  EXPECT_EQ(host->lane("kind"), "memory");
}

TEST_F(PeerLanesBoth, ForcingTheVchanAsksForOne) {
  config.timeouts.resume_ms = 100'000;
  start();
  for (Side* side : {host.get(), guest.get()}) side->peer.set_console_present(true);
  connect(LaneKind::console);
  run_until_on(LaneKind::console);
  EXPECT_FALSE(guest->peer.wants_vchan());
  host->peer.force_lane(LaneForce::vchan);
  run_until([&] { return guest->peer.wants_vchan(); });
  EXPECT_EQ(guest->lane("peer_wish"), "vchan");
  EXPECT_EQ(guest->lane("why"), "the other side asked for it");
  connect(LaneKind::vchan);
  run_until_on(LaneKind::vchan);
}

TEST_F(PeerLanesBoth, BulkAsksForAVchanAndTheStreamMovesOver) {
  config.lanes.policy.volume_bytes = 4096;
  start();
  add_channel();
  for (Side* side : {host.get(), guest.get()}) side->peer.set_console_present(true);
  connect(LaneKind::console);
  run_until_on(LaneKind::console);
  open_stream();
  EXPECT_FALSE(guest->peer.wants_vchan());
  EXPECT_TRUE(carries(std::string(5000, 'x')));
  run_until([&] { return guest->peer.wants_vchan(); });
  connect(LaneKind::vchan);
  run_until_on(LaneKind::vchan);
  EXPECT_TRUE(carries("and on"));
}

TEST_F(PeerLanesBoth, OpenConnectionOfAnEagerChannelAsksForAVchan) {
  start();
  add_channel(LanePreference::vchan);
  for (Side* side : {host.get(), guest.get()}) side->peer.set_console_present(true);
  connect(LaneKind::console);
  run_until_on(LaneKind::console);
  EXPECT_FALSE(guest->peer.wants_vchan());
  open_stream();
  EXPECT_TRUE(guest->peer.wants_vchan());
}

/// What is logged while it lives, everything.
class DebugLog {
 public:
  DebugLog() {
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_st>(text_));
    logger->set_level(spdlog::level::debug);
    spdlog::set_default_logger(std::move(logger));
  }
  ~DebugLog() { spdlog::set_default_logger(usual_); }
  DebugLog(const DebugLog&) = delete;
  DebugLog& operator=(const DebugLog&) = delete;
  std::size_t lines() const {
    const std::string text = text_.str();
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }

 private:
  std::shared_ptr<spdlog::logger> usual_ = spdlog::default_logger();
  std::ostringstream text_;
};

TEST_F(PeerLanes, PeerThatChangesItsMindAllTheTimeFillsNoLog) {
  start();
  host->peer.set_console_present(true);
  auto [host_lane, other] = MemoryLane::make_pair(ring_bytes);
  host->run(LaneKind::vchan, std::move(host_lane), 1);
  const auto put = [&other = other](std::span<const std::byte> bytes) {
    copy_in(other->writable(), 0, bytes);
    other->commit(bytes.size());
    other->publish();
  };
  Greeting greeting;
  greeting.version_min = greeting.version_max = protocol_version_max;
  greeting.epoch = greeting.turn = 1;
  greeting.limits = MuxLimits{};
  put(encode_handshake(Hello{greeting}).view());
  run_until([&] { return host->peer.session_up(); });
  const DebugLog log;
  for (int i = 0; i < 500; ++i) {
    put(encode_frame(LaneWishFrame{i % 2 == 0 ? LaneWish::vchan : LaneWish::console}).view());
  }
  run_until([&] { return other->writable().size() == ring_bytes; });
  EXPECT_LT(log.lines(), 30U);
}

}  // namespace
}  // namespace xenlane::bridge

// Two session drivers over a memory lane in one io_context: what only shows when lane, session and
// mux meet. The streams' local ends are strings.
#include "bridge/session/driver.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <map>

#include "tests/support/patience.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

using transport::MemoryLane;
using namespace std::chrono_literals;

constexpr std::uint32_t ring_bytes = 8192;

RandomId id_of(std::uint8_t value) {
  RandomId id;
  id.fill(std::byte{value});
  return id;
}

/// Local ends in memory: what each stream has to send and what came for it.
class Script final : public StreamOwner {
 public:
  SessionDriver* driver = nullptr;
  std::map<StreamId, std::string> to_send;
  std::map<StreamId, std::string> received;
  std::map<StreamId, bool> finished;
  bool up = false;
  bool keep_open = false;  ///< streams stay open when all is sent
  std::function<void()> on_up;
  std::function<void()> on_first_bytes;

  void send(StreamId id, std::string text) {
    to_send[id] = std::move(text);
    driver->mux()->source_ready(id);
    driver->wake();
  }

  void handle_session_up() override {
    up = true;
    if (on_up) on_up();
  }
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      driver->mux()->accept(open->id);
    } else if (const auto* end = std::get_if<PeerFinished>(&event)) {
      finished[end->id] = true;
    }
  }
  void handle_pass_over() override {}
  SourceBytes read_source(StreamId id, const transport::WritableSpans& to) override {
    std::string& text = to_send[id];
    if (text.empty()) {
      if (!keep_open) driver->mux()->finish(id);
      return {0, true};
    }
    const std::size_t count = std::min(text.size(), to.size());
    copy_in(to, 0, std::as_bytes(std::span(text).first(count)));
    text.erase(0, count);
    return {static_cast<std::uint32_t>(count), false};
  }
  void deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) override {
    for (const auto part : {untrusted_payload.first, untrusted_payload.second}) {
      received[id].append(reinterpret_cast<const char*>(part.data()), part.size());
    }
    driver->mux()->delivered(id, untrusted_payload.size());
    if (on_first_bytes) std::exchange(on_first_bytes, nullptr)();
  }
};

struct Side {
  Side(boost::asio::io_context& io, Role role, std::unique_ptr<MemoryLane> memory_lane,
       const DriverTimeouts& timeouts)
      : lane(memory_lane.get()),
        driver(io.get_executor(), std::move(memory_lane),
               {role, id_of(9), id_of(role == Role::host ? 1 : 2), 7, {}}, timeouts, script) {
    script.driver = &driver;
    boost::asio::co_spawn(io, driver.run(), [this](const std::exception_ptr&, std::string reason) {
      ended = std::move(reason);
      driver.release_lane();  // closes it
    });
  }
  MemoryLane* lane;
  Script script;
  SessionDriver driver;
  std::optional<std::string> ended;
};

std::string reason(const Side& side) {
  return side.ended.value_or("(still up)");
}

class Driver : public testing::Test {
 protected:
  void start(const DriverTimeouts& timeouts = {}) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring_bytes);
    host = std::make_unique<Side>(io, Role::host, std::move(host_lane), timeouts);
    guest = std::make_unique<Side>(io, Role::guest, std::move(guest_lane), timeouts);
  }
  /// The host alone; the other end of the lane is the test's to play with.
  std::unique_ptr<MemoryLane> start_host(const DriverTimeouts& timeouts = {}) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring_bytes);
    host = std::make_unique<Side>(io, Role::host, std::move(host_lane), timeouts);
    return std::move(guest_lane);
  }
  /// Runs until `done`; fails rather than hangs.
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) io.run_one_for(100ms);
    ASSERT_TRUE(done());
  }
  void run_until_up() {
    run_until([this] { return host->script.up && (!guest || guest->script.up); });
  }

  boost::asio::io_context io;
  std::unique_ptr<Side> host;
  std::unique_ptr<Side> guest;
};

/// Puts bytes into a lane by hand.
void put(MemoryLane& lane, std::span<const std::byte> bytes) {
  ASSERT_GE(lane.writable().size(), bytes.size());
  copy_in(lane.writable(), 0, bytes);
  lane.commit(bytes.size());
  lane.publish();
}

EncodedHandshake hello(std::uint16_t version = 1) {
  Greeting greeting;
  greeting.version_min = greeting.version_max = version;
  greeting.epoch = 7;
  greeting.limits = MuxLimits{};
  return encode_handshake(Hello{greeting});
}

std::string long_text(std::size_t bytes, char seed) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i)
    text[i] = static_cast<char>(seed + static_cast<char>(i % 61));
  return text;
}

TEST_F(Driver, CarriesBytesBothWaysThroughARingThatIsTooSmallForThem) {
  start();
  run_until_up();
  const std::string there = long_text(3'000'000, 'A');
  const std::string back = long_text(2'000'000, 'a');
  const StreamId id = guest->driver.mux()->open(EndShape::service, "org.example.test");
  guest->script.send(id, there);
  run_until([&] { return host->driver.mux()->has_stream(id); });
  host->script.send(id, back);
  run_until([&] { return host->script.finished[id] && guest->script.finished[id]; });
  EXPECT_TRUE(host->script.received[id] == there);
  EXPECT_TRUE(guest->script.received[id] == back);
  run_until([&] {
    return host->driver.mux()->stream_count() == 0 && guest->driver.mux()->stream_count() == 0;
  });
  EXPECT_FALSE(host->ended || guest->ended);
}

TEST_F(Driver, WhatTheClosingPeerCommittedIsDeliveredFirst) {
  start();
  run_until_up();
  const StreamId id = guest->driver.mux()->open(EndShape::service, "org.example.test");
  guest->script.to_send[id] = long_text(5000, 'A');
  guest->driver.mux()->source_ready(id);
  // The guest goes the moment its bytes are in the ring.
  guest->driver.wake();
  run_until([&] { return guest->script.to_send[id].empty(); });
  guest->driver.stop("enough");
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(host->script.received[id], long_text(5000, 'A'));
  EXPECT_EQ(reason(*host), "the peer closed the lane");
  EXPECT_EQ(reason(*guest), "enough");
}

TEST_F(Driver, BytesLeftByAPeerThatIsGoneAreReadToTheLast) {
  auto other = start_host();
  put(*other, hello().view());
  put(*other, encode_frame(OpenFrame{1, EndShape::service, SocketKind::stream, "a"}).view());
  const std::string text = long_text(6000, 'A');
  put(*other, encode_frame(DataFrame{1, 6000}).view());
  put(*other, std::as_bytes(std::span(text)));
  put(*other, encode_frame(FinishFrame{1, 6000}).view());
  other.reset();
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(host->script.received[1], text);
  EXPECT_TRUE(host->script.finished[1]);
}

TEST_F(Driver, RefusedVersionIsExplainedOnBothSides) {
  auto other = start_host();
  put(*other, hello(2).view());
  run_until([&] { return host->ended.has_value(); });
  EXPECT_TRUE(reason(*host).starts_with("no common protocol version")) << reason(*host);
  const auto bytes = other->readable();
  std::vector<std::byte> reply(bytes.size());
  copy_out(bytes, 0, reply);
  const auto message = decode_handshake(reply);
  ASSERT_TRUE(message.has_value());
  ASSERT_TRUE(std::holds_alternative<Reject>(*message)) << "the peer's only explanation";
  EXPECT_EQ(std::get<Reject>(*message).reason, reason(*host));
}

TEST_F(Driver, HostileIndexEndsTheSession) {
  start();
  run_until_up();
  // Rings of end 0 are the host's to read.
  __atomic_fetch_add(&guest->lane->shared().rings[0].producer, ring_bytes + 1, __ATOMIC_SEQ_CST);
  guest->lane->nudge();
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "the peer wrote an impossible ring index");
}

TEST_F(Driver, BrokenProtocolEndsTheSessionWithTheRule) {
  auto other = start_host();
  put(*other, hello().view());
  put(*other, encode_frame(AcceptFrame{2}).view());
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host),
            "the peer broke the protocol: ACCEPT of nothing that was asked for (protocol section "
            "5.2)");
}

TEST_F(Driver, HandshakeHasADeadline) {
  const auto other = start_host({.handshake = 30ms});
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "no handshake within 30 ms");
}

TEST_F(Driver, HalfAHandshakeHasTheSameDeadline) {
  const auto other = start_host({.handshake = 30ms});
  put(*other, hello().view().first(40));
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "no handshake within 30 ms");
}

TEST_F(Driver, PeerThatReadsNothingIsWokenAgainAndThenGivenUp) {
  const auto other = start_host({.peer_stall = 600ms});
  put(*other, hello().view());
  run_until([&] { return host->ended.has_value(); });
  EXPECT_TRUE(reason(*host).starts_with("the peer has not read for ")) << reason(*host);
  EXPECT_GE(host->driver.counters().nudges, 1U);
}

// A guest that was destroyed: its liveness byte is cleared and no event may come.
TEST_F(Driver, PeerThatGoesWithoutAnEventIsNoticedWhileItOwesReading) {
  const auto other = start_host();
  put(*other, hello().view());
  run_until_up();
  __atomic_store_n(&other->shared().live[1], std::uint8_t{0}, __ATOMIC_SEQ_CST);
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "the peer closed the lane");
}

TEST_F(Driver, ImpossibleIndexWithoutAnEventIsNoticedWhileThePeerOwesReading) {
  const auto other = start_host();
  put(*other, hello().view());
  run_until_up();
  // The consumer counter of the ring that the host writes.
  __atomic_fetch_add(&other->shared().rings[1].consumer, ring_bytes, __ATOMIC_SEQ_CST);
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "the peer wrote an impossible ring index");
}

TEST_F(Driver, SlowReaderIsNotTakenForAStalledOne) {
  const auto other = start_host({.peer_stall = 500ms});
  put(*other, hello().view());
  run_until_up();
  const StreamId id = host->driver.mux()->open(EndShape::service, "org.example.test");
  host->script.send(id, long_text(20'000, 'A'));
  // One byte each time the host has waited in vain.
  std::uint64_t nudges = 0;
  int reads = 0;
  run_until([&] {
    if (host->driver.counters().nudges > nudges) {
      nudges = host->driver.counters().nudges;
      ++reads;
      (void)other->readable();
      other->consume(1);
      other->publish();
    }
    return reads == 4 || host->ended.has_value();
  });
  EXPECT_FALSE(host->ended.has_value());
}

// The peer takes everything, and its event is lost: nobody will say again that there is room.
TEST_F(Driver, LostEventThatToldOfRoomIsMadeGood) {
  const auto other = start_host();
  put(*other, hello().view());
  run_until_up();
  const StreamId id = host->driver.mux()->open(EndShape::service, "org.example.test");
  host->script.send(id, long_text(3 * ring_bytes, 'A'));
  for (int rounds = 0; rounds < 2; ++rounds) {
    std::size_t waiting = 0;
    run_until([&] { return std::exchange(waiting, other->readable().size()) == ring_bytes; });
    other->shared().requests[0] = 0;
    other->consume(ring_bytes);
    other->publish();
  }
  run_until([&] { return !other->readable().empty(); });
}

TEST_F(Driver, RingsTooSmallForTheProtocolAreRefused) {
  auto [host_lane, guest_lane] = MemoryLane::make_pair(2048);
  host = std::make_unique<Side>(io, Role::host, std::move(host_lane), DriverTimeouts{});
  run_until([&] { return host->ended.has_value(); });
  EXPECT_EQ(reason(*host), "the lane's rings of 2048 bytes are smaller than 4096");
}

TEST_F(Driver, RingOfJunkEndsTheSessionAndNothingElse) {
  auto other = start_host();
  put(*other, hello().view());
  std::vector<std::byte> junk(ring_bytes / 2);
  for (std::size_t i = 0; i < junk.size(); ++i) junk[i] = static_cast<std::byte>(i * 7);
  put(*other, junk);
  run_until([&] { return host->ended.has_value(); });
  EXPECT_TRUE(reason(*host).starts_with("the peer broke the protocol: ")) << reason(*host);
}

// A frame costs a system call however small it is: a peer that sends them by the hundred must not
// keep everything else waiting.
TEST_F(Driver, ManySmallFramesLeaveTurnsForOthers) {
  auto [host_lane, other] = MemoryLane::make_pair(64 * 1024);
  host = std::make_unique<Side>(io, Role::host, std::move(host_lane), DriverTimeouts{});
  put(*other, hello().view());
  put(*other, encode_frame(OpenFrame{1, EndShape::service, SocketKind::stream, "a"}).view());
  constexpr std::size_t frames = 2000;
  const std::byte payload{7};
  for (std::size_t i = 0; i < frames; ++i) {
    put(*other, encode_frame(DataFrame{1, 1}).view());
    put(*other, {&payload, 1});
  }
  std::optional<std::size_t> received_at_turn;
  host->script.on_first_bytes = [&] {
    boost::asio::post(io, [&] { received_at_turn = host->script.received[1].size(); });
  };
  run_until([&] { return host->script.received[1].size() == frames; });
  ASSERT_TRUE(received_at_turn.has_value());
  EXPECT_LT(*received_at_turn, frames / 2);
}

// A ring is first come first served: bulk that fills it is what a small message waits for.
TEST_F(Driver, SmallMessagesKeepBulkFromFillingTheRing) {
  constexpr std::uint32_t big_ring = 256 * 1024;
  auto [host_lane, other] = MemoryLane::make_pair(big_ring);
  host = std::make_unique<Side>(io, Role::host, std::move(host_lane), DriverTimeouts{});
  Greeting greeting;
  greeting.version_min = greeting.version_max = 1;
  greeting.epoch = 7;
  greeting.limits.stream_window_bytes_min = greeting.limits.session_window_bytes;
  put(*other, encode_handshake(Hello{greeting}).view());
  run_until_up();
  host->script.keep_open = true;
  const auto unread = [&] { return other->readable().size(); };
  const auto read_all = [&] {
    other->consume(unread());
    other->publish();
  };
  const StreamId bulk = host->driver.mux()->open(EndShape::service, "org.example.bulk");
  const StreamId chat = host->driver.mux()->open(EndShape::service, "org.example.chat");
  host->script.send(bulk, long_text(8'000'000, 'A'));
  run_until([&] { return unread() > big_ring - 2048; });
  host->script.send(chat, "hello");
  // The message cannot overtake what lies in the ring already, but those after it find it short.
  for (int i = 0; i < 3; ++i) {
    read_all();
    run_until([&] { return unread() > 16 * 1024; });
    io.poll();
    EXPECT_LT(unread(), 40'000U);
    host->script.send(chat, "hello");
  }
  // When no more of them come, bulk has the whole ring again.
  const auto deadline = std::chrono::steady_clock::now() + test::patience();
  while (host->driver.send_limit().current() < big_ring) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    read_all();
    io.poll();
  }
}

TEST_F(Driver, WorkThatComesSoonIsFoundWithoutASleep) {
  start({.poll_max = 1s});  // longer than any pause of this machine
  run_until_up();
  guest->script.keep_open = host->script.keep_open = true;
  const StreamId id = guest->driver.mux()->open(EndShape::service, "org.example.test");
  // The guest says a word, the host answers, a few hundred times.
  constexpr std::size_t rounds = 300;
  for (std::size_t i = 1; i <= rounds; ++i) {
    guest->script.send(id, "ping");
    run_until([&] { return host->script.received[id].size() == 4 * i; });
    host->script.send(id, "pong");
    run_until([&] { return guest->script.received[id].size() == 4 * i; });
  }
  for (const Side* side : {host.get(), guest.get()}) {
    const PollBudget& budget = side->driver.poll_budget();
    EXPECT_GT(budget.counters().paid, rounds / 2);
    EXPECT_GT(budget.current(), 0s);
  }
}

TEST_F(Driver, NothingRunsWhileNothingMoves) {
  start({.poll_max = 200us});
  run_until_up();
  const StreamId id = guest->driver.mux()->open(EndShape::service, "org.example.test");
  guest->script.keep_open = host->script.keep_open = true;
  guest->script.send(id, "hello");
  run_until([&] { return host->script.received[id] == "hello"; });
  // The budgets are used up, credit has gone round, the stall timers have looked once.
  run_until([&] { return io.run_one_for(600ms) == 0; });
  EXPECT_EQ(io.run_for(1s), 0U) << "an idle session must not wake up";
}

TEST_F(Driver, StopSaysWhy) {
  start();
  run_until_up();
  host->driver.stop("the test ends");
  run_until([&] { return host->ended && guest->ended; });
  EXPECT_EQ(reason(*host), "the test ends");
  EXPECT_EQ(reason(*guest), "the peer closed the lane");
}

TEST_F(Driver, MayBeDestroyedInMidSession) {
  start();
  run_until_up();
  const StreamId id = guest->driver.mux()->open(EndShape::service, "org.example.test");
  guest->script.send(id, long_text(1'000'000, 'A'));
  host->script.on_first_bytes = [this] { io.stop(); };
  io.run();
  EXPECT_FALSE(host->script.received[id].empty());
}

}  // namespace
}  // namespace xenlane::bridge

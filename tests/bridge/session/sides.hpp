// Both sides of a session in one io_context, over memory lanes that come and go: what only shows
// when lanes, session and mux meet. The streams' local ends are strings.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bridge/session/driver.hpp"
#include "tests/bridge/session/fake_carrier.hpp"
#include "tests/support/patience.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge::test {

using transport::MemoryLane;
using xenlane::test::patience;

/// Local ends in memory: what each stream has to send and what came for it.
class Script final : public StreamOwner {
 public:
  explicit Script(Session& of) : session(of) {}

  Session& session;
  std::map<StreamId, std::string> to_send;
  std::map<StreamId, std::string> received;
  std::map<StreamId, bool> finished;
  int sessions = 0;
  std::vector<std::string> endings;  ///< of sessions, and why
  int last_error = 0;
  bool keep_open = false;  ///< streams stay open when all is sent
  std::function<void()> on_first_bytes;

  void send(StreamId id, std::string text) {
    to_send[id] += std::move(text);
    session.mux()->source_ready(id);
    session.wake();
  }

  void handle_session_up() override { ++sessions; }
  void handle_session_ended(int error, const std::string& reason) override {
    EXPECT_NE(session.mux(), nullptr) << "the mux is still there";
    last_error = error;
    endings.push_back(reason);
  }
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      session.mux()->accept(open->id);
    } else if (const auto* end = std::get_if<PeerFinished>(&event)) {
      finished[end->id] = true;
    }
  }
  void handle_pass_over() override {}
  SourceBytes read_source(StreamId id, const transport::WritableSpans& to) override {
    std::string& text = to_send[id];
    if (text.empty()) {
      if (!keep_open) session.mux()->finish(id);
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
    session.mux()->delivered(id, untrusted_payload.size());
    if (on_first_bytes) std::exchange(on_first_bytes, nullptr)();
  }
};

/// Chooses as it is told to, and remembers what it was told.
class Chooser final : public LaneChooser {
 public:
  bool standby = false;
  std::vector<LaneWish> peer_wishes;
  std::function<void(SessionDriver&)> on_carrying;

  bool prefers_standby() override { return standby; }
  void handle_peer_wish(LaneWish wish) override { peer_wishes.push_back(wish); }
  void handle_carrying(SessionDriver& driver) override {
    if (on_carrying) on_carrying(driver);
  }
  void handle_pass(SessionDriver&) override {}
};

/// One side's end of one lane.
struct LaneEnd {
  MemoryLane* lane = nullptr;
  std::unique_ptr<SessionDriver> driver;
  std::optional<std::string> ended;
};

/// One bridge: its session, and all the lanes there were.
struct Side {
  Side(boost::asio::io_context& context, Role role)
      : io(context), session({role, id_of(role == Role::host ? 1 : 2), {}}) {}

  LaneEnd& add(std::unique_ptr<MemoryLane> lane, LaneTerms terms,
               const DriverTimeouts& timeouts = {}) {
    LaneEnd& end = lanes.emplace_back();
    end.lane = lane.get();
    if (session.role() == Role::host) terms.fresh_id = id_of(static_cast<std::uint8_t>(++fresh));
    end.driver = std::make_unique<SessionDriver>(io.get_executor(), std::move(lane), session, terms,
                                                 timeouts, static_cast<StreamOwner&>(script),
                                                 static_cast<LaneChooser*>(&chooser));
    boost::asio::co_spawn(io, end.driver->run(),
                          [this, &end](const std::exception_ptr&, std::string reason) {
                            end.ended = std::move(reason);
                            end.driver->release_lane();  // closes it
                            // As whoever owns the lanes does: one on standby may be due.
                            for (LaneEnd& other : lanes) {
                              if (!other.ended) other.driver->wake();
                            }
                          });
    return end;
  }
  SessionDriver& driver() { return *lanes.back().driver; }
  Mux& mux() { return *session.mux(); }
  /// Of the last lane.
  const std::optional<std::string>& ended() const { return lanes.back().ended; }

  boost::asio::io_context& io;
  Session session;
  Script script{session};
  Chooser chooser;
  std::deque<LaneEnd> lanes;
  int fresh = 8;
};

inline std::string reason(const LaneEnd& end) {
  return end.ended.value_or("(not ended)");
}
inline std::string reason(const Side& side) {
  return reason(side.lanes.back());
}

/// Two bridges and the lanes between them.
class World {
 public:
  static constexpr std::uint32_t ring_bytes = 8192;
  static constexpr std::uint64_t first_epoch = 7;

  /// Another lane between the two, with the next epoch.
  void connect(const DriverTimeouts& timeouts = {}, bool standby = false,
               std::uint32_t ring = ring_bytes) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring);
    const LaneTerms terms{.epoch = next_epoch++, .standby = standby};
    host.add(std::move(host_lane), terms, timeouts);
    guest.add(std::move(guest_lane), terms, timeouts);
  }
  /// A lane whose guest's end is the test's to play with.
  std::unique_ptr<MemoryLane> connect_host(const DriverTimeouts& timeouts = {},
                                           std::uint32_t ring = ring_bytes) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring);
    host.add(std::move(host_lane), {.epoch = next_epoch++}, timeouts);
    return std::move(guest_lane);
  }
  /// A lane whose host's end is the test's to play with.
  std::unique_ptr<MemoryLane> connect_guest(const DriverTimeouts& timeouts = {},
                                            bool standby = false) {
    auto [host_lane, guest_lane] = MemoryLane::make_pair(ring_bytes);
    guest.add(std::move(guest_lane), {.epoch = next_epoch++, .standby = standby}, timeouts);
    return std::move(host_lane);
  }
  /// Runs until `done`; fails rather than hangs.
  void run_until(const std::function<bool()>& done) {
    io.restart();  // all lanes may have ended before
    const auto deadline = std::chrono::steady_clock::now() + patience();
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      io.run_one_for(std::chrono::milliseconds(100));
    }
    ASSERT_TRUE(done());
  }
  void run_until_up() {
    run_until([this] {
      return host.session.state() == SessionState::up &&
             (guest.lanes.empty() || guest.session.state() == SessionState::up);
    });
  }

  boost::asio::io_context io;
  std::uint64_t next_epoch = first_epoch;
  Side host{io, Role::host};
  Side guest{io, Role::guest};
};

class TwoSides : public testing::Test, public World {};

/// Puts bytes into a lane by hand.
inline void put(MemoryLane& lane, std::span<const std::byte> bytes) {
  ASSERT_GE(lane.writable().size(), bytes.size());
  copy_in(lane.writable(), 0, bytes);
  lane.commit(bytes.size());
  lane.publish();
}

inline void put(MemoryLane& lane, const Frame& frame) {
  put(lane, encode_frame(frame).view());
}

/// What has come over a lane, consumed.
inline Bytes take(MemoryLane& lane) {
  const auto bytes = lane.readable();
  Bytes out(bytes.size());
  copy_out(bytes, 0, out);
  lane.consume(out.size());
  lane.publish();
  return out;
}

/// What a guest of few words says on its first lane.
inline Greeting plain_greeting(std::uint64_t epoch = 7) {
  Greeting greeting;
  greeting.version_min = greeting.version_max = protocol_version_max;
  greeting.epoch = epoch;
  greeting.turn = 1;
  greeting.instance = id_of(2);
  greeting.limits = MuxLimits{};
  return greeting;
}

/// What a host says on a guest's first lane.
inline EncodedHandshake welcome(std::uint64_t epoch = 7) {
  Greeting greeting = plain_greeting(epoch);
  greeting.session = id_of(0xAA);
  greeting.instance = id_of(1);
  return encode_handshake(Welcome{greeting});
}

inline EncodedHandshake hello(const Greeting& greeting = plain_greeting()) {
  return encode_handshake(Hello{greeting});
}

inline std::string long_text(std::size_t bytes, char seed) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i)
    text[i] = static_cast<char>(seed + static_cast<char>(i % 61));
  return text;
}

}  // namespace xenlane::bridge::test

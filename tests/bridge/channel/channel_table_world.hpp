// A host's channel table with a session to a guest that is played by the test, over a memory lane.
#pragma once

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

inline ChannelConfig listening(const std::string& name) {
  return {.name = *ChannelName::parse(name), .end = EndKind::listen};
}

inline ChannelConfig port(const std::string& name) {
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

}  // namespace xenlane::bridge

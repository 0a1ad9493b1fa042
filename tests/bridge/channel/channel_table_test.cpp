// A host's channels against a guest that keeps the session but not its manners.
#include <gtest/gtest.h>
#include <poll.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include "bridge/channel/channel_table.hpp"
#include "bridge/channel/listener.hpp"
#include "bridge/control/client.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

using std::chrono::milliseconds;

/// A guest that takes every OPEN and answers none.
class SilentGuest final : public StreamOwner {
 public:
  void handle_session_up() override {}
  void handle_event(const InputEvent& event) override {
    opens += std::holds_alternative<OpenRequested>(event) ? 1 : 0;
    resets += std::holds_alternative<PeerReset>(event) ? 1 : 0;
  }
  SourceBytes read_source(StreamId, const transport::WritableSpans&) override { return {0, true}; }
  void deliver(StreamId, const transport::ReadableSpans&) override {}
  void handle_pass_over() override {}

  int opens = 0;
  int resets = 0;
};

ChannelConfig listening(const std::string& name) {
  return {.name = *ChannelName::parse(name), .end = EndKind::listen};
}

TEST(ChannelTable, ConnectionThatThePeerNeverAnswersIsRefusedInTime) {
  const TempDir dir;
  boost::asio::io_context context(1);
  const auto executor = context.get_executor();
  auto [host_lane, guest_lane] = transport::MemoryLane::make_pair(65536);

  ChannelTable table(executor, Role::host, "web", milliseconds(50), milliseconds(50));
  auto socket = listen_unix(dir / "a.b", 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 8);
  ASSERT_TRUE(socket);
  table.add(listening("a.b"), socket->path, std::move(socket->fd));
  SilentGuest guest;
  SessionDriver host_driver(executor, std::move(host_lane), {Role::host, {}, {}, 1, {}}, {}, table);
  SessionDriver guest_driver(executor, std::move(guest_lane), {Role::guest, {}, {}, 1, {}}, {},
                             guest);
  table.attach(host_driver);
  boost::asio::co_spawn(executor, host_driver.run(), boost::asio::detached);
  boost::asio::co_spawn(executor, guest_driver.run(), boost::asio::detached);

  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  const auto ended = [&] {
    pollfd poll{client->get(), POLLIN, 0};
    return ::poll(&poll, 1, 0) > 0;
  };
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((!ended() || guest.resets == 0) && std::chrono::steady_clock::now() < deadline) {
    context.run_one_for(milliseconds(10));
  }
  EXPECT_TRUE(ended());
  EXPECT_EQ(guest.opens, 1);
  EXPECT_EQ(guest.resets, 1) << "the guest is told that nobody waits any more";
  const ChannelStats& stats = table.channels().front()->stats;
  EXPECT_EQ(stats.open, 0U);
  EXPECT_EQ(stats.refused, 1U);
  ASSERT_EQ(stats.bad_endings.size(), 1U);
  EXPECT_EQ(stats.bad_endings.front().error, ETIMEDOUT);
  EXPECT_EQ(stats.bad_endings.front().message, "web did not answer within 50 ms");
  host_driver.stop("done");
  guest_driver.stop("done");
}

}  // namespace
}  // namespace xenlane::bridge

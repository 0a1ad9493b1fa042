// A host's ports: streams of the guest's that wait for a partner.
#include <sys/socket.h>

#include "tests/bridge/channel/channel_table_world.hpp"

namespace xenlane::bridge {
namespace {

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
  constexpr std::uint64_t limit = 64 * 1024;
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
  EXPECT_EQ(received(), limit);
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

TEST_F(ChannelTableTest, StreamThatHasEndedBothWaysBeforeItsPartnerCameIsReadToItsEnd) {
  ChannelConfig config = port("a.b");
  config.lane = LanePreference::console;
  add(config);
  start();
  Mux& mux = *guest_driver->mux();
  const StreamId id = mux.open(EndShape::port, "a.b");
  guest.to_send = "last words";
  mux.source_ready(id);
  guest_driver->wake();
  run_until([&] { return host_driver->mux()->counters().data_bytes_in == 10; });
  mux.finish(id);
  mux.stop_sending(id, StreamError::cancelled);
  guest_driver->wake();
  run_until([&] { return !host_driver->mux()->has_stream(id); });
  const auto client = connect_unix(dir / "a.b");
  ASSERT_TRUE(client);
  std::string heard;
  run_until([&] {
    char bytes[64];
    const ssize_t got = ::recv(client->get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (got > 0) heard.append(bytes, static_cast<std::size_t>(got));
    return got == 0;
  });
  EXPECT_EQ(heard, "last words");
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

}  // namespace
}  // namespace xenlane::bridge

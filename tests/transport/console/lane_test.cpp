// The console lane over real descriptors: a socket pair, a socket by name, a pty; with peers that
// go, begin anew, or do not read.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/un.h>

#include <filesystem>
#include <thread>

#include "tests/transport/console/lane_fixture.hpp"
#include "transport/console/console_opener.hpp"

namespace xenlane::transport::test {
namespace {

TEST_F(ConsoleLaneTest, CarriesBytesBothWays) {
  connect();
  EXPECT_EQ(guest->kind(), "console");
  expect_transfers(300'000, 1);
  EXPECT_FALSE(guest->deadline());
  EXPECT_FALSE(host->deadline());
  const auto counters = guest->counters();
  EXPECT_EQ(counters.raw_bytes_out, 300'000U);
  EXPECT_EQ(counters.raw_bytes_in, 300'000U);
  EXPECT_EQ(counters.bad_frames + counters.echoes + counters.foreign_frames, 0U);
  EXPECT_EQ(counters.wire_bytes_out, host->counters().wire_bytes_in);
}

TEST_F(ConsoleLaneTest, TextCarriesSevenBytesInTenAndBinaryNineteenInTwenty) {
  for (const bool own_device : {false, true}) {
    ConsoleOptions options;
    options.own_device = own_device;
    guest.reset();
    host.reset();
    connect(options);
    const std::size_t count = 1'000'000;
    expect_transfer(*guest, *host, random_bytes(count, 1));
    const auto counters = guest->counters();
    EXPECT_EQ(counters.binary, own_device);
    const double share = static_cast<double>(count) / static_cast<double>(counters.wire_bytes_out);
    EXPECT_GT(share, own_device ? 0.952 : 0.7);
  }
}

TEST_F(ConsoleLaneTest, WhatRepeatsItselfIsPackedUnlessOneEndDoesNotWantIt) {
  const ByteVector zeroes(500'000);
  connect();
  expect_transfer(*guest, *host, zeroes);
  EXPECT_LT(guest->counters().wire_bytes_out, 50'000U);
  guest.reset();
  host.reset();
  ConsoleOptions plain;
  plain.zstd = false;
  connect(plain);
  expect_transfer(*guest, *host, zeroes);
  EXPECT_GT(guest->counters().packed_bytes_out, 500'000U);
}

TEST_F(ConsoleLaneTest, APeerThatIsNotRoomyIsSentNoMoreThanItKeeps) {
  connect();
  guest.reset();
  host.reset();
  host = make_console_lane(host_port, ConsoleEnd::host, {});
  guest = std::make_unique<ConsoleLane>(guest_port,
                                        LinkSettings{ConsoleEnd::guest, 1, link_zstd, 15s}, true);
  exchange();
  const ByteVector bytes(console_ring_bytes);
  std::span<const std::byte> left = bytes;
  write_some(*host, left);
  exchange();
  EXPECT_LE(guest->readable().size(), console_small_ring_bytes);
  EXPECT_GT(guest->readable().size(), console_small_ring_bytes - block_raw_bytes);
  std::size_t got = 0;
  while (const std::size_t more = read_some(*guest).size()) {
    got += more;
    exchange();
  }
  EXPECT_EQ(got, bytes.size());
}

TEST_F(ConsoleLaneTest, SmallPiecesBehindOneThatIsUnderWayGoTogether) {
  connect();
  const auto bytes = random_bytes(500, 1);
  const std::uint64_t frames_before = guest->counters().frames_out;
  for (std::size_t at = 0; at < bytes.size(); at += 10) {
    auto piece = std::span(bytes).subspan(at, 10);
    write_some(*guest, piece);
  }
  EXPECT_EQ(guest->counters().frames_out, frames_before + 1) << "the first one";
  exchange();
  EXPECT_EQ(guest->counters().frames_out, frames_before + 2) << "and all others";
  EXPECT_TRUE(read_some(*host) == bytes);
}

// Of a part of a block the peer need not tell, and this end may not have use for more under way.
TEST_F(ConsoleLaneTest, WhoWaitsForRoomAsksForWhatThePeerNeedNotTell) {
  connect();
  const auto bytes = random_bytes(guest->useful_bytes_max() + 1, 1);
  std::span<const std::byte> left = bytes;
  write_some(*guest, left);
  ASSERT_TRUE(left.empty());
  exchange();
  EXPECT_EQ(read_some(*host, bytes.size() - 3).size(), bytes.size() - 3);
  exchange();
  EXPECT_EQ(guest->unconsumed_bytes(), bytes.size()) << "not worth a frame";
  EXPECT_FALSE(guest->arm(true, false));
  EXPECT_FALSE(guest->deadline());
  EXPECT_FALSE(guest->arm(true, true));
  ASSERT_TRUE(guest->deadline()) << "it will ask";
  std::this_thread::sleep_until(*guest->deadline());
  guest->acknowledge();
  exchange();
  EXPECT_EQ(guest->unconsumed_bytes(), 3U);
}

TEST_F(ConsoleLaneTest, WhatWaitedForAnAcknowledgementGoesBeforeALaneIsGivenUp) {
  connect();
  const auto bytes = random_bytes(20, 1);
  for (std::size_t at = 0; at < bytes.size(); at += 10) {
    auto piece = std::span(bytes).subspan(at, 10);
    write_some(*guest, piece);
  }
  guest.reset();
  host->acknowledge();
  EXPECT_TRUE(read_some(*host) == bytes);
  EXPECT_EQ(host->trouble(), "the peer closed the link");
}

TEST_F(ConsoleLaneTest, ACutLeavesAllThatTheOtherSessionHasNotConsumed) {
  for (std::uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    guest.reset();
    host.reset();
    connect();
    std::mt19937 random(seed);
    const auto bytes = random_bytes(300'000, seed);
    std::span<const std::byte> left = bytes;
    std::size_t consumed = 0;
    for (auto turns = random() % 40; turns > 0; --turns) {
      auto some = left.first(std::min<std::size_t>(left.size(), random() % 30'000));
      const std::size_t offered = some.size();
      write_some(*guest, some);
      left = left.subspan(offered - some.size());
      exchange();
      consumed += read_some(*host, random() % 20'000).size();
      exchange();
    }
    host.reset();
    guest->acknowledge();
    EXPECT_EQ(guest->state(), LaneState::closed);
    EXPECT_EQ(guest->trouble(), "the peer closed the link");
    EXPECT_TRUE(guest->arm(true, true));
    const std::size_t committed = bytes.size() - left.size();
    // And, before that, at most what the other end had not told of yet.
    const std::size_t kept = guest->unconsumed_bytes();
    ASSERT_GE(kept, committed - consumed);
    EXPECT_LE(kept, committed - consumed + link_window_bytes);
    EXPECT_TRUE(std::ranges::equal(copy_of(guest->unconsumed()),
                                   std::span(bytes).subspan(committed - kept, kept)));
  }
}

TEST_F(ConsoleLaneTest, LanesFollowOneAnotherOnTheirPorts) {
  connect();
  for (std::uint32_t life = 1; life <= 10; ++life) {
    expect_transfers(20'000, life);
    if (life % 3 == 0) {
      host.reset();
      exchange();
      EXPECT_EQ(guest->state(), LaneState::closed);
      guest.reset();
    } else {
      auto bytes = random_bytes(50'000, life);
      std::span<const std::byte> left = bytes;
      write_some(*guest, left);  // of a life that ends with it on its way
      guest.reset();
      exchange();
      EXPECT_EQ(host->state(), LaneState::closed);
      host.reset();
    }
    open();
  }
}

TEST_F(ConsoleLaneTest, AGuestThatBeginsAnewWithoutAWordIsNoticed) {
  connect();
  expect_transfers(1000, 1);
  // As after a crash: nobody says CLOSE, and the next life finds the same port.
  ConsoleLink next({ConsoleEnd::guest, 99, 0, 15s}, {});
  LinkLine line;
  const auto say = [&] {
    while (const auto frame = next.poll_frame({})) {
      const std::size_t size = encode_link_line(*frame, LinkEncoding::text, line);
      std::ranges::copy(std::span(line).first(size), guest_port->output_room().begin());
      guest_port->add_output(size);
    }
    guest_port->write_output();
  };
  say();
  host->acknowledge();
  host->publish();
  EXPECT_EQ(host->state(), LaneState::open) << "anybody can have said that, some time";
  FrameScanner scanner;
  while (guest_port->read_input()) {
    auto bytes = guest_port->input();
    while (const auto frame = scanner.next(bytes)) next.handle_frame(*frame, {});
    guest_port->take_input(guest_port->input().size());
  }
  say();
  host->acknowledge();
  EXPECT_EQ(host->state(), LaneState::closed);
  EXPECT_EQ(host->trouble(), "the peer began anew");
  EXPECT_EQ(next.state(), LinkState::opening);
}

TEST_F(ConsoleLaneTest, AConsoleThatEndsEndsTheLaneBehindItsBytes) {
  connect();
  const auto bytes = random_bytes(3000, 1);
  std::span<const std::byte> left = bytes;
  write_some(*host, left);
  host.reset();
  host_port.reset();
  guest->nudge();  // what is written finds nobody
  exchange();
  EXPECT_EQ(guest->state(), LaneState::closed);
  EXPECT_TRUE(read_some(*guest) == bytes);
  EXPECT_TRUE(guest->arm(true, true));
}

TEST_F(ConsoleLaneTest, AConsoleWithoutAWordAboutItsEndIsDead) {
  connect();
  auto ends = socket_pair();
  const Port port = *ConsolePort::make(std::move(ends[0]));
  const LanePointer lane = make_console_lane(port, ConsoleEnd::guest, {});
  EXPECT_EQ(lane->state(), LaneState::awaiting_peer);
  EXPECT_TRUE(lane->deadline()) << "it asks again";
  ends[1].reset();
  EXPECT_TRUE(woken(*lane));
  lane->acknowledge();
  EXPECT_EQ(lane->state(), LaneState::closed);
  EXPECT_FALSE(port->usable());
  EXPECT_EQ(lane->trouble(), "the console was closed at its other end");
  EXPECT_FALSE(lane->deadline());
}

TEST_F(ConsoleLaneTest, OutputThatIsNotTakenWaitsAndWakesTheLaneWhenItIs) {
  auto ends = socket_pair();
  const int small = 1;
  ASSERT_EQ(::setsockopt(ends[0].get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
  guest_port = *ConsolePort::make(std::move(ends[0]));
  host_port = *ConsolePort::make(std::move(ends[1]));
  open();
  const auto bytes = random_bytes(60'000, 1);
  std::span<const std::byte> left = bytes;
  write_some(*guest, left);
  EXPECT_FALSE(woken(*guest)) << "there is nothing to do until the other end reads";
  EXPECT_FALSE(guest->arm(true, true));
  host->acknowledge();
  EXPECT_TRUE(woken(*guest));
  exchange();
  ByteVector got = read_some(*host);
  while (got.size() < bytes.size()) {
    exchange();
    const auto more = read_some(*host);
    ASSERT_FALSE(more.empty());
    got.insert(got.end(), more.begin(), more.end());
  }
  EXPECT_TRUE(got == bytes);
}

TEST_F(ConsoleLaneTest, WhoLooksAwayIsNotWokenForEachPieceOfALine) {
  auto ends = socket_pair();
  guest_port = *ConsolePort::make(std::move(ends[0]));
  guest = make_console_lane(guest_port, ConsoleEnd::guest, {});
  const std::string piece(13'000, 'x');  // enough for one look, however slowly it came
  const auto come = [&](const std::string& text) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(::write(ends[1].get(), text.data(), text.size()), std::ssize(text));
  };
  come(piece);
  EXPECT_TRUE(woken(*guest));
  guest->acknowledge();
  EXPECT_EQ(guest->look_away().count(), 0) << "nobody knows how fast more will come";
  come(piece);
  guest->acknowledge();
  EXPECT_GT(guest->look_away().count(), 0);
  come(piece);
  EXPECT_FALSE(woken(*guest));
  come("\n");
  guest->acknowledge();
  EXPECT_EQ(guest->look_away().count(), 0) << "the line is over";
  EXPECT_FALSE(woken(*guest));
  come(piece);
  EXPECT_TRUE(woken(*guest));
  guest->acknowledge();
  come(piece);
  guest->acknowledge();
  EXPECT_GT(guest->look_away().count(), 0);
  guest.reset();
  guest = make_console_lane(guest_port, ConsoleEnd::guest, {});
  come(piece);
  EXPECT_TRUE(woken(*guest)) << "the next lane on the port has not looked away";
}

// Whatever has read it.
TEST_F(ConsoleLaneTest, NobodyLooksAwayFromALineThatIsOver) {
  auto ends = socket_pair();
  guest_port = *ConsolePort::make(std::move(ends[0]));
  guest = make_console_lane(guest_port, ConsoleEnd::guest, {});
  const std::string piece(13'000, 'x');  // enough for one look, however slowly it came
  for (int i = 0; i < 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(::write(ends[1].get(), piece.data(), piece.size()), std::ssize(piece));
    guest->acknowledge();
  }
  EXPECT_GT(guest->look_away().count(), 0);
  EXPECT_EQ(::write(ends[1].get(), "\n", 1), 1);
  EXPECT_FALSE(guest->arm(true, false));
  EXPECT_TRUE(guest->readable().empty());
  EXPECT_EQ(guest->look_away().count(), 0);
}

TEST_F(ConsoleLaneTest, RunsOverATty) {
  UniqueFd master(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(master);
  ASSERT_EQ(::grantpt(master.get()), 0);
  ASSERT_EQ(::unlockpt(master.get()), 0);
  char name[64];
  ASSERT_EQ(::ptsname_r(master.get(), name, sizeof name), 0);
  // From before anybody made the tty raw: it comes back as an echo, and as a line of input.
  ASSERT_EQ(::write(master.get(), "login: \n", 8), 8);
  auto opened = open_console_tty(name);
  ASSERT_TRUE(opened) << opened.error().message();
  guest_port = *opened;
  host_port = *ConsolePort::make(std::move(master));
  for (const bool own_device : {false, true}) {
    ConsoleOptions options;
    options.own_device = own_device;
    open(options);
    expect_transfers(200'000, 1);
    EXPECT_EQ(host->counters().echoes, 0U);
    guest.reset();
    host.reset();
  }
  guest = make_console_lane(guest_port, ConsoleEnd::guest, {});
  host_port.reset();
  guest->acknowledge();
  EXPECT_EQ(guest->state(), LaneState::closed);
  EXPECT_FALSE(guest_port->usable());
}

TEST_F(ConsoleLaneTest, RunsOverASocketByName) {
  char folder[] = "/tmp/xenlane-console-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/channel";
  EXPECT_EQ(connect_console_socket(path).error().value(), ENOENT);
  EXPECT_EQ(connect_console_socket(path + std::string(200, 'x')).error().value(), ENAMETOOLONG);
  EXPECT_EQ(open_console_tty(path).error().value(), ENOENT);
  EXPECT_EQ(open_console_tty("/dev/null").error().value(), ENOTTY);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(connect_console_socket(path).error().value(), ECONNREFUSED);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  host_port = *connect_console_socket(path);
  UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  guest_port = *ConsolePort::make(std::move(accepted));
  open();
  expect_transfers(50'000, 1);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace xenlane::transport::test

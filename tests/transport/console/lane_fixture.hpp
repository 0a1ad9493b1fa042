// Two console lanes over a socket pair, driven as their owners would drive them.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include "tests/transport/console/cable.hpp"
#include "transport/console/console_lane.hpp"

namespace xenlane::transport::test {

using Port = std::shared_ptr<ConsolePort>;
using LanePointer = std::unique_ptr<ConsoleLane>;

inline std::array<UniqueFd, 2> socket_pair() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

inline bool woken(const Lane& lane) {
  pollfd waiting{lane.wait_fd(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 1;
}

inline ByteVector copy_of(const ReadableSpans& spans) {
  ByteVector out(spans.first.begin(), spans.first.end());
  out.insert(out.end(), spans.second.begin(), spans.second.end());
  return out;
}

/// Writes as much as there is room for; what was written is taken off the front.
inline void write_some(Lane& lane, std::span<const std::byte>& bytes) {
  const auto room = lane.writable();
  const auto now = bytes.first(std::min(bytes.size(), room.size()));
  const std::size_t first = std::min(now.size(), room.first.size());
  std::ranges::copy(now.first(first), room.first.begin());
  std::ranges::copy(now.subspan(first), room.second.begin());
  lane.commit(now.size());
  lane.publish();
  bytes = bytes.subspan(now.size());
}

inline ByteVector read_some(Lane& lane, std::size_t count_max = console_ring_bytes) {
  const auto bytes = copy_of(lane.readable().slice(0, count_max));
  lane.consume(bytes.size());
  lane.publish();
  return bytes;
}

class ConsoleLaneTest : public testing::Test {
 protected:
  void connect(ConsoleOptions options = {}) {
    auto ends = socket_pair();
    guest_port = *ConsolePort::make(std::move(ends[0]));
    host_port = *ConsolePort::make(std::move(ends[1]));
    open(options);
  }
  void open(ConsoleOptions options = {}) {
    guest = make_console_lane(guest_port, ConsoleEnd::guest, options);
    host = make_console_lane(host_port, ConsoleEnd::host, options);
    exchange();
    ASSERT_EQ(guest->state(), LaneState::open) << guest->trouble();
    ASSERT_EQ(host->state(), LaneState::open) << host->trouble();
  }
  /// Both ends as their owners would drive them, until neither has anything to do.
  void exchange() {
    for (int quiet = 0; quiet < 2;) {
      bool moved = false;
      for (ConsoleLane* lane : {guest.get(), host.get()}) {
        if (lane == nullptr || lane->state() >= LaneState::closed) continue;
        if (woken(*lane)) {
          lane->acknowledge();
          moved = true;
        }
        moved |= lane->arm(false, false);
      }
      quiet = moved ? 0 : quiet + 1;
    }
  }
  /// All of `bytes` from one to the other.
  void expect_transfer(Lane& from, Lane& to, const ByteVector& bytes) {
    std::span<const std::byte> left = bytes;
    ByteVector got;
    for (int idle = 0; got.size() < bytes.size() && idle < 100; ++idle) {
      write_some(from, left);
      exchange();
      const auto more = read_some(to);
      if (!more.empty()) idle = 0;
      got.insert(got.end(), more.begin(), more.end());
      exchange();
    }
    EXPECT_TRUE(got == bytes) << got.size() << " of " << bytes.size() << from.trouble()
                              << to.trouble();
  }
  void expect_transfers(std::size_t count, std::uint32_t seed) {
    expect_transfer(*guest, *host, random_bytes(count, seed));
    expect_transfer(*host, *guest, random_bytes(count, seed + 1));
  }

  Port guest_port;
  Port host_port;
  LanePointer guest;
  LanePointer host;
};

}  // namespace xenlane::transport::test

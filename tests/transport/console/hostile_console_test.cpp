// The console lane and a peer without manners.
#include "tests/transport/console/lane_fixture.hpp"

namespace xenlane::transport::test {
namespace {

/// A lane whose other end says what it likes in frames that are well made.
class ConsoleLaneAgainstHostility : public ConsoleLaneTest {
 protected:
  void SetUp() override {
    auto ends = socket_pair();
    peer_port = *ConsolePort::make(std::move(ends[0]));
    host = make_console_lane(*ConsolePort::make(std::move(ends[1])), ConsoleEnd::host, {});
    while (host->state() != LaneState::open) talk();
  }
  void talk() {
    while (const auto frame = peer.poll_frame({})) say(*frame);
    host->acknowledge();
    host->publish();
    peer_port->expect_input();
    while (peer_port->read_input()) {
      auto bytes = peer_port->input();
      while (const auto frame = scanner.next(bytes)) {
        to = frame->from;
        peer.handle_frame(*frame, {});
      }
      peer_port->take_input(peer_port->input().size());
    }
  }
  void say(const LinkFrame& frame) {
    LinkLine line;
    const std::size_t size = encode_link_line(frame, LinkEncoding::text, line);
    std::ranges::copy(std::span(line).first(size), peer_port->output_room().begin());
    peer_port->add_output(size);
    ASSERT_TRUE(peer_port->write_output());
  }
  void say_bytes(const ByteVector& bytes) {
    peer.write(bytes);
    talk();
  }
  void expect_violated(std::string_view text) {
    host->acknowledge();
    EXPECT_EQ(host->state(), LaneState::violated);
    EXPECT_EQ(host->trouble(), text);
    EXPECT_TRUE(host->readable().empty());
    EXPECT_TRUE(host->writable().empty());
    EXPECT_TRUE(host->arm(true, true));
  }
  LinkFrame frame_of_peer() const {
    LinkFrame frame;
    frame.from = 99;
    frame.to = to;
    return frame;
  }

  Port peer_port;
  ConsoleLink peer{{ConsoleEnd::guest, 99, 0, 15s}, {}};
  FrameScanner scanner;
  std::uint32_t to = 0;
};

TEST_F(ConsoleLaneAgainstHostility, ABlockOfNothing) {
  say_bytes(ByteVector(2));
  expect_violated("an empty block");
}

TEST_F(ConsoleLaneAgainstHostility, BlocksPastTheRing) {
  for (int i = 0; i < 600 && host->state() == LaneState::open; ++i) {
    say_bytes({std::byte{1}, std::byte{0}, std::byte{7}});
  }
  expect_violated("the peer sent more than the lane's ring");
}

TEST_F(ConsoleLaneAgainstHostility, ReleasesHalfABlock) {
  const auto bytes = random_bytes(100, 1);
  std::span<const std::byte> left = bytes;
  write_some(*host, left);
  talk();
  LinkFrame frame = frame_of_peer();
  frame.got = 10;
  say(frame);
  expect_violated("the peer released what is no block");
}

TEST_F(ConsoleLaneAgainstHostility, ReleasesMoreOfABlockThanThereIs) {
  const auto bytes = random_bytes(100, 1);
  std::span<const std::byte> left = bytes;
  write_some(*host, left);
  LinkFrame frame = frame_of_peer();
  frame.part = 99;
  say(frame);
  host->acknowledge();
  EXPECT_EQ(host->state(), LaneState::open);
  EXPECT_EQ(host->unconsumed_bytes(), 1U);
  frame.part = 100;
  say(frame);
  expect_violated("the peer released what is no block");
}

TEST_F(ConsoleLaneAgainstHostility, NoisesWithoutEnd) {
  const auto noise = random_bytes(4'000'000, 1);
  std::span<const std::byte> left = noise;
  while (!left.empty()) {
    auto room = peer_port->output_room();
    const std::size_t count = std::min(room.size(), left.size());
    std::ranges::copy(left.first(count), room.begin());
    peer_port->add_output(count);
    left = left.subspan(count);
    while (!peer_port->write_output()) host->acknowledge();
  }
  host->acknowledge();
  EXPECT_EQ(host->state(), LaneState::open);
  say_bytes({std::byte{1}, std::byte{0}, std::byte{7}});
  talk();
  EXPECT_EQ(host->readable().size(), 1U);
}

}  // namespace
}  // namespace xenlane::transport::test

// The console link and a peer that says what an honest one could not.
#include "tests/transport/console/cable.hpp"

namespace xenlane::transport::test {
namespace {

class ConsoleLinkAgainstHostility : public Cable {
 protected:
  void SetUp() override {
    begin_both();
    run();
    guest->send(random_bytes(100, 1));
    transmit(*guest, to_host, to_guest);
    frame.from_host = true;
    frame.from = 0x2222;
    frame.to = 0x1111;
  }
  void expect_violated(std::string_view text) {
    guest->link.handle_frame(frame, now);
    EXPECT_EQ(guest->link.state(), LinkState::violated);
    EXPECT_EQ(guest->link.trouble(), text);
    EXPECT_FALSE(guest->link.poll_frame(now));
    EXPECT_FALSE(guest->link.deadline());
  }
  LinkFrame frame;
};

TEST_F(ConsoleLinkAgainstHostility, AcknowledgesWhatWasNeverSent) {
  frame.got = 101;
  expect_violated("the peer acknowledged what was never sent");
}

TEST_F(ConsoleLinkAgainstHostility, HoldsMoreThanTheWindow) {
  frame.got = 100;
  frame.held = link_window_bytes + 1;
  expect_violated("the peer acknowledged what was never sent");
}

TEST_F(ConsoleLinkAgainstHostility, ReportsAHoleAtTheEnd) {
  frame.hole = 100;
  expect_violated("the peer acknowledged what was never sent");
}

TEST_F(ConsoleLinkAgainstHostility, SendsPastTheWindow) {
  const auto payload = random_bytes(100, 1);
  frame.position = link_window_bytes - 99;
  frame.payload = payload;
  expect_violated("the peer sent more than the link's window");
}

TEST_F(ConsoleLinkAgainstHostility, SendsMorePiecesThanAreKept) {
  const auto payload = random_bytes(1, 1);
  frame.payload = payload;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    frame.position = 2 + 2 * i;
    guest->link.handle_frame(frame, now);
  }
  ASSERT_TRUE(guest->link.is_open());
  // The gaps are filled; what was not kept comes again.
  for (std::uint32_t i = 0; i < 2001; ++i) {
    frame.position = i;
    guest->link.handle_frame(frame, now);
  }
  EXPECT_EQ(guest->link.unread().size(), 2001U);
}

}  // namespace
}  // namespace xenlane::transport::test

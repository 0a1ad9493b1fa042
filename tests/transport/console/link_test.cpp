// The console link over a console that does everything a console can do to it.
#include "tests/transport/console/cable.hpp"

namespace xenlane::transport::test {
namespace {

using ConsoleLinkTest = Cable;

TEST_F(ConsoleLinkTest, TheGuestOpensItAndTheHostIsSilentUntilThen) {
  begin_both();
  EXPECT_FALSE(host->link.poll_frame(now));
  EXPECT_FALSE(host->link.deadline());
  run();
  EXPECT_TRUE(guest->link.is_open());
  EXPECT_TRUE(host->link.is_open());
}

TEST_F(ConsoleLinkTest, IdleCostsNothing) {
  begin_both();
  expect_transfer(50'000, 1);
  run();
  EXPECT_FALSE(guest->link.deadline());
  EXPECT_FALSE(host->link.deadline());
  EXPECT_TRUE(to_host.empty());
  EXPECT_TRUE(to_guest.empty());
}

TEST_F(ConsoleLinkTest, AWholeChannelNeedsNothingTwice) {
  begin_both();
  expect_transfer(1'000'000, 1);
  EXPECT_EQ(guest->link.counters().retransmitted_frames, 0U);
  EXPECT_EQ(host->link.counters().retransmitted_frames, 0U);
  EXPECT_EQ(guest->link.round_trip(), 10ms);
}

TEST_F(ConsoleLinkTest, BinaryIsSentToWhoSaysThatItsDeviceIsItsOwn) {
  begin(ConsoleEnd::guest, 1);
  begin(ConsoleEnd::host, 2, link_own_device);
  run();
  EXPECT_EQ(guest->link.encoding(), LinkEncoding::binary);
  EXPECT_EQ(host->link.encoding(), LinkEncoding::text);
  expect_transfer(200'000, 1);
}

TEST_F(ConsoleLinkTest, LongFramesAreSentToWhoTakesThem) {
  for (const std::uint8_t roomy : {std::uint8_t{0}, link_roomy}) {
    begin(ConsoleEnd::guest, 1);
    begin(ConsoleEnd::host, 2, link_own_device | roomy);
    expect_transfer(200'000, 1);
    guest->send(random_bytes(link_window_bytes, 2));
    transmit(*guest, to_host, to_guest);
    const auto longest = roomy != 0 ? link_binary_payload_bytes_max : link_short_payload_bytes_max;
    EXPECT_GE(to_host.size(), link_window_bytes / longest);
    EXPECT_LE(to_host.size(), link_window_bytes / longest + 1);
    run();
  }
}

TEST_F(ConsoleLinkTest, TheGuestAsksAgainMoreAndMoreSeldom) {
  begin_both();
  faults.lost = 100;
  run_for(60s);
  // At 0, 0.2, 0.6, 1.4, 3, 6.2 and then every 5 seconds.
  EXPECT_EQ(frames, 6U + 10U);
  EXPECT_EQ(guest->link.state(), LinkState::opening);
  faults.lost = 0;
  run();
  EXPECT_TRUE(host->link.is_open());
}

TEST_F(ConsoleLinkTest, AHoleLargerThanTheWindowIsFilled) {
  begin_both();
  run();
  const auto bytes = random_bytes(400'000, 5);
  guest->send(bytes);
  std::size_t holes = 0;
  while (host->received.size() < bytes.size() && ++holes < 100) {
    run_for(22ms);
    to_host.clear();  // all of a window, and acknowledgements with it
    run_for(700ms);
    ASSERT_TRUE(guest->link.is_open()) << guest->link.trouble();
  }
  EXPECT_TRUE(host->received == bytes);
  EXPECT_GT(guest->link.counters().retransmitted_frames, 0U);
}

TEST_F(ConsoleLinkTest, ExactlyTheGapIsSentAgain) {
  begin_both();
  run();
  guest->send(random_bytes(10 * link_text_payload_bytes_max, 5));
  transmit(*guest, to_host, to_guest);
  ASSERT_EQ(to_host.size(), 10U);
  to_host.erase(to_host.begin() + 3, to_host.begin() + 5);
  const TimePoint before = now;
  run();
  EXPECT_EQ(host->received.size(), 10 * link_text_payload_bytes_max);
  EXPECT_EQ(guest->link.counters().retransmitted_frames, 5U) << "shorter ones, after a loss";
  EXPECT_LT(now - before, 200ms) << "no timer was needed";
}

// A busy machine, not a loss: what was sent before the time ran out arrives.
TEST_F(ConsoleLinkTest, AnAnswerThatIsLateIsNoLoss) {
  begin(ConsoleEnd::guest, 1);
  begin(ConsoleEnd::host, 2, link_own_device | link_roomy);
  expect_transfer(200'000, 1);
  guest->send(random_bytes(link_window_bytes, 2));
  transmit(*guest, to_host, to_guest);
  auto late = 100ms;
  for (Packet& packet : to_host) packet.at += late += 5ms;
  run();
  // It asks after 30, 60, 90 and 150 ms.
  EXPECT_LE(guest->link.counters().retransmitted_frames, 4U);
  guest->send(random_bytes(link_window_bytes, 3));
  transmit(*guest, to_host, to_guest);
  EXPECT_LE(to_host.size(), link_window_bytes / link_binary_payload_bytes_max + 1)
      << "frames are as long as before";
}

TEST_F(ConsoleLinkTest, AnEndThatWasLostIsFoundWithOneTimeout) {
  begin(ConsoleEnd::guest, 1);
  begin(ConsoleEnd::host, 2, link_own_device | link_roomy);
  expect_transfer(400'000, 1);
  guest->send(random_bytes(3 * link_binary_payload_bytes_max, 2));
  transmit(*guest, to_host, to_guest);
  ASSERT_EQ(to_host.size(), 4U) << "an acknowledgement, and three whole frames";
  to_host.resize(2);  // it said that more follows, so nobody answers
  const TimePoint before = now;
  run();
  EXPECT_EQ(host->received.size(), 400'000 + 3 * link_binary_payload_bytes_max);
  // 30 ms, and three times there and back.
  EXPECT_LT(now - before, 80ms);
}

// Who was told that more follows holds the answer back that the rest would wait for.
TEST_F(ConsoleLinkTest, APromiseOfMoreIsKeptThoughFramesHaveBecomeLonger) {
  SendWindow window;
  const auto poll = [&] { return window.poll(link_binary_payload_bytes_max, false, now); };
  const std::size_t frame = frame_payload_bytes_first;
  const std::size_t until_longer = frames_until_longer * frame;
  window.write(random_bytes(until_longer, 1));
  while (poll()) {
  }
  window.write(random_bytes(2 * frame + 100, 2));
  const auto first = poll();
  ASSERT_TRUE(first && first->more);
  LinkFrame answer;
  answer.got = static_cast<std::uint32_t>(until_longer);
  EXPECT_EQ(window.handle(answer, now), SendWindow::Heard::progress);
  const auto second = poll();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->bytes.size(), frame + 100) << "all of it in one longer frame";
  EXPECT_FALSE(second->more);
}

TEST_F(ConsoleLinkTest, LessThanAFrameWaitsForWhatIsUnderWay) {
  begin_both();
  run();
  guest->send(random_bytes(10, 1));
  transmit(*guest, to_host, to_guest);
  EXPECT_EQ(to_host.size(), 1U) << "nothing is under way";
  guest->send(random_bytes(10, 2));
  transmit(*guest, to_host, to_guest);
  EXPECT_EQ(to_host.size(), 1U);
  guest->send(random_bytes(link_text_payload_bytes_max, 3));
  transmit(*guest, to_host, to_guest);
  EXPECT_EQ(to_host.size(), 2U) << "a whole frame goes, ten bytes wait";
  run();
  EXPECT_EQ(host->received.size(), 20 + link_text_payload_bytes_max);
}

TEST_F(ConsoleLinkTest, WhoLeavesDoesNotWait) {
  begin_both();
  run();
  for (int i = 0; i < 2; ++i) {
    const auto bytes = random_bytes(10, 1);
    guest->link.write(bytes);
    EXPECT_TRUE(guest->link.poll_frame(now, true));
  }
}

TEST_F(ConsoleLinkTest, WhatComesTogetherIsAcknowledgedTogether) {
  begin_both();
  run();
  guest->send(random_bytes(link_window_bytes, 1));
  guest->pump();
  std::size_t frames_there = 0;
  std::size_t frames_back = 0;
  while (const auto frame = guest->link.poll_frame(now)) {
    ++frames_there;
    host->link.handle_frame(*frame, now);
    host->pump();
    while (host->link.poll_frame(now)) ++frames_back;
  }
  EXPECT_GT(frames_there, 20U);
  EXPECT_EQ(frames_back, 2U) << "after half of the window, and at the end";
}

TEST_F(ConsoleLinkTest, AReaderIsHeardWhenItsRoomIsWorthAFrame) {
  begin_both();
  run();
  host->reads = false;
  guest->send(random_bytes(4000, 1));
  run();
  host->link.take(4000);
  host->link.release({10, 0}, false);
  EXPECT_FALSE(host->link.poll_frame(now)) << "ten bytes help nobody";
  host->link.release({20, 0}, true);
  EXPECT_TRUE(host->link.poll_frame(now)) << "but to one who waits";
  host->link.release({4000, 0}, false);
  EXPECT_TRUE(host->link.poll_frame(now)) << "all of it";
}

TEST_F(ConsoleLinkTest, WhoMayBeWaitingForRoomIsToldOfAnyRelease) {
  begin_both();
  run();
  host->reads = false;
  guest->send(random_bytes(link_held_many + 100, 1));
  run();
  host->link.take(20);
  host->link.release({10, 0}, false);
  EXPECT_TRUE(host->link.poll_frame(now)) << "no room for one more block";
  host->link.release({20, 0}, false);
  EXPECT_TRUE(host->link.poll_frame(now));
}

TEST_F(ConsoleLinkTest, WhoDoesNotReadStopsTheOtherAndIsAskedNowAndThen) {
  begin_both();
  run();
  host->reads = false;
  guest->send(random_bytes(50'000, 1));
  run_for(1s);
  EXPECT_EQ(guest->to_send.size(), 50'000 - link_window_bytes);
  EXPECT_EQ(host->link.unread().size(), link_window_bytes);
  EXPECT_FALSE(guest->link.deadline()) << "all is acknowledged";
  // The release is lost; only asking brings it.
  guest->link.want_release(true, now);
  host->reads = true;
  faults.lost = 100;
  transmit(*host, to_guest, to_host);
  faults.lost = 0;
  run([&] { return host->received.size() == 50'000; }, 10s);
  EXPECT_EQ(host->received.size(), 50'000U);
}

TEST_F(ConsoleLinkTest, AGuestThatBeginsAnewEndsTheHostsLink) {
  begin_both();
  expect_transfer(10'000, 1);
  begin(ConsoleEnd::guest, 0x3333);
  run([&] { return host->link.state() == LinkState::closed; });
  EXPECT_EQ(host->link.trouble(), "the peer began anew");
  EXPECT_EQ(guest->link.state(), LinkState::opening) << "its life was not spent on the old link";
  begin(ConsoleEnd::host, 0x4444);
  expect_transfer(10'000, 2);
}

TEST_F(ConsoleLinkTest, AGuestLearnsAtOnceOfAHostThatBeganAnew) {
  begin_both();
  expect_transfer(10'000, 1);
  begin(ConsoleEnd::host, 0x4444);
  guest->send(random_bytes(100, 1));
  const TimePoint before = now;
  run([&] { return guest->link.state() == LinkState::closed; });
  EXPECT_LT(now - before, 20ms);
  EXPECT_EQ(guest->link.trouble(), "the peer does not know the link: it began anew");
  EXPECT_EQ(host->link.state(), LinkState::opening);
  EXPECT_FALSE(guest->link.poll_close()) << "nobody waits for it";
}

TEST_F(ConsoleLinkTest, AFloodOfOldFramesIsAnsweredNowAndThen) {
  begin(ConsoleEnd::guest, 1);
  begin(ConsoleEnd::host, 2);
  LinkFrame old;
  old.from = 77;
  old.to = 78;
  for (int i = 0; i < 1000; ++i) {
    old.from = 100 + static_cast<std::uint32_t>(i);
    host->link.handle_frame(old, now);
    transmit(*host, to_guest, to_host);
  }
  EXPECT_EQ(to_guest.size(), 1U);
  run();
  EXPECT_TRUE(guest->link.is_open()) << "it was for another";
}

TEST_F(ConsoleLinkTest, FramesOfFormerLivesChangeNothing) {
  begin_both();
  run();
  guest->send(random_bytes(3000, 1));
  transmit(*guest, to_host, to_guest);
  const Way old_there = to_host;
  run();
  host->send(random_bytes(3000, 2));
  transmit(*host, to_guest, to_host);
  const Way old_back = to_guest;
  begin(ConsoleEnd::guest, 0x3333);
  begin(ConsoleEnd::host, 0x4444);
  to_host = old_there;
  to_guest = old_back;
  run();
  EXPECT_TRUE(host->received.empty());
  EXPECT_TRUE(guest->received.empty());
  ASSERT_TRUE(host->link.is_open());
  for (int i = 0; i < 5; ++i) {
    for (const Packet& packet : old_there) put(to_host, packet.bytes);
    for (const Packet& packet : old_back) put(to_guest, packet.bytes);
    host->received.clear();
    guest->received.clear();
    expect_transfer(20'000, 7);
  }
  EXPECT_GT(host->link.counters().foreign_frames, 0U);
  EXPECT_GT(guest->link.counters().foreign_frames, 0U);
}

TEST_F(ConsoleLinkTest, OldAnswersDoNotOpenAGuestsLink) {
  begin_both();
  transmit(*guest, to_host, to_guest);
  now += delay;
  arrive(*host, to_host);
  transmit(*host, to_guest, to_host);
  const Way answer = to_guest;
  begin(ConsoleEnd::guest, 0x3333);
  to_guest = answer;
  now += delay;
  arrive(*guest, to_guest);
  EXPECT_EQ(guest->link.state(), LinkState::opening);
}

TEST_F(ConsoleLinkTest, WithoutAnswersItGivesUp) {
  begin_both();
  run();
  faults.lost = 100;
  guest->send(random_bytes(10, 1));
  const TimePoint before = now;
  run();
  EXPECT_EQ(guest->link.state(), LinkState::closed);
  EXPECT_EQ(guest->link.trouble(), "the peer does not answer over the console");
  EXPECT_EQ(now - before, 15s);
  EXPECT_TRUE(host->link.is_open()) << "it waits for nothing";
}

TEST_F(ConsoleLinkTest, ANudgeIsAnsweredOrTheLinkGivesUp) {
  begin_both();
  run();
  host->link.probe(now);
  run();
  EXPECT_FALSE(host->link.deadline());
  faults.lost = 100;
  host->link.probe(now);
  run();
  EXPECT_EQ(host->link.state(), LinkState::closed);
}

TEST_F(ConsoleLinkTest, APauseOfItsOwnIsNoSilenceOfThePeers) {
  begin_both();
  run();
  guest->send(random_bytes(10, 1));
  transmit(*guest, to_host, to_guest);
  now += 60s;
  guest->link.handle_time(now);
  EXPECT_TRUE(guest->link.is_open()) << "it has asked once";
  run();
  EXPECT_EQ(host->received.size(), 10U);
  EXPECT_TRUE(guest->link.is_open());
}

TEST_F(ConsoleLinkTest, WhoGoesSaysSo) {
  begin_both();
  run();
  const auto frame = host->link.poll_close();
  ASSERT_TRUE(frame);
  EXPECT_FALSE(host->link.poll_close());
  guest->link.handle_frame(*frame, now);
  EXPECT_EQ(guest->link.trouble(), "the peer closed the link");
}

bool is_repetition(const ByteVector& got, std::span<const std::byte> of) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] != of[i % of.size()]) return false;
  }
  return true;
}

TEST_F(ConsoleLinkTest, LossAndRestartsNeverBringAWrongByte) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    random.seed(seed);
    faults = {.lost = 10, .cut = 5, .repeated = 5, .echoed = 10, .noise = 10, .damaged = 5};
    std::uint32_t nonce = 1;
    begin(ConsoleEnd::guest, ++nonce);
    begin(ConsoleEnd::host, ++nonce);
    const auto bytes = random_bytes(200'000, seed);
    for (int life = 0; life < 12; ++life) {
      guest->send(std::span(bytes).first(60'000));
      host->send(std::span(bytes).last(60'000));
      run_for(std::chrono::milliseconds(random() % 3000));
      ASSERT_TRUE(is_repetition(host->received, std::span(bytes).first(60'000)));
      ASSERT_TRUE(is_repetition(guest->received, std::span(bytes).last(60'000)));
      ASSERT_NE(host->link.state(), LinkState::violated) << host->link.trouble();
      ASSERT_NE(guest->link.state(), LinkState::violated) << guest->link.trouble();
      const bool both = random() % 4 == 0;
      const bool the_guest = random() % 2 == 0;
      if (both || the_guest) begin(ConsoleEnd::guest, ++nonce);
      if (both || !the_guest || host->link.state() == LinkState::closed) {
        begin(ConsoleEnd::host, ++nonce);
      }
      if (guest->link.state() == LinkState::closed) begin(ConsoleEnd::guest, ++nonce);
    }
  }
}

// What follows may be lost. Who asks has sent all it had, and waits.
TEST_F(ConsoleLinkTest, WhatFollowsIsNotWaitedForWhenThePeerAsks) {
  begin_both();
  run();
  const auto payload = random_bytes(100, 1);
  LinkFrame frame;
  frame.from = 0x1111;
  frame.to = 0x2222;
  frame.flags = link_more;
  frame.payload = payload;
  host->link.handle_frame(frame, now);
  EXPECT_FALSE(host->link.poll_frame(now)) << "one acknowledgement for all";
  frame.type = LinkFrameType::probe;
  frame.position = 100;
  frame.flags = 0;
  frame.payload = {};
  host->link.handle_frame(frame, now);
  ASSERT_TRUE(host->link.poll_frame(now));
  host->pump();
  const auto told = host->link.poll_frame(now);
  ASSERT_TRUE(told) << "the release is what it waits for";
  EXPECT_EQ(told->held, 0U);
}

}  // namespace
}  // namespace xenlane::transport::test

// A console between its two ends: what QEMU and the hvc driver keep, drop and hand out late, and
// the faults that can be switched on.
#include "transport/xensim/hypervisor/console.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace xensim::hv {
namespace {

constexpr std::uint64_t seed = 7;

/// The client takes all that it is offered.
std::string take_output(Console& console) {
  const std::string bytes(console.poll_output());
  if (!bytes.empty()) console.handle_output_taken(bytes.size());
  return bytes;
}

/// The guest's tty takes all that waits.
std::string take_input(Console& console) {
  std::string bytes;
  while (!console.poll_input().empty()) {
    const std::string piece(console.poll_input());
    console.handle_input_taken(piece.size());
    bytes += piece;
  }
  return bytes;
}

std::string counting(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i % 251);
  return text;
}

/// What the client gets of `bytes` that the guest writes in pieces.
std::string through(Console& console, std::string_view bytes, std::size_t piece) {
  std::string got;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
    console.handle_guest_output(bytes.substr(0, piece));
    got += take_output(console);
  }
  return got;
}

Console with(const ConsoleFaults& faults) {
  Console console(seed);
  console.set_faults(faults);
  console.handle_client(true);
  return console;
}

TEST(Console, CarriesBytesBothWays) {
  Console console = with({});
  console.handle_guest_output("from the guest");
  EXPECT_EQ(take_output(console), "from the guest");
  console.handle_client_bytes("from the host");
  EXPECT_EQ(take_input(console), "from the host");
  EXPECT_EQ(console.counts().to_host, 14U);
  EXPECT_EQ(console.counts().to_guest, 13U);
  EXPECT_EQ(console.counts().dropped, 0U);
}

TEST(Console, TheRingToTheGuestHasRoomForSoMuchAndWrapsAround) {
  Console console = with({});
  const std::string bytes = counting(4 * console_in_bytes);
  std::string got;
  for (std::size_t at = 0; at < bytes.size();) {
    ASSERT_EQ(console.client_room(), console_in_bytes);
    const std::size_t step = std::min(console_in_bytes - 300, bytes.size() - at);
    console.handle_client_bytes(std::string_view(bytes).substr(at, step));
    EXPECT_EQ(console.client_room(), console_in_bytes - step);
    got += take_input(console);
    at += step;
  }
  EXPECT_EQ(got, bytes);
}

TEST(Console, ALateClientGetsTheBacklogWithTheGuestsNextOutput) {
  Console console(seed);
  console.handle_guest_output("stale ");
  console.handle_client(true);
  EXPECT_EQ(console.poll_output(), "") << "nothing happened in the guest since";
  console.handle_guest_output("fresh");
  EXPECT_EQ(take_output(console), "stale fresh");
}

TEST(Console, ALateClientGetsTheBacklogWhenTheGuestTakesInput) {
  Console console(seed);
  console.handle_guest_output("stale");
  console.handle_client(true);
  console.handle_client_bytes("x");
  EXPECT_EQ(console.poll_output(), "") << "it has not been taken";
  take_input(console);
  EXPECT_EQ(take_output(console), "stale");
}

TEST(Console, WhatTheClientsSocketRefusesWaitsForTheNextEvent) {
  Console console = with({});
  console.handle_guest_output("abcdef");
  console.handle_output_taken(2);
  EXPECT_EQ(console.poll_output(), "") << "nobody watches for room in the socket";
  console.handle_guest_output("g");
  EXPECT_EQ(take_output(console), "cdefg");
}

TEST(Console, AboveTheLimitTheNewestReplaceWhatLiesJustBelowIt) {
  ConsoleFaults faults;
  faults.limit = 10;
  Console console(seed);
  console.set_faults(faults);
  console.handle_guest_output("0123456789");
  console.handle_guest_output("abc");
  console.handle_guest_output("de");
  console.handle_client(true);
  console.handle_guest_output("f");
  EXPECT_EQ(take_output(console), "0123456adf");
  EXPECT_EQ(console.counts().dropped, 6U);
}

TEST(Console, WhatAClientHasTakenCountsUntilItHasTakenAll) {
  ConsoleFaults faults;
  faults.limit = 10;
  Console console = with(faults);
  console.handle_guest_output("0123456789");
  console.handle_output_taken(9);
  console.handle_guest_output("abcde");
  EXPECT_EQ(take_output(console), "abcde") << "in the place of 9 and of what had gone";
  EXPECT_EQ(console.counts().dropped, 1U);
  console.handle_guest_output("0123456789");
  EXPECT_EQ(take_output(console), "0123456789") << "all taken, all room";
}

TEST(Console, ALowerLimitHoldsAtOnce) {
  Console console(seed);
  console.handle_guest_output("0123456789");
  ConsoleFaults faults;
  faults.limit = 4;
  console.set_faults(faults);
  EXPECT_EQ(console.counts().dropped, 6U);
}

TEST(Console, OffTheGuestFillsTheRingAndWaits) {
  Console console(seed);
  console.handle_guest_output("QEMU has this");
  ConsoleFaults faults;
  faults.is_on = false;
  console.set_faults(faults);
  EXPECT_EQ(console.counts().dropped, 13U) << "QEMU's buffer went with it";
  EXPECT_EQ(console.client_room(), 0U);
  const std::string bytes = counting(console_out_bytes);
  console.handle_guest_output(bytes);
  EXPECT_EQ(console.guest_room(), 0U);

  console.set_faults({});
  EXPECT_EQ(console.guest_room(), console_out_bytes);
  console.handle_client(true);
  console.handle_guest_output("!");
  EXPECT_EQ(take_output(console), bytes + "!") << "the ring is the guest's and stays";
}

TEST(ConsoleLoss, TakesAboutItsShareInShortRuns) {
  ConsoleFaults faults;
  faults.loss_permille = 300;
  Console console = with(faults);
  const std::string bytes = counting(std::size_t{1} << 20);
  const std::string got = through(console, bytes, 1000);
  EXPECT_GT(got.size(), bytes.size() * 65 / 100);
  EXPECT_LT(got.size(), bytes.size() * 75 / 100);
  EXPECT_EQ(console.counts().dropped, bytes.size() - got.size());

  faults.loss_permille = 2;
  Console better = with(faults);
  const std::string most = through(better, bytes, 1000);
  for (std::size_t i = 1; i < most.size(); ++i) {
    const auto step =
        static_cast<unsigned char>(most[i]) + 251 - static_cast<unsigned char>(most[i - 1]);
    ASSERT_LE((step - 1) % 251, 64) << "too long a run is missing before byte " << i;
  }
}

TEST(ConsoleLoss, IsTheSameForTheSameBytesHoweverTheyAreCut) {
  ConsoleFaults faults;
  faults.loss_permille = 300;
  Console one = with(faults);
  Console other = with(faults);
  const std::string bytes = counting(100'000);
  EXPECT_EQ(through(one, bytes, 2000), through(other, bytes, 77));
}

TEST(ConsoleLoss, OfAThousandIsOfAllAndOfNoneIsOfNothing) {
  ConsoleFaults faults;
  faults.loss_permille = 1000;
  Console console = with(faults);
  EXPECT_EQ(through(console, counting(10'000), 1000), "");
  console.handle_client_bytes("to the guest");
  EXPECT_EQ(take_input(console), "");
  console.set_faults({});
  EXPECT_EQ(through(console, counting(10'000), 1000), counting(10'000));
}

TEST(ConsoleEcho, ComesBackAsFromACookedTty) {
  ConsoleFaults faults;
  faults.echoes = true;
  Console console = with(faults);
  console.handle_client_bytes("ab\r\n\x03\t\x7f");
  EXPECT_EQ(take_output(console), "ab\r\n\r\n^C\t^?");
  EXPECT_EQ(take_input(console), "ab\r\n\x03\t\x7f") << "the guest gets it as it was";
}

TEST(ConsoleNoise, IsOfLinesBetweenAndInTheGuestsWrites) {
  ConsoleFaults faults;
  faults.has_noise = true;
  Console console = with(faults);
  std::string noisy = through(console, std::string(20'000, 'x'), 100);
  std::size_t between = 0;
  std::size_t within = 0;
  for (std::size_t at = 0; (at = noisy.find('[', at)) != std::string::npos;) {
    const std::size_t end = noisy.find("\r\n", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_NE(noisy.find("] ", at), std::string::npos);
    noisy.erase(at, end + 2 - at);
    ++(at % 100 == 0 ? between : within);
  }
  EXPECT_GT(between, 0U);
  EXPECT_GT(within, 20U);
  EXPECT_EQ(noisy.size(), 20'000U) << "and what the guest wrote is all there";
}

TEST(ConsoleSettings, AreReadOrRefusedWithTheReason) {
  ConsoleFaults faults;
  apply_console_setting(faults, "console", "off");
  apply_console_setting(faults, "console-loss", "1000");
  apply_console_setting(faults, "console-echo", "on");
  apply_console_setting(faults, "console-noise", "on");
  apply_console_setting(faults, "console-limit", "4096");
  EXPECT_FALSE(faults.is_on);
  EXPECT_EQ(faults.loss_permille, 1000U);
  EXPECT_TRUE(faults.echoes);
  EXPECT_TRUE(faults.has_noise);
  EXPECT_EQ(faults.limit, 4096U);
  for (const auto& [key, value] : {std::pair{"console", "yes"},
                                   {"console-loss", "1001"},
                                   {"console-loss", "-1"},
                                   {"console-echo", ""},
                                   {"console-limit", "0"},
                                   {"console-limit", "1048577"},
                                   {"console-limit", "1k"},
                                   {"console-dup", "on"}}) {
    EXPECT_THROW(apply_console_setting(faults, key, value), std::invalid_argument)
        << key << " " << value;
  }
  EXPECT_TRUE(is_console_setting("console"));
  EXPECT_TRUE(is_console_setting("console-dup"));
  EXPECT_FALSE(is_console_setting("gntalloc-limit"));
}

TEST(ChannelNames, FollowTheManualPagesRule) {
  for (const std::string good : {"a", "0", "org.example.agent-1_b", "A"}) {
    EXPECT_NO_THROW(check_channel_name(good)) << good;
  }
  EXPECT_NO_THROW(check_channel_name(std::string(63, 'a')));
  for (const std::string bad : {"", ".a", "-a", "_a", "a/b", "a b", "a:b", "..", "\xc3\xa9"}) {
    EXPECT_THROW(check_channel_name(bad), std::invalid_argument) << bad;
  }
  EXPECT_THROW(check_channel_name(std::string(64, 'a')), std::invalid_argument);
}

}  // namespace
}  // namespace xensim::hv

// Credit against a reference model that keeps whole histories, and at the edges of its numbers.
#include "bridge/mux/credit.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace xenlane::bridge {
namespace {

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

TEST(SendCredit, OldLimitsAreIgnored) {
  SendCredit credit(100);
  credit.raise(200);
  credit.raise(150);
  credit.raise(200);
  EXPECT_EQ(credit.available(), 200U);
  credit.spend(180);
  credit.raise(100);
  EXPECT_EQ(credit.available(), 20U) << "a limit below what was sent takes nothing back";
}

TEST(SendCredit, LimitsNearTheEndOfTheNumbersDoNotWrap) {
  SendCredit credit(10);
  credit.spend(10);
  credit.raise(most);
  EXPECT_EQ(credit.available(), most - 10);
  credit.spend(most - 10);
  EXPECT_EQ(credit.available(), 0U);
  credit.raise(most);
  EXPECT_EQ(credit.available(), 0U);
}

TEST(ReceiveCredit, MoreThanTheLimitIsRefusedAndNotCounted) {
  ReceiveCredit credit(100);
  EXPECT_TRUE(credit.receive(60));
  EXPECT_FALSE(credit.receive(41));
  EXPECT_FALSE(credit.receive(most));
  EXPECT_EQ(credit.received(), 60U);
  EXPECT_TRUE(credit.receive(40));
  EXPECT_FALSE(credit.receive(1));
}

TEST(ReceiveCredit, RenewsWhenHalfAWindowIsFree) {
  ReceiveCredit credit(100);
  ASSERT_TRUE(credit.receive(100));
  credit.deliver(49);
  EXPECT_FALSE(credit.update_due());
  EXPECT_EQ(credit.poll_update(), std::nullopt);
  credit.deliver(1);
  EXPECT_TRUE(credit.update_due());
  EXPECT_EQ(credit.poll_update(), 150U);
  EXPECT_EQ(credit.poll_update(), std::nullopt) << "said once";
}

TEST(ReceiveCredit, WindowOfOneByteMovesOn) {
  ReceiveCredit credit(1);
  for (std::uint64_t i = 1; i < 100; ++i) {
    ASSERT_TRUE(credit.receive(1));
    ASSERT_FALSE(credit.receive(1));
    credit.deliver(1);
    ASSERT_EQ(credit.poll_update(), i + 1);
  }
}

TEST(ReceiveCredit, WideningShowsInTheNextLimit) {
  ReceiveCredit credit(100);
  ASSERT_TRUE(credit.receive(50));
  credit.deliver(50);
  credit.widen(400);
  EXPECT_EQ(credit.poll_update(), 450U);
  EXPECT_TRUE(credit.receive(400));
  EXPECT_FALSE(credit.receive(1));
}

/// Sender, receiver and the updates on their way, against plain sums.
TEST(Credit, RandomHistoriesKeepEveryInvariant) {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    std::uint64_t window = 1 + random() % 5000;
    SendCredit sender(window);
    ReceiveCredit receiver(window);
    std::deque<std::uint64_t> in_flight;
    std::deque<std::uint64_t> updates;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t delivered = 0;
    std::uint64_t told = window;
    for (int i = 0; i < 3000; ++i) {
      switch (random() % 6) {
        case 0:
          if (sender.available() > 0) {
            in_flight.push_back(1 + random() % sender.available());
            sender.spend(in_flight.back());
            sent += in_flight.back();
          }
          break;
        case 1:
          if (!in_flight.empty()) {
            ASSERT_TRUE(receiver.receive(in_flight.front())) << "an honest sender was refused";
            received += in_flight.front();
            in_flight.pop_front();
          }
          break;
        case 2:
          if (receiver.held() > 0) {
            const std::uint64_t bytes = 1 + random() % receiver.held();
            receiver.deliver(bytes);
            delivered += bytes;
          }
          break;
        case 3: {
          const bool due = receiver.update_due();
          const auto limit = receiver.poll_update();
          ASSERT_EQ(due, limit.has_value());
          if (limit) {
            ASSERT_GT(*limit, told) << "limits only rise";
            told = *limit;
            updates.push_back(*limit);
          }
          break;
        }
        case 4:
          if (!updates.empty()) {
            sender.raise(updates.front());
            // Updates may come twice.
            if (random() % 2 == 0) updates.pop_front();
          }
          break;
        default:
          if (random() % 50 == 0 && window < 1'000'000) receiver.widen(window *= 2);
      }
      ASSERT_EQ(sender.sent(), sent);
      ASSERT_EQ(receiver.received(), received);
      ASSERT_EQ(receiver.held(), received - delivered);
      ASSERT_LE(sent + sender.available(), told);
      ASSERT_LE(told, delivered + window);
      ASSERT_LE(receiver.held(), window);
    }
    // Nothing is lost: when all has arrived and gone, the sender may go on.
    for (const std::uint64_t bytes : in_flight) ASSERT_TRUE(receiver.receive(bytes));
    receiver.deliver(receiver.held());
    if (const auto limit = receiver.poll_update()) updates.push_back(*limit);
    for (const std::uint64_t limit : updates) sender.raise(limit);
    ASSERT_GE(sender.available(), (window + 1) / 2 - (window % 2));
  }
}

}  // namespace
}  // namespace xenlane::bridge

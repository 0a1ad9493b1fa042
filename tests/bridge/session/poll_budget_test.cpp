// How the time to look for work before a sleep is learned.
#include "bridge/session/poll_budget.hpp"

#include <gtest/gtest.h>

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;

PollBudget learned(std::chrono::microseconds max) {
  PollBudget budget(max);
  for (int i = 0; i < 20; ++i) budget.found_asleep(5us);
  return budget;
}

TEST(PollBudget, StartsBySleepingAtOnce) {
  EXPECT_EQ(PollBudget(100us).current(), 0us);
}

TEST(PollBudget, ShortSleepsTeachToLookLongerUpToTheLimit) {
  PollBudget budget(100us);
  auto before = budget.current();
  while (budget.current() < 100us) {
    budget.found_asleep(20us);
    ASSERT_GT(budget.current(), before);
    before = budget.current();
  }
  budget.found_asleep(20us);
  EXPECT_EQ(budget.current(), 100us);
}

TEST(PollBudget, OneLongSleepTeachesToSleepAtOnce) {
  PollBudget budget = learned(100us);
  budget.found_asleep(101us);
  EXPECT_EQ(budget.current(), 0us);
}

TEST(PollBudget, WhatPaysStaysAsItIs) {
  PollBudget budget = learned(100us);
  const auto before = budget.current();
  budget.found_looking();
  EXPECT_EQ(budget.current(), before);
  EXPECT_EQ(budget.counters().paid, 1U);
}

TEST(PollBudget, CountsWhatWasLookedForInVainApartFromWhatWasSleptThrough) {
  PollBudget budget(100us);
  budget.found_asleep(10us);
  budget.found_asleep(10us);
  EXPECT_EQ(budget.counters().unlooked, 1U);
  EXPECT_EQ(budget.counters().missed, 1U);
}

TEST(PollBudget, NeverLooksOnACrowdedProcessorForAWhile) {
  PollBudget budget = learned(100us);
  budget.crowded_out();
  for (int i = 0; i < 200; ++i) {
    budget.found_asleep(5us);
    ASSERT_EQ(budget.current(), 0us);
  }
  for (int i = 0; i < 200; ++i) budget.found_asleep(5us);
  EXPECT_GT(budget.current(), 0us) << "but the crowd may go away";
}

TEST(PollBudget, LimitOfZeroIsNever) {
  PollBudget budget = learned(0us);
  EXPECT_EQ(budget.current(), 0us);
}

}  // namespace
}  // namespace xenlane::bridge

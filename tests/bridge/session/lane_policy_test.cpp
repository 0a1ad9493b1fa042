// Which lane is wanted, by configuration, by hand, by what moves, and by what the peer wants.
#include "bridge/session/lane_policy.hpp"

#include <gtest/gtest.h>

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using Time = LanePolicy::Time;

constexpr Time start{1000s};
constexpr std::uint64_t little = 1000;
constexpr std::uint64_t bulk = 64 * 1024;
constexpr std::uint64_t backlog = 8 * 1024;

LanePolicy policy_of(LaneMode mode, std::chrono::milliseconds idle = 30s) {
  LanePolicySettings settings;
  settings.mode = mode;
  settings.idle = idle;
  return LanePolicy(settings);
}

/// With a console that answers.
LanePolicy on_console(LaneMode mode = LaneMode::on_demand, std::chrono::milliseconds idle = 30s) {
  LanePolicy policy = policy_of(mode, idle);
  policy.set_console_present(true, start);
  policy.set_console_open(true, start);
  return policy;
}

enum class Console { none, silent, answers };

struct Row {
  LaneMode mode;
  LaneForce force;
  LaneWish peer;
  Console console;
  bool moves_bulk;
  LaneWish wish;
  bool vchan;
  std::string_view why;
};

constexpr auto demand = LaneMode::on_demand;
constexpr auto always = LaneMode::always;
constexpr auto never = LaneMode::never;
constexpr auto by_itself = LaneForce::automatic;
constexpr auto any = LaneWish::none;
constexpr auto fast = LaneWish::vchan;
constexpr auto slow = LaneWish::console;
constexpr auto none = Console::none;
constexpr auto silent = Console::silent;
constexpr auto answers = Console::answers;

constexpr std::string_view by_hand = "set by hand";
constexpr std::string_view no_console = "there is no console channel";
constexpr std::string_view no_answer = "the console does not answer";
constexpr std::string_view no_bulk = "there is no bulk";
constexpr std::string_view moved = "a stream moved 64 KiB within a second";
constexpr std::string_view asked = "the other side asked for it";
constexpr std::string_view unwanted = "the other side wants no vchan";
constexpr std::string_view set_always = "configured: always a vchan";
constexpr std::string_view set_never = "configured: never a vchan";

constexpr Row rows[] = {
    // mode, by hand, peer, console, bulk: wish, vchan, why
    {demand, by_itself, any, answers, false, any, false, no_bulk},
    {demand, by_itself, any, answers, true, fast, true, moved},
    {demand, by_itself, any, silent, false, any, true, no_answer},
    {demand, by_itself, any, none, false, any, true, no_console},
    {demand, by_itself, fast, answers, false, any, true, asked},
    {demand, by_itself, slow, answers, false, any, false, unwanted},
    {demand, by_itself, slow, answers, true, fast, false, unwanted},
    {demand, by_itself, slow, none, false, any, false, unwanted},
    {demand, LaneForce::vchan, any, answers, false, fast, true, by_hand},
    {demand, LaneForce::vchan, slow, answers, false, fast, false, unwanted},
    {demand, LaneForce::console, any, answers, true, slow, false, by_hand},
    {demand, LaneForce::console, fast, answers, true, slow, false, by_hand},
    {demand, LaneForce::console, any, none, false, slow, false, by_hand},
    {always, by_itself, any, answers, false, fast, true, set_always},
    {always, by_itself, slow, answers, false, fast, false, unwanted},
    {always, by_itself, any, none, false, fast, true, set_always},
    {always, LaneForce::console, any, answers, false, slow, false, by_hand},
    {never, by_itself, any, answers, true, slow, false, set_never},
    {never, by_itself, fast, answers, false, slow, false, set_never},
    {never, by_itself, any, none, false, slow, false, set_never},
    {never, LaneForce::vchan, any, answers, false, fast, true, by_hand},
};

TEST(LanePolicy, ComesToAWishAndALane) {
  for (const Row& row : rows) {
    SCOPED_TRACE(testing::Message() << "row " << &row - rows);
    LanePolicy policy = policy_of(row.mode);
    policy.force(row.force);
    policy.set_console_present(row.console != Console::none, start);
    policy.set_console_open(row.console == Console::answers, start);
    const Time now = start + 2 * LanePolicy::console_grace;
    policy.observe(now, false, row.moves_bulk ? bulk : little, 0);
    EXPECT_EQ(policy.wish(now), row.wish);
    EXPECT_EQ(policy.wants_vchan(now, row.peer), row.vchan);
    EXPECT_EQ(policy.why(now, row.peer), row.why);
  }
}

TEST(LanePolicy, ConnectionThatWantsTheVchanIsReasonEnough) {
  LanePolicy policy = on_console();
  policy.set_eager(true);
  EXPECT_EQ(policy.wish(start), LaneWish::vchan);
  EXPECT_EQ(policy.why(start, any), "a channel with an open connection is configured for it");
  policy.set_eager(false);
  EXPECT_EQ(policy.wish(start), LaneWish::none) << "the connection has ended";
  LanePolicy unwilling = on_console(never);
  unwilling.set_eager(true);
  EXPECT_EQ(unwilling.wish(start), LaneWish::console);
}

TEST(LanePolicy, WhatWaitsForTheConsoleIsBulkToo) {
  LanePolicy policy = on_console();
  policy.observe(start, false, little, backlog - 1);
  EXPECT_EQ(policy.wish(start), LaneWish::none);
  policy.observe(start, false, little, backlog);
  EXPECT_EQ(policy.wish(start), LaneWish::vchan);
  EXPECT_EQ(policy.why(start, any), "8 KiB waited for the console");
}

TEST(LanePolicy, ALittleLessThanBulkIsNone) {
  LanePolicy policy = on_console();
  policy.observe(start, false, bulk - 1, 0);
  EXPECT_EQ(policy.wish(start), LaneWish::none);
}

TEST(LanePolicy, VchanStaysUntilNoBulkWasSeenForAWhile) {
  LanePolicy policy = on_console(demand, 500ms);
  policy.observe(start, false, bulk, 0);
  EXPECT_EQ(policy.next_review(start), start + 500ms);
  policy.observe(start + 400ms, true, bulk, 0);
  EXPECT_TRUE(policy.wants_vchan(start + 899ms, any));
  EXPECT_FALSE(policy.wants_vchan(start + 900ms, any));
  EXPECT_EQ(policy.why(start + 900ms, any), no_bulk);
  EXPECT_EQ(policy.next_review(start + 900ms), std::nullopt);
}

// A fourth of what opens a vchan keeps it, or a rate near the threshold would open and close it.
TEST(LanePolicy, LessKeepsAVchanThanOpensOne) {
  LanePolicy policy = on_console(demand, 500ms);
  policy.observe(start, false, bulk, 0);
  policy.observe(start + 400ms, true, bulk / 4, 0);
  EXPECT_TRUE(policy.wants_vchan(start + 600ms, any));
  policy.observe(start + 800ms, true, bulk / 4 - 1, 0);
  EXPECT_FALSE(policy.wants_vchan(start + 900ms, any));
  EXPECT_EQ(policy.wish(start + 900ms), LaneWish::none);
}

// Why there is a vchan is told by what opened it.
TEST(LanePolicy, ReasonIsThatOfTheOpening) {
  LanePolicy policy = on_console();
  policy.observe(start, false, little, backlog);
  policy.observe(start + 1s, true, bulk, 0);
  EXPECT_EQ(policy.why(start + 1s, any), "8 KiB waited for the console");
}

TEST(LanePolicy, BacklogOnAVchanIsNoBulk) {
  LanePolicy policy = on_console();
  policy.observe(start, true, 0, 1'000'000);
  EXPECT_EQ(policy.wish(start), LaneWish::none);
}

TEST(LanePolicy, ThresholdOfNothingStillNeedsAByteOnAVchan) {
  LanePolicySettings settings;
  settings.volume_bytes = 1;
  LanePolicy policy(settings);
  policy.set_console_present(true, start);
  policy.set_console_open(true, start);
  policy.observe(start, true, 0, 0);
  EXPECT_EQ(policy.wish(start), LaneWish::none);
  policy.observe(start, true, 1, 0);
  EXPECT_EQ(policy.wish(start), LaneWish::vchan);
}

TEST(LanePolicy, ConsoleHasAMomentToAnswer) {
  LanePolicy policy = policy_of(demand);
  policy.set_console_present(true, start);
  EXPECT_FALSE(policy.wants_vchan(start, any)) << "it may answer yet";
  EXPECT_EQ(policy.next_review(start), start + LanePolicy::console_grace);
  const Time later = start + LanePolicy::console_grace;
  EXPECT_TRUE(policy.wants_vchan(later, any));
  EXPECT_EQ(policy.wish(later), LaneWish::none) << "nobody else has to hear of it";
  EXPECT_EQ(policy.next_review(later), std::nullopt);
  policy.set_console_open(true, later);
  EXPECT_FALSE(policy.wants_vchan(later, any)) << "it has answered";
}

TEST(LanePolicy, ConsoleThatFallsSilentHasItsMomentAgain) {
  LanePolicy policy = on_console();
  policy.set_console_open(false, start + 10s);
  EXPECT_FALSE(policy.console_open());
  EXPECT_FALSE(policy.wants_vchan(start + 10s, any));
  EXPECT_TRUE(policy.wants_vchan(start + 10s + LanePolicy::console_grace, any));
  policy.set_console_open(false, start + 11s);
  EXPECT_TRUE(policy.wants_vchan(start + 11s, any)) << "said twice it is silent no less";
}

TEST(LanePolicy, ConsoleThatIsTakenAwayIsMissedAtOnce) {
  LanePolicy policy = on_console();
  policy.set_console_present(false, start);
  EXPECT_FALSE(policy.console_open());
  EXPECT_TRUE(policy.wants_vchan(start, any));
  EXPECT_EQ(policy.next_review(start), std::nullopt);
  policy.set_console_present(true, start + 5s);
  EXPECT_FALSE(policy.wants_vchan(start + 5s, any));
}

TEST(LanePolicy, ComesBackForWhatIsDueFirst) {
  LanePolicy policy = policy_of(demand, 300ms);
  policy.set_console_present(true, start);
  policy.observe(start, false, bulk, 0);
  EXPECT_EQ(policy.next_review(start), start + 300ms);
  EXPECT_EQ(policy.next_review(start + 300ms), start + LanePolicy::console_grace);
  EXPECT_EQ(policy.next_review(start + LanePolicy::console_grace), std::nullopt);
}

TEST(LanePolicy, WhoHoldsTheLaneDecidesAndTheLastOfThemFirst) {
  LanePolicy policy = on_console();
  policy.force(LaneForce::console);
  policy.hold(1, LaneForce::vchan);
  EXPECT_EQ(policy.wish(start), fast);
  EXPECT_EQ(policy.why(start, any), "a command holds it");
  policy.hold(2, LaneForce::automatic);
  EXPECT_EQ(policy.wish(start), any);
  EXPECT_EQ(policy.why(start, any), no_bulk);
  policy.force(LaneForce::vchan);
  EXPECT_EQ(policy.forced(), LaneForce::automatic) << "until nobody holds it";
  policy.release(1);
  EXPECT_EQ(policy.forced(), LaneForce::automatic);
  policy.release(2);
  policy.release(2);
  EXPECT_EQ(policy.holds(), 0U);
  EXPECT_EQ(policy.forced(), LaneForce::vchan);
  EXPECT_EQ(policy.why(start, any), by_hand);
}

TEST(LanePolicy, ForcesHaveTheNamesThatTheToolTakes) {
  EXPECT_EQ(to_string(LaneForce::automatic), "auto");
  EXPECT_EQ(to_string(LaneForce::vchan), "vchan");
  EXPECT_EQ(to_string(LaneForce::console), "console");
}

}  // namespace
}  // namespace xenlane::bridge

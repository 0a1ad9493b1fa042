// What the simulator must show of itself and of the bridges, as ordinary tests: the seeds that once
// broke a promise, the same run for the same seed, a lane cut after every step, and each call that
// can fail made to fail once. The thousands of fresh seeds are xenlane-sim's.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/sim/world.hpp"

namespace xenlane::sim {
namespace {

class Simulation : public testing::Test {
 protected:
  void SetUp() override { log_to(nullptr); }
};

std::vector<std::uint64_t> kept_seeds() {
  std::ifstream file(XENLANE_KEPT_SEEDS);
  std::vector<std::uint64_t> seeds;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    seeds.push_back(std::stoull(line));
  }
  return seeds;
}

Result run_seed(std::uint64_t seed) {
  Options options;
  options.seed = seed;
  return simulate(options);
}

TEST_F(Simulation, SeedsThatOnceBrokeAPromiseKeepItNow) {
  const auto seeds = kept_seeds();
  ASSERT_FALSE(seeds.empty());
  for (const std::uint64_t seed : seeds) {
    EXPECT_EQ(run_seed(seed).failure, "") << "seed " << seed;
  }
}

TEST_F(Simulation, SameSeedIsTheSameRunToTheLastStep) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const Result first = run_seed(seed);
    const Result again = run_seed(seed);
    EXPECT_EQ(first.trace_hash, again.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.steps, again.steps) << "seed " << seed;
  }
  EXPECT_NE(run_seed(1).trace_hash, run_seed(2).trace_hash);
}

Options scripted(std::uint64_t seed) {
  Options options;
  options.seed = seed;
  options.random = false;
  return options;
}

// Each seed has another order of things; the story is the same: a service on each side and a pair
// of port connections, with bytes both ways.
TEST_F(Simulation, LaneMayBeCutAfterEveryStep) {
  std::uint64_t cuts = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Result whole = simulate(scripted(seed));
    ASSERT_EQ(whole.failure, "") << "seed " << seed;
    ASSERT_EQ(whole.sessions, 1U);
    for (std::uint64_t step = 1; step <= whole.steps_of_story; ++step) {
      Options options = scripted(seed);
      options.cut_after_steps = step;
      const Result cut = simulate(options);
      ASSERT_EQ(cut.failure, "") << "seed " << seed << ", cut after step " << step;
      ASSERT_GE(cut.sessions, 2U) << "seed " << seed << ", cut after step " << step;
      ++cuts;
    }
  }
  fmt::print("cut at every step: {} cuts\n", cuts);
  EXPECT_GT(cuts, 100U);
}

/// The first, second, third... call of its kind fails, until the story has no more of them.
class FailingCall : public Simulation, public testing::WithParamInterface<Fault> {};

TEST_P(FailingCall, MayBeAnyOfThem) {
  std::uint64_t failures = 0;
  for (std::uint64_t k = 1;; k += 1 + failures / 200) {
    Options options = scripted(1);
    options.failing_call = {GetParam(), k};
    const Result result = simulate(options);
    ASSERT_EQ(result.failure, "") << to_string(GetParam()) << ", call " << k;
    if (!result.planned_call_failed) break;
    ++failures;
  }
  fmt::print("{}: {} calls made to fail\n", to_string(GetParam()), failures);
  EXPECT_GT(failures, 0U);
}

INSTANTIATE_TEST_SUITE_P(Calls, FailingCall,
                         testing::Values(Fault::accept_out_of_files, Fault::socket_out_of_files,
                                         Fault::connect_again, Fault::short_read,
                                         Fault::short_write, Fault::write_would_block,
                                         Fault::write_no_buffers, Fault::interrupted,
                                         Fault::out_of_memory),
                         [](const auto& parameter) {
                           std::string name;
                           for (const char letter : to_string(parameter.param)) {
                             if (std::isalnum(static_cast<unsigned char>(letter)) != 0) {
                               name += letter;
                             }
                           }
                           return name;
                         });

}  // namespace
}  // namespace xenlane::sim

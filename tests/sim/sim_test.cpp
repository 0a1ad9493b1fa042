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

Options scripted(std::uint64_t seed, Lanes lanes) {
  Options options;
  options.seed = seed;
  options.random = false;
  options.lanes = lanes;
  return options;
}

std::string name_of(Lanes lanes) {
  switch (lanes) {
    case Lanes::vchan:
      return "Vchan";
    case Lanes::beside:
      return "VchanBesideConsole";
    case Lanes::console:
      return "Console";
    case Lanes::on_demand:
      return "OnDemand";
  }
  return "unknown";
}

constexpr auto all_lanes = {Lanes::vchan, Lanes::beside, Lanes::console, Lanes::on_demand};

class CutLane : public Simulation, public testing::WithParamInterface<Lanes> {};

// Each seed has another order of things; the story is the same: a service on each side and a pair
// of port connections, with bytes both ways. Wherever the lane is cut that carries them, all bytes
// arrive.
TEST_P(CutLane, AfterAnyStepBreaksNoStream) {
  std::uint64_t cuts = 0;
  std::uint64_t resumed = 0;
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    const Options whole_story = scripted(seed, GetParam());
    const Result whole = simulate(whole_story);
    ASSERT_EQ(whole.failure, "") << "seed " << seed;
    ASSERT_EQ(whole.incomplete, 0U) << "seed " << seed;
    for (std::uint64_t step = 1; step <= whole.steps_of_story; ++step) {
      Options options = whole_story;
      options.cut_after_steps = step;
      const Result cut = simulate(options);
      ASSERT_EQ(cut.failure, "") << "seed " << seed << ", cut after step " << step;
      ASSERT_EQ(cut.incomplete, 0U) << "seed " << seed << ", cut after step " << step;
      resumed += cut.resumed;
      ++cuts;
    }
  }
  fmt::print("{}: {} cuts, {} resumptions\n", name_of(GetParam()), cuts, resumed);
  EXPECT_GT(cuts, 100U);
  EXPECT_GE(resumed, 2 * cuts);  // on both sides
}

INSTANTIATE_TEST_SUITE_P(Lanes, CutLane, testing::ValuesIn(all_lanes),
                         [](const auto& parameter) { return name_of(parameter.param); });

/// The first, second, third... call of its kind fails, until the story has no more of them.
class FailingCall : public Simulation,
                    public testing::WithParamInterface<std::tuple<Fault, Lanes>> {};

TEST_P(FailingCall, MayBeAnyOfThem) {
  std::uint64_t failures = 0;
  for (std::uint64_t k = 1;; k += 1 + failures / 60) {
    const auto [call, lanes] = GetParam();
    Options options = scripted(1, lanes);
    options.failing_call = {call, k};
    const Result result = simulate(options);
    ASSERT_EQ(result.failure, "") << to_string(call) << ", call " << k;
    if (!result.planned_call_failed) break;
    ++failures;
  }
  const auto [call, lanes] = GetParam();
  fmt::print("{}, {}: {} calls made to fail\n", to_string(call), name_of(lanes), failures);
  EXPECT_GT(failures, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Calls, FailingCall,
    testing::Combine(testing::Values(Fault::accept_out_of_files, Fault::socket_out_of_files,
                                     Fault::connect_again, Fault::short_read, Fault::short_write,
                                     Fault::write_would_block, Fault::write_no_buffers,
                                     Fault::interrupted, Fault::out_of_memory),
                     testing::Values(Lanes::vchan, Lanes::on_demand)),
    [](const auto& parameter) {
      std::string name = name_of(std::get<Lanes>(parameter.param));
      for (const char letter : to_string(std::get<Fault>(parameter.param))) {
        if (std::isalnum(static_cast<unsigned char>(letter)) != 0) {
          name += letter;
        }
      }
      return name;
    });

}  // namespace
}  // namespace xenlane::sim

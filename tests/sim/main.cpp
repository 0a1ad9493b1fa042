// xenlane-sim: runs simulations by seed, prints what they met, and keeps what broke a promise.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <random>

#include "tests/sim/campaign.hpp"
#include "tests/sim/world.hpp"

namespace {

using namespace xenlane::sim;  // NOLINT(google-build-using-namespace)

constexpr const char* examples =
    "Examples:\n"
    "  xenlane-sim                       2,000 seeds, on every processor\n"
    "  xenlane-sim --seeds 100000        more of them\n"
    "  xenlane-sim --seed 17 --trace     one again, with all that happened in it\n"
    "Exit codes: 0 every promise was kept; 1 one was broken, and its seed is printed; 2 usage.";

int run_one(const Options& options, bool log) {
  log_to(log ? &std::cout : nullptr);
  fmt::print("seed {}\n", options.seed);
  std::fflush(stdout);
  const Result result = simulate(options);
  fmt::print(
      "{} steps, {:.3f} s of virtual time, {} connections, {} bytes, {} vchans, {} resumptions\n"
      "trace {:016x}\n",
      result.steps, result.virtual_seconds, result.applications, result.bytes, result.sessions,
      result.resumed, result.trace_hash);
  if (result.failure.empty()) return 0;
  fmt::print("BROKEN: {}\n", result.failure);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Simulates hosts and guests with faults, each run decided by its seed.",
               "xenlane-sim"};
  std::optional<std::uint64_t> seed;
  Campaign campaign;
  std::uint64_t first = 0;
  bool trace = false;
  std::optional<std::uint64_t> cut;
  std::string call;
  std::uint64_t nth = 1;
  bool log = false;
  std::string lanes = "vchan";
  app.add_option("--seed", seed, "run this one, in this process");
  app.add_option("--seeds", campaign.count, "how many to run (default 2000)");
  app.add_option("--from", first, "the first of them (default: a random one)");
  app.add_option("--jobs", campaign.jobs, "processes at once (default: one for each processor)");
  app.add_flag("--trace", trace, "with --seed: print everything that happens");
  app.add_flag("--log", log, "with --seed: the bridges' own log, on stdout");
  app.add_option("--cut", cut,
                 "with --seed: the scripted story, its lane cut after that many steps");
  app.add_option("--call", call, "with --seed: the scripted story, a call of this kind fails");
  app.add_option("--nth", nth, "which of those calls (default 1)");
  app.add_option("--lanes", lanes,
                 "with --cut and --call: vchan (default), beside, console or on_demand");
  app.footer(examples);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (seed) {
    Options options;
    options.seed = *seed;
    options.print_trace = trace;
    options.random = !cut && call.empty();
    options.cut_after_steps = cut;
    const auto known = parse_lanes(lanes);
    if (!known) {
      fmt::print(stderr, "xenlane-sim: --lanes {}: vchan, beside, console or on_demand\n", lanes);
      return 2;
    }
    options.lanes = *known;
    if (!call.empty()) {
      const auto fault = parse_fault(call);
      if (!fault) {
        fmt::print(stderr, "xenlane-sim: --call {}: no such kind; they are listed by a run\n",
                   call);
        return 2;
      }
      options.failing_call = {*fault, nth};
    }
    return run_one(options, log);
  }
  campaign.first = first != 0 ? first : std::random_device()() % 1'000'000'000ULL;
  return run_campaign(campaign) ? 0 : 1;
}

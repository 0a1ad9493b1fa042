#include "tests/sim/campaign.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/sim/world.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::sim {

namespace {

/// A seed that takes longer than this by the real clock hangs.
constexpr unsigned seed_seconds_max = 60;

/// What one process has to tell; a plain value, so that it can go through a pipe as it is.
struct Totals {
  std::uint64_t seeds = 0;
  std::uint64_t broken = 0;
  std::uint64_t steps = 0;
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;
  std::uint64_t lanes = 0;
  double virtual_seconds = 0;
  std::array<std::uint64_t, fault_count> hits{};

  void add(const Totals& other) {
    seeds += other.seeds;
    broken += other.broken;
    steps += other.steps;
    connections += other.connections;
    bytes += other.bytes;
    lanes += other.lanes;
    virtual_seconds += other.virtual_seconds;
    for (std::size_t i = 0; i < fault_count; ++i) hits[i] += other.hits[i];
  }
};

struct Job {
  pid_t pid = -1;
  transport::UniqueFd totals;
};

Totals totals_of(const Result& result) {
  return {1,           result.failure.empty() ? 0U : 1U, result.steps, result.applications,
          result.bytes, result.sessions,                  result.virtual_seconds, result.hits};
}

// Every `stride`-th seed. What kills the process is the seed that it announced last.
void run_seeds(std::uint64_t first, std::uint64_t end, std::uint64_t stride, int out) {
  Totals totals;
  for (std::uint64_t seed = first; seed < end; seed += stride) {
    ::alarm(seed_seconds_max);
    const std::string mark = fmt::format("/tmp/xenlane-sim-seed.{}", ::getpid());
    if (std::FILE* file = std::fopen(mark.c_str(), "w")) {
      fmt::print(file, "{}\n", seed);
      std::fclose(file);
    }
    Options options;
    options.seed = seed;
    const Result result = simulate(options);
    totals.add(totals_of(result));
    if (!result.failure.empty()) fmt::print("seed {} BROKEN: {}\n", seed, result.failure);
    std::fflush(stdout);
    ::unlink(mark.c_str());
  }
  if (::write(out, &totals, sizeof totals) != sizeof totals) std::abort();
}

Job start_job(const Campaign& campaign, unsigned index, unsigned jobs) {
  int ends[2];
  if (::pipe(ends) != 0) throw Failure("pipe");
  std::fflush(stdout);
  Job job;
  job.pid = ::fork();
  if (job.pid < 0) throw Failure("fork");
  if (job.pid == 0) {
    ::close(ends[0]);
    run_seeds(campaign.first + index, campaign.first + campaign.count, jobs, ends[1]);
    std::fflush(stdout);
    ::_exit(0);
  }
  ::close(ends[1]);
  job.totals.reset(ends[0]);
  return job;
}

bool collect(Job& job, Totals& totals) {
  Totals of_job;
  const ssize_t got = ::read(job.totals.get(), &of_job, sizeof of_job);
  int status = 0;
  ::waitpid(job.pid, &status, 0);
  const std::string mark = fmt::format("/tmp/xenlane-sim-seed.{}", job.pid);
  if (got == sizeof of_job && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    totals.add(of_job);
    return true;
  }
  unsigned long long seed = 0;
  if (std::FILE* file = std::fopen(mark.c_str(), "r")) {
    if (std::fscanf(file, "%llu", &seed) != 1) seed = 0;
    std::fclose(file);
    ::unlink(mark.c_str());
  }
  fmt::print("seed {} BROKEN: the process ended: {}\n", seed,
             WIFSIGNALED(status) ? ::strsignal(WTERMSIG(status)) : "by itself");
  return false;
}

}  // namespace

bool run_campaign(const Campaign& campaign) {
  spdlog::set_level(spdlog::level::off);
  const unsigned jobs =
      campaign.jobs != 0 ? campaign.jobs : std::max(1U, std::thread::hardware_concurrency());
  fmt::print("simulation: seeds {} to {}\n", campaign.first, campaign.first + campaign.count - 1);
  const auto begin = std::chrono::system_clock::now();
  std::vector<Job> running;
  for (unsigned i = 0; i < jobs; ++i) running.push_back(start_job(campaign, i, jobs));
  Totals totals;
  bool whole = true;
  for (Job& job : running) whole = collect(job, totals) && whole;
  const std::chrono::duration<double> took = std::chrono::system_clock::now() - begin;
  std::size_t classes = 0;
  for (std::size_t i = 0; i < fault_count; ++i) {
    if (totals.hits[i] > 0) ++classes;
    fmt::print("  {:<30} {:>10}\n", to_string(static_cast<Fault>(i)), totals.hits[i]);
  }
  fmt::print("simulation: {} seeds, {} broken; {} of {} fault classes hit; {} connections, {:.0f} "
             "MiB, {} lanes, {} steps, {:.0f} s of virtual time in {:.0f} s\n",
             totals.seeds, totals.broken, classes, fault_count, totals.connections,
             static_cast<double>(totals.bytes) / 1048576, totals.lanes, totals.steps,
             totals.virtual_seconds, took.count());
  return whole && totals.broken == 0;
}

}  // namespace xenlane::sim

#include "tests/sim/campaign.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/sim/world.hpp"

namespace xenlane::sim {

namespace {

/// A seed that takes more processor time than this will not come to an end.
constexpr long seed_seconds_max = 60;

/// What one process has to tell; a plain value, so that it can go through a pipe as it is.
struct Totals {
  std::uint64_t seeds = 0;
  std::uint64_t broken = 0;
  std::uint64_t steps = 0;
  std::uint64_t connections = 0;
  std::uint64_t bytes = 0;
  std::uint64_t lanes = 0;
  std::uint64_t resumed = 0;
  double virtual_seconds = 0;
  std::array<std::uint64_t, fault_count> hits{};

  void add(const Totals& other) {
    seeds += other.seeds;
    broken += other.broken;
    steps += other.steps;
    connections += other.connections;
    bytes += other.bytes;
    lanes += other.lanes;
    resumed += other.resumed;
    virtual_seconds += other.virtual_seconds;
    for (std::size_t i = 0; i < fault_count; ++i) hits[i] += other.hits[i];
  }
};

/// What a process leaves for its parent to read, whatever becomes of it.
struct Progress {
  std::uint64_t seed = 0;  ///< under way
  Totals totals;
};

/// One of several processes that share the seeds: it takes every `stride`-th.
struct Job {
  pid_t pid = -1;
  Progress* progress = nullptr;  ///< shared memory
};

Totals totals_of(const Result& result) {
  return {1,
          result.failure.empty() ? 0U : 1U,
          result.steps,
          result.applications,
          result.bytes,
          result.sessions,
          result.resumed,
          result.virtual_seconds,
          result.hits};
}

void run_seeds(std::uint64_t first, std::uint64_t end, std::uint64_t stride, Progress& progress) {
  for (std::uint64_t seed = first; seed < end; seed += stride) {
    progress.seed = seed;
    const itimerval limit{{0, 0}, {seed_seconds_max, 0}};
    ::setitimer(ITIMER_PROF, &limit, nullptr);
    Options options;
    options.seed = seed;
    const Result result = simulate(options);
    progress.totals.add(totals_of(result));
    if (!result.failure.empty()) fmt::print("seed {} BROKEN: {}\n", seed, result.failure);
    std::fflush(stdout);
  }
}

void start(Job& job, std::uint64_t first, std::uint64_t end, std::uint64_t stride) {
  std::fflush(stdout);
  job.pid = ::fork();
  if (job.pid < 0) throw Failure("fork");
  if (job.pid > 0) return;
  run_seeds(first, end, stride, *job.progress);
  std::fflush(stdout);
  ::_exit(0);
}

// Waits for the job; one that a seed has killed goes on behind that seed.
void finish(Job& job, std::uint64_t end, std::uint64_t stride) {
  for (;;) {
    int status = 0;
    if (::waitpid(job.pid, &status, 0) != job.pid) throw Failure("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    ++job.progress->totals.seeds;
    ++job.progress->totals.broken;
    fmt::print("seed {} BROKEN: the process ended: {}\n", job.progress->seed,
               WIFSIGNALED(status) ? ::strsignal(WTERMSIG(status)) : "by itself");
    start(job, job.progress->seed + stride, end, stride);
  }
}

Progress* share_progress() {
  void* memory =
      ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw Failure("mmap");
  return new (memory) Progress;
}

void print(const Totals& totals, double seconds) {
  std::size_t classes = 0;
  for (std::size_t i = 0; i < fault_count; ++i) {
    if (totals.hits[i] > 0) ++classes;
    fmt::print("  {:<30} {:>10}\n", to_string(static_cast<Fault>(i)), totals.hits[i]);
  }
  fmt::print(
      "simulation: {} seeds, {} broken; {} of {} fault classes hit; {} connections, {:.0f} "
      "MiB, {} vchans, {} resumptions, {} steps, {:.0f} s of virtual time in {:.0f} s\n",
      totals.seeds, totals.broken, classes, fault_count, totals.connections,
      static_cast<double>(totals.bytes) / 1048576, totals.lanes, totals.resumed, totals.steps,
      totals.virtual_seconds, seconds);
}

}  // namespace

bool run_campaign(const Campaign& campaign) {
  log_to(nullptr);
  const unsigned count =
      campaign.jobs != 0 ? campaign.jobs : std::max(1U, std::thread::hardware_concurrency());
  const std::uint64_t end = campaign.first + campaign.count;
  fmt::print("simulation: seeds {} to {}\n", campaign.first, end - 1);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<Job> jobs(count);
  for (unsigned i = 0; i < count; ++i) {
    jobs[i].progress = share_progress();
    start(jobs[i], campaign.first + i, end, count);
  }
  Totals totals;
  for (Job& job : jobs) {
    finish(job, end, count);
    totals.add(job.progress->totals);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  print(totals, took.count());
  return totals.broken == 0;
}

}  // namespace xenlane::sim

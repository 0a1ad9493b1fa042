// Measures many streams over one channel: how they share it, what one slow reader costs the others,
// what a small message waits for beside bulk, and what thousands of idle streams cost.
//
//   bench_crowd --near SOCKET --far SOCKET [--rounds N] [--seconds S] [--idle N]
//               [--bridge NAME=PID]... [--markdown FILE] [--json FILE]
//
// It plays the applications at both ends: it connects to the named socket NEAR, and answers at FAR,
// where the other side's bridge dials. Bytes are counted where they arrive. What is compared is
// measured in turn, and the median of the rounds counts.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <boost/json.hpp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/figures.hpp"
#include "tests/support/unix_sockets.hpp"

namespace {

using namespace xenlane::tests;  // NOLINT(google-build-using-namespace)
using xenlane::transport::UniqueFd;

constexpr std::size_t block_bytes = 64 * 1024;
constexpr std::size_t ping_bytes = 64;
constexpr std::size_t crowd_size = 100;

/// One stream's two ends.
struct Pair {
  UniqueFd near;
  UniqueFd far;
};

class Endpoints {
 public:
  Endpoints(std::string near, const std::string& far)
      : near_(std::move(near)), listener_(listen_at(far)) {}

  /// Answers connections and keeps them, until this process goes.
  [[noreturn]] void hold_far_ends() const {
    std::vector<UniqueFd> held;
    for (;;) {
      held.push_back(accept_at(listener_));
      send_all(held.back().get(), "y", 1);
    }
  }
  /// One whose far end another process holds.
  UniqueFd open_near() const {
    UniqueFd near = connect_to(near_);
    char byte = 0;
    receive_exactly(near.get(), &byte, 1);
    return near;
  }

  Pair open() const {
    Pair pair;
    pair.near = connect_to(near_);
    send_all(pair.near.get(), "x", 1);
    pair.far = accept_at(listener_);
    char byte = 0;
    receive_exactly(pair.far.get(), &byte, 1);
    return pair;
  }

 private:
  std::string near_;
  UniqueFd listener_;
};

/// Runs `step` for every socket that is ready, again and again until told to stop. The descriptor
/// that is to stop it becomes readable.
template <typename Step>
void serve_ready(const std::vector<int>& sockets, std::uint32_t events, int stop, Step step) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  const auto add = [&](int fd, std::uint32_t wanted, std::uint64_t index) {
    epoll_event event{wanted, {.u64 = index}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
  };
  constexpr std::uint64_t stopping = ~std::uint64_t{0};
  add(stop, EPOLLIN, stopping);
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    if (sockets[i] >= 0) add(sockets[i], events, i);
  }
  std::array<epoll_event, 256> ready;
  for (;;) {
    const int count = ::epoll_wait(epoll.get(), ready.data(), int{ready.size()}, -1);
    for (int i = 0; i < count; ++i) {
      const std::uint64_t index = ready[std::size_t(i)].data.u64;
      if (index == stopping) return;
      step(std::size_t{index});
    }
  }
}

/// Streams that are fed as fast as they take it, and read as fast as they come: one thread each.
class BusyStreams {
 public:
  /// The far end of `stopped` is never read; none is by default.
  explicit BusyStreams(std::vector<Pair> pairs, std::size_t stopped = ~std::size_t{0})
      : pairs_(std::move(pairs)), received_(pairs_.size()) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2");
    stop_.reset(ends[0]);
    alive_.reset(ends[1]);
    std::vector<int> near;
    std::vector<int> far;
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      near.push_back(pairs_[i].near.get());
      far.push_back(i == stopped ? -1 : pairs_[i].far.get());
    }
    sender_ = std::thread([this, near] {
      const std::vector<char> block(block_bytes);
      serve_ready(near, EPOLLOUT, stop_.get(), [&](std::size_t i) {
        ::send(near[i], block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      });
    });
    receiver_ = std::thread([this, far] {
      std::vector<char> block(block_bytes);
      serve_ready(far, EPOLLIN, stop_.get(), [&](std::size_t i) {
        const ssize_t got = ::recv(far[i], block.data(), block.size(), MSG_DONTWAIT);
        if (got > 0) received_[i] += static_cast<std::uint64_t>(got);
      });
    });
  }
  BusyStreams(const BusyStreams&) = delete;
  BusyStreams& operator=(const BusyStreams&) = delete;
  ~BusyStreams() {
    alive_.reset();  // the end of the pipe is what stops them
    sender_.join();
    receiver_.join();
  }

  /// Bytes received by each stream in so many seconds, a settling time before them left out.
  std::vector<double> measure(double seconds) const {
    sleep(seconds / 4);
    std::vector<double> before = counts();
    sleep(seconds);
    std::vector<double> after = counts();
    for (std::size_t i = 0; i < after.size(); ++i) after[i] -= before[i];
    return after;
  }

  /// Bytes received by each stream so far.
  std::vector<double> counts() const {
    std::vector<double> out;
    for (const auto& count : received_) out.push_back(static_cast<double>(count.load()));
    return out;
  }

 private:
  static void sleep(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

  std::vector<Pair> pairs_;
  std::vector<std::atomic<std::uint64_t>> received_;
  UniqueFd stop_;
  UniqueFd alive_;
  std::thread sender_;
  std::thread receiver_;
};

std::vector<Pair> open_streams(const Endpoints& endpoints, std::size_t count) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < count; ++i) pairs.push_back(endpoints.open());
  return pairs;
}

double total(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

/// Times of round trips of 64 bytes, microseconds.
std::vector<double> ping(const Endpoints& endpoints, double seconds) {
  const Pair pair = endpoints.open();
  std::thread echo([&pair] {
    std::array<char, ping_bytes> message{};
    for (;;) {
      const ssize_t got = ::recv(pair.far.get(), message.data(), message.size(), 0);
      if (got <= 0) return;
      send_all(pair.far.get(), message.data(), static_cast<std::size_t>(got));
    }
  });
  std::array<char, ping_bytes> message{};
  std::vector<double> times;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const auto start = Clock::now();
    send_all(pair.near.get(), message.data(), message.size());
    receive_exactly(pair.near.get(), message.data(), message.size());
    times.push_back(seconds_since(start) * 1e6);
  }
  ::shutdown(pair.far.get(), SHUT_RDWR);
  echo.join();
  return times;
}

/// What the kernel has counted for a process, all its threads together.
struct Usage {
  double wake_ups = 0;  ///< times it was switched to another
  double cpu_ms = 0;
  double memory_mib = 0;  ///< resident
};

double number_after(const std::string& path, const std::string& label) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    double value = 0;
    if (word == label && file >> value) return value;
  }
  return 0;
}

Usage usage_of(const std::string& pid) {
  Usage usage;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task")) {
    const std::string status = task.path().string() + "/status";
    usage.wake_ups += number_after(status, "voluntary_ctxt_switches:") +
                      number_after(status, "nonvoluntary_ctxt_switches:");
    double nanoseconds = 0;
    std::ifstream(task.path().string() + "/schedstat") >> nanoseconds;
    usage.cpu_ms += nanoseconds / 1e6;
  }
  usage.memory_mib = number_after("/proc/" + pid + "/status", "VmRSS:") / 1024;
  return usage;
}

using Figures = std::map<std::string, std::vector<double>>;
using Processes = std::map<std::string, std::string>;  ///< name to process id

void measure_sharing(const Endpoints& endpoints, double seconds, Figures& figures) {
  const auto rate = [seconds](const std::vector<double>& bytes) {
    return total(bytes) / seconds / 1e6;
  };
  const double alone = rate(BusyStreams(open_streams(endpoints, 1)).measure(seconds));
  const auto all = BusyStreams(open_streams(endpoints, crowd_size)).measure(seconds);
  figures["one stream, MB/s"].push_back(alone);
  figures["100 streams together, MB/s"].push_back(rate(all));
  figures["100 streams: Jain's fairness index"].push_back(fairness(all));
  figures["100 streams: share of one stream's rate"].push_back(rate(all) / alone);

  // In an order that a drift of the machine's speed does not favour.
  const auto without = [&] {
    return total(BusyStreams(open_streams(endpoints, crowd_size - 1)).measure(seconds));
  };
  const auto beside = [&] {
    return total(BusyStreams(open_streams(endpoints, crowd_size), 0).measure(seconds));
  };
  double alone_99 = without();
  const double beside_stopped = beside() + beside();
  alone_99 += without();
  figures["99 streams beside one whose reader stopped: share of 99 alone"].push_back(
      beside_stopped / alone_99);
}

void measure_ping(const Endpoints& endpoints, double seconds, Figures& figures) {
  const auto idle = ping(endpoints, seconds);
  const BusyStreams bulk(open_streams(endpoints, 1));
  const double alone = total(bulk.measure(seconds));
  const double before = total(bulk.counts());
  const auto begin = Clock::now();
  const auto beside = ping(endpoints, seconds);
  const double rate = (total(bulk.counts()) - before) / seconds_since(begin);
  figures["one stream beside 64-byte round trips: share of it alone"].push_back(rate * seconds /
                                                                                alone);
  figures["64-byte round trip, p50, us"].push_back(quantile(idle, 0.5));
  figures["64-byte round trip, p99, us"].push_back(quantile(idle, 0.99));
  figures["64-byte round trip beside bulk, p50, us"].push_back(quantile(beside, 0.5));
  figures["64-byte round trip beside bulk, p99, us"].push_back(quantile(beside, 0.99));
  figures["64-byte round trip beside bulk: p99 in idle p99s"].push_back(quantile(beside, 0.99) /
                                                                        quantile(idle, 0.99));
}

/// Opens so many streams, waits until the bridges have been still for a while, and then counts. The
/// far ends are another process's: few may have so many descriptors.
void measure_idle(const Endpoints& endpoints, std::size_t count, const Processes& bridges,
                  Figures& figures) {
  constexpr int seconds = 10;
  // Longer than an open may go unanswered: whatever was to go off has.
  constexpr int settling_seconds = 12;
  const pid_t holder = ::fork();
  if (holder < 0) fail("fork");
  if (holder == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    endpoints.hold_far_ends();
  }
  std::map<std::string, Usage> empty;
  for (const auto& [name, pid] : bridges) empty[name] = usage_of(pid);
  std::vector<UniqueFd> streams;
  while (streams.size() < count) streams.push_back(endpoints.open_near());
  std::this_thread::sleep_for(std::chrono::seconds(settling_seconds));
  std::map<std::string, Usage> before;
  for (const auto& [name, pid] : bridges) before[name] = usage_of(pid);
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  for (const auto& [name, pid] : bridges) {
    const Usage usage = usage_of(pid);
    const std::string who = fmt::format("{} idle streams: {} bridge", count, name);
    figures[who + ", memory, MiB"] = {usage.memory_mib};
    figures[who + ", memory without them, MiB"] = {empty[name].memory_mib};
    figures[fmt::format("{}, wake-ups in {} s", who, seconds)] = {usage.wake_ups -
                                                                  before[name].wake_ups};
    figures[fmt::format("{}, CPU in {} s, ms", who, seconds)] = {usage.cpu_ms -
                                                                 before[name].cpu_ms};
  }
  ::kill(holder, SIGKILL);
}

std::string as_markdown(const Figures& figures) {
  std::string text = "| figure | median |\n| --- | ---: |\n";
  for (const auto& [name, values] : figures) {
    text += fmt::format("| {} | {:.4g} |\n", name, median(values));
  }
  return text;
}

boost::json::value as_json(const Figures& figures) {
  boost::json::object all;
  for (const auto& [name, values] : figures) {
    all[name] = {{"median", median(values)}, {"values", boost::json::value_from(values)}};
  }
  return all;
}

void raise_file_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures many streams over one channel");
  std::string near;
  std::string far;
  std::vector<std::string> bridge_names;
  std::string markdown;
  std::string json;
  int rounds = 5;
  double seconds = 1;
  std::size_t idle = 0;
  app.add_option("--near", near, "the named socket")->required();
  app.add_option("--far", far, "the path that the other side dials")->required();
  app.add_option("--bridge", bridge_names, "NAME=PID of a process to watch while all is idle");
  app.add_option("--rounds", rounds);
  app.add_option("--seconds", seconds, "for each figure in each round");
  app.add_option("--idle", idle, "measure this many idle streams, and nothing else");
  app.add_option("--markdown", markdown);
  app.add_option("--json", json);
  CLI11_PARSE(app, argc, argv);
  try {
    Processes bridges;
    for (const std::string& name : bridge_names) {
      const std::size_t equals = name.find('=');
      if (equals == std::string::npos) throw std::runtime_error(name + ": not NAME=PID");
      bridges[name.substr(0, equals)] = name.substr(equals + 1);
    }
    raise_file_limit();
    const Endpoints endpoints(near, far);
    Figures figures;
    for (int round = 0; round < rounds && idle == 0; ++round) {
      measure_sharing(endpoints, seconds, figures);
      measure_ping(endpoints, seconds, figures);
      std::fprintf(stderr, "crowd: round %d of %d\n", round + 1, rounds);
    }
    if (idle > 0) measure_idle(endpoints, idle, bridges, figures);
    std::fputs(as_markdown(figures).c_str(), stdout);
    if (!markdown.empty()) std::ofstream(markdown) << as_markdown(figures);
    if (!json.empty()) std::ofstream(json) << boost::json::serialize(as_json(figures)) << '\n';
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_crowd: %s\n", error.what());
    return 1;
  }
}

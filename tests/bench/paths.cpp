// Measures whole paths between two programs that know nothing of what lies between them: each path
// is the name of a Unix socket, at whose far end one and the same server answers.
//
//   bench_paths serve SOCKET
//   bench_paths measure [--rounds N] [--seconds S] [--only FIGURE] [--markdown FILE] [--json FILE]
//                       [--one-at-a-time NAME]
//                       NAME=SOCKET...
//
// All paths are measured in turn, N times over, and what counts is the median of each: what
// disturbs the machine disturbs them alike. Ratios are to the path named first.
#include <fmt/format.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
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

// The first byte of a connection says what its server is to do. Neither needs the end of the data
// to be passed on: not every peer can do that.
constexpr char sink = 'S';  ///< again and again: take 8 bytes, a count, and so many bytes; say "."
constexpr char echo = 'E';  ///< send back what comes, this byte too

/// False when the other side has ended.
bool receive_some(int fd, std::vector<char>& block, std::size_t& size) {
  const ssize_t got = ::recv(fd, block.data(), std::min(size, block.size()), 0);
  if (got > 0) size = static_cast<std::size_t>(got);
  return got > 0;
}

void serve_sink(int fd, std::vector<char>& block) {
  for (;;) {
    std::uint64_t left = 0;
    receive_exactly(fd, reinterpret_cast<char*>(&left), sizeof left);
    while (left > 0) {
      std::size_t size = left;
      if (!receive_some(fd, block, size)) return;
      left -= size;
    }
    send_all(fd, ".", 1);
  }
}

void serve_connection(const UniqueFd& fd) {
  std::vector<char> block(block_bytes);
  std::size_t size = 1;
  if (!receive_some(fd.get(), block, size)) return;
  if (block[0] == sink) return serve_sink(fd.get(), block);
  do {
    send_all(fd.get(), block.data(), size);
    size = block.size();
  } while (receive_some(fd.get(), block, size));
}

void serve(const std::string& path) {
  const UniqueFd listener = listen_at(path);
  for (;;) {
    std::thread([fd = accept_at(listener)] {
      try {
        serve_connection(fd);
      } catch (const std::exception&) {
        // The client has gone; it tells of what it missed.
      }
    }).detach();
  }
}

/// Seconds until the far end says that it has `count` bytes, sent 64 KiB at a time.
double transfer(int fd, std::uint64_t count) {
  const std::vector<char> block(block_bytes);
  const auto begin = Clock::now();
  send_all(fd, reinterpret_cast<const char*>(&count), sizeof count);
  while (count > 0) {
    const std::size_t size = std::min<std::uint64_t>(count, block.size());
    send_all(fd, block.data(), size);
    count -= size;
  }
  char done = 0;
  receive_exactly(fd, &done, 1);
  return seconds_since(begin);
}

/// MB (10^6 bytes) a second, over about as long as is asked for.
double bulk(const std::string& path, double seconds) {
  const UniqueFd fd = connect_to(path);
  send_all(fd.get(), &sink, 1);
  // Credit grows, buffers and the scheduler settle: what counts comes after that.
  std::uint64_t trial = 1 << 20;
  double took = transfer(fd.get(), trial);
  while (took < seconds / 8) {
    trial *= 2;
    took = transfer(fd.get(), trial);
  }
  const auto count = static_cast<std::uint64_t>(double(trial) * seconds / took) + 1;
  return double(count) / transfer(fd.get(), count) / 1e6;
}

/// Median time of a round trip of 64 bytes, microseconds.
double round_trip(const std::string& path, double seconds) {
  const UniqueFd fd = connect_to(path);
  std::array<char, ping_bytes> message{};
  message.fill(echo);
  std::vector<double> times;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const auto start = Clock::now();
    send_all(fd.get(), message.data(), message.size());
    receive_exactly(fd.get(), message.data(), message.size());
    times.push_back(seconds_since(start) * 1e6);
  }
  return median(times);
}

/// Connections a second, one after another, each with one byte there and one back.
double connections(const std::string& path, double seconds) {
  std::uint64_t count = 0;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    const UniqueFd fd = connect_to(path);
    char byte = echo;
    send_all(fd.get(), &byte, 1);
    receive_exactly(fd.get(), &byte, 1);
    ++count;
  }
  return double(count) / seconds_since(begin);
}

struct Metric {
  const char* name;
  const char* unit;
  double (*measure)(const std::string& path, double seconds);
};

constexpr std::array<Metric, 3> metrics{{{"bulk", "MB/s", bulk},
                                         {"round_trip", "us", round_trip},
                                         {"connections", "1/s", connections}}};

struct Path {
  std::string name;
  std::string socket;
  bool many_connections = true;
  std::array<std::vector<double>, metrics.size()> values;
};

std::string as_markdown(const std::vector<Path>& paths) {
  std::string text = "| path |";
  std::string rule = "| --- |";
  for (const Metric& metric : metrics) {
    text += fmt::format(" {}, {} | x {} |", metric.name, metric.unit, paths.front().name);
    rule += " ---: | ---: |";
  }
  text += "\n" + rule + "\n";
  for (const Path& path : paths) {
    text += fmt::format("| {} |", path.name);
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      if (path.values[i].empty() || paths.front().values[i].empty()) {
        text += " | |";
        continue;
      }
      const double value = median(path.values[i]);
      text += fmt::format(" {:.4g} | {:.2f} |", value, value / median(paths.front().values[i]));
    }
    text += "\n";
  }
  return text;
}

boost::json::value as_json(const std::vector<Path>& paths) {
  boost::json::array all;
  for (const Path& path : paths) {
    boost::json::object one{{"path", path.name}};
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      if (path.values[i].empty()) continue;
      one[metrics[i].name] = {{"unit", metrics[i].unit},
                              {"median", median(path.values[i])},
                              {"values", boost::json::value_from(path.values[i])}};
    }
    all.push_back(std::move(one));
  }
  return all;
}

void measure(std::vector<Path>& paths, int rounds, double seconds, const std::string& only) {
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      if (!only.empty() && only != metrics[i].name) continue;
      for (Path& path : paths) {
        if (metrics[i].measure == connections && !path.many_connections) continue;
        path.values[i].push_back(metrics[i].measure(path.socket, seconds));
      }
    }
    std::fprintf(stderr, "round %d of %d\n", round + 1, rounds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures paths between Unix sockets side by side");
  app.require_subcommand(1);
  std::string socket;
  auto* serving = app.add_subcommand("serve", "Answer at a socket");
  serving->add_option("SOCKET", socket)->required();
  auto* measuring = app.add_subcommand("measure", "Measure paths to such servers");
  std::vector<std::string> names;
  std::string markdown;
  std::string json;
  std::string one_at_a_time;
  std::string only;
  int rounds = 5;
  double seconds = 1;
  measuring->add_option("PATH", names, "NAME=SOCKET; ratios are to the first")->required();
  measuring->add_option("--rounds", rounds);
  measuring->add_option("--seconds", seconds, "for each figure in each round");
  measuring->add_option("--one-at-a-time", one_at_a_time,
                        "NAME of a path that is not made for many connections");
  measuring->add_option("--only", only, "NAME of the one figure to measure");
  measuring->add_option("--markdown", markdown);
  measuring->add_option("--json", json);
  CLI11_PARSE(app, argc, argv);
  try {
    if (serving->parsed()) serve(socket);
    std::vector<Path> paths;
    for (const std::string& name : names) {
      const std::size_t equals = name.find('=');
      if (equals == std::string::npos) throw std::runtime_error(name + ": not NAME=SOCKET");
      const std::string label = name.substr(0, equals);
      paths.push_back({label, name.substr(equals + 1), label != one_at_a_time, {}});
    }
    measure(paths, rounds, seconds, only);
    std::fputs(as_markdown(paths).c_str(), stdout);
    if (!markdown.empty()) std::ofstream(markdown) << as_markdown(paths);
    if (!json.empty()) std::ofstream(json) << boost::json::serialize(as_json(paths)) << '\n';
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_paths: %s\n", error.what());
    return 1;
  }
}

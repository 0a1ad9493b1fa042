#include "bridge/cli/bench/plan.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "bridge/bench/request.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/address.hpp"
#include "bridge/cli/bench/baselines.hpp"
#include "bridge/cli/bench/units.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;

constexpr std::uint64_t size_step = 4;
/// What takes one connection at a time is not ready for the next at once.
constexpr std::chrono::milliseconds one_at_a_time_pause{200};

std::string first_line_of(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string hypervisor() {
  if (std::getenv("XENSIM_DIR") != nullptr) return "xensim";
  if (first_line_of("/sys/hypervisor/type") != "xen") return "no hypervisor";
  return fmt::format("Xen {}.{}{}", first_line_of("/sys/hypervisor/version/major"),
                     first_line_of("/sys/hypervisor/version/minor"),
                     first_line_of("/sys/hypervisor/version/extra"));
}

Answer<std::vector<char>> read_data(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> out(bench_data_bytes_max);
  file.read(out.data(), static_cast<std::streamsize>(out.size()));
  out.resize(static_cast<std::size_t>(file.gcount()));
  if (out.empty()) {
    return {{}, Failure{exit_usage, escape_untrusted(path) + ": there is nothing to read"}};
  }
  return {std::move(out), {}};
}

/// The guest that is meant: the only one there is, or the one that was named.
Answer<Guest> choose_guest(const Here& here, const std::string& name) {
  if (here.is_host && !name.empty()) return find_guest(here, name);
  if (here.guests.size() == 1 && name.empty()) return {here.guests.front(), {}};
  return {{},
          Failure{exit_usage, here.is_host ? "which guest? see 'xenlane ls'"
                                           : "in a guest, leave the guest out"}};
}

Answer<std::string> socket_of(const Here& here, const Guest& guest) {
  const Answer<json::object> bridge = ask_bridge(here, guest);
  if (bridge.failure) return {{}, bridge.failure};
  for (const json::object* channel : channels_of(bridge.value)) {
    if (json_text(*channel, "name") != bench_channel) continue;
    const std::string socket = json_text(*channel, "socket");
    if (!socket.empty()) return {socket, {}};
  }
  return {{},
          Failure{exit_unknown,
                  fmt::format("no channel {} to listen on here; configure it on both sides: "
                              "docs/bench.md has the lines",
                              bench_channel)}};
}

/// Ways that the user names, each with a service at its end that the user has started.
Answer<std::vector<BenchPath>> named_paths(const BenchOptions& options) {
  std::vector<BenchPath> out;
  for (const std::string& text : options.paths) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos || equals == 0) {
      return {{},
              Failure{exit_usage, fmt::format("--path {}: write NAME=unix:/PATH or "
                                              "NAME=tcp:HOST:PORT",
                                              escape_untrusted(text, 60))}};
    }
    const auto address = parse_bench_address(std::string_view(text).substr(equals + 1));
    if (!address) return {{}, Failure{exit_usage, "--path: " + address.error().text}};
    BenchPath path{text.substr(0, equals), [address = *address] { return connect_to(address); }};
    out.push_back(std::move(path));
  }
  for (const std::string& name : options.one_at_a_time) {
    const auto path = std::ranges::find(out, name, &BenchPath::name);
    if (path == out.end()) {
      return {{},
              Failure{exit_usage, fmt::format("--one-at-a-time {}: there is no such --path",
                                              escape_untrusted(name, 60))}};
    }
    path->one_at_a_time = true;
    path->connect = [connect = path->connect] {
      std::this_thread::sleep_for(one_at_a_time_pause);
      return connect();
    };
  }
  return {std::move(out), {}};
}

/// Moves an answer's value to `out`; its failure otherwise.
template <typename T>
std::optional<Failure> take(Answer<T> answer, T& out) {
  if (!answer.failure) out = std::move(answer.value);
  return std::move(answer.failure);
}

std::optional<Failure> fill_plan(const Context& context, const BenchOptions& options,
                                 BenchPlan& plan) {
  if (auto failure = take(parse_sizes(options.sizes), plan.sizes)) return failure;
  std::vector<BenchPath> named;
  if (auto failure = take(named_paths(options), named)) return failure;
  if (!options.data_file.empty()) {
    if (auto failure = take(read_data(options.data_file), plan.data)) return failure;
  }
  Here here;
  if (auto failure = take(ask_here(context), here)) return failure;
  if (auto failure = take(choose_guest(here, options.guest), plan.guest)) return failure;
  if (auto failure = take(socket_of(here, plan.guest), plan.socket)) return failure;
  plan.every_lane = !options.lanes.empty();
  plan.lanes = plan.every_lane ? options.lanes : std::vector<std::string>{"vchan", "console"};
  if (!options.no_baselines) plan.others = local_baselines();
  std::ranges::move(named, std::back_inserter(plan.others));
  plan.rounds = options.rounds;
  plan.times.time = std::chrono::milliseconds(static_cast<long>(options.time_s * 1000));
  return {};
}

}  // namespace

Answer<std::vector<std::uint64_t>> parse_sizes(const std::string& text) {
  std::vector<std::uint64_t> out;
  std::string_view left = text;
  const auto failed = [](const std::string& message) {
    return Answer<std::vector<std::uint64_t>>{{}, Failure{exit_usage, "--sizes: " + message}};
  };
  while (!left.empty()) {
    const std::size_t comma = std::min(left.find(','), left.size());
    const std::string_view word = left.substr(0, comma);
    left.remove_prefix(std::min(comma + 1, left.size()));
    const std::size_t dots = word.find("..");
    const auto first = parse_bytes(word.substr(0, dots));
    const auto last = dots == word.npos ? first : parse_bytes(word.substr(dots + 2));
    if (!first || !last) return failed((first ? last : first).error().text);
    for (std::uint64_t size = *first; size <= *last; size *= size_step) out.push_back(size);
  }
  std::ranges::sort(out);
  out.erase(std::ranges::unique(out).begin(), out.end());
  if (out.empty()) return failed("there are none; write 16..1M or 64,4K,1M");
  if (out.back() > bench_message_bytes_max) {
    return failed(fmt::format("a message has at most {}", bytes_in_words(bench_message_bytes_max)));
  }
  return {std::move(out), {}};
}

Answer<BenchPlan> make_plan(const Context& context, const BenchOptions& options) {
  BenchPlan plan;
  if (auto failure = fill_plan(context, options, plan)) return {{}, std::move(failure)};
  return {std::move(plan), {}};
}

BenchReport begin_report(const BenchPlan& plan, const BenchOptions& options) {
  BenchReport report;
  utsname machine{};
  ::uname(&machine);
  report.kernel = static_cast<const char*>(machine.release);
  report.hypervisor = hypervisor();
  report.processors = std::thread::hardware_concurrency();
  report.guest = plan.guest.name;
  report.data = plan.data.empty() ? "random bytes" : options.data_file;
  report.rounds = plan.rounds;
  report.time_ms = static_cast<std::uint64_t>(plan.times.time.count());
  return report;
}

}  // namespace xenlane::bridge::cli

#include "bridge/cli/bench/run.hpp"

#include <fmt/format.h>

#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "bridge/bench/request.hpp"
#include "bridge/channel/text.hpp"
#include "bridge/cli/bench/units.hpp"
#include "bridge/cli/bench/usage.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {
namespace {

namespace json = boost::json;
using Bytes = std::span<const char>;

constexpr std::chrono::seconds lane_wait{30};
/// A session that has just begun may have a console lane a little later.
constexpr std::chrono::seconds console_wait{5};
constexpr std::chrono::milliseconds look_again{50};

/// All rounds of one size on one path.
struct Raw {
  std::vector<double> to, from, both;
  std::vector<std::vector<std::uint64_t>> round_trips;
  std::vector<double> near_cpu, far_cpu, wake_ups, notifications, packs_into;
};

/// A path that is measured, and what has been found out about it.
struct Course {
  BenchedPath found;
  BenchPath path;
  std::string lane;  ///< that is held meanwhile; empty: none
  Bytes data;        ///< of messages from here
  Bytes data_back;   ///< of those that come back; empty: random
  std::vector<Raw> raw;
  bool given_up = false;
};

std::vector<char> make_random() {
  std::vector<char> out(bench_random_bytes);
  std::mt19937_64 random(std::random_device{}());
  for (char& byte : out) byte = static_cast<char>(random());
  return out;
}

bool has_open_console(const json::object& status) {
  const json::object* const console = json_object(status, "console");
  if (console == nullptr) return false;
  const json::value* const open = console->if_contains("open");
  return open != nullptr && open->is_bool() && open->get_bool();
}

BenchPoint point_of(std::uint64_t size, const Raw& raw) {
  BenchPoint out;
  out.size = size;
  out.to = spread_of(raw.to);
  out.from = spread_of(raw.from);
  if (!raw.both.empty()) out.both = spread_of(raw.both);
  out.round_trips = round_trips_of(raw.round_trips);
  if (!raw.near_cpu.empty()) {
    out.cost = Cost{spread_of(raw.near_cpu).median, spread_of(raw.far_cpu).median,
                    spread_of(raw.wake_ups).median, spread_of(raw.notifications).median};
  }
  if (!raw.packs_into.empty()) out.packs_into = spread_of(raw.packs_into).median;
  return out;
}

class Runner {
 public:
  Runner(const BenchPlan& plan, const std::function<void(const std::string&)>& step)
      : plan_(plan), step_(step), random_(make_random()) {}

  void run(BenchReport& report) {
    for (const std::string& lane : plan_.lanes) {
      if (can_have(lane, report.notes)) plan_lane(lane);
    }
    if (courses_.empty()) throw BenchFailure(report.notes.front());
    for (const BenchPath& path : plan_.others) add(path, "", plan_.data);
    for (unsigned round = 1; round <= plan_.rounds; ++round) {
      for (Course& course : courses_) measure_course(round, course, report.notes);
    }
    for (Course& course : courses_) {
      if (course.given_up) continue;
      for (std::size_t i = 0; i < plan_.sizes.size(); ++i) {
        course.found.points.push_back(point_of(plan_.sizes[i], course.raw[i]));
      }
      report.paths.push_back(std::move(course.found));
    }
  }

 private:
  void plan_lane(const std::string& lane) {
    add({lane, [this, lane] { return connect_lane(lane); }}, lane, plan_.data);
    if (lane != "console" || plan_.data.empty()) return;
    add({lane + ", random bytes", [this, lane] { return connect_lane(lane); }}, lane, {});
  }

  /// `data` is empty for random bytes.
  void add(BenchPath path, std::string lane, Bytes data) {
    Course course;
    course.found.name = path.name;
    course.found.is_lane = !lane.empty();
    course.path = std::move(path);
    course.lane = std::move(lane);
    course.data = data.empty() ? Bytes(random_) : data;
    course.data_back = data;
    course.raw.resize(plan_.sizes.size());
    courses_.push_back(std::move(course));
  }

  /// Tries it once; otherwise a note, or a failure.
  bool can_have(const std::string& lane, std::vector<std::string>& notes) const {
    std::string why;
    if (lane == "console" && !await_console()) {
      why = "no console lane is up; see 'xenlane status' and docs/configuration.md";
    } else if (const Answer<LaneHold> held = hold_lane(plan_.guest, lane, lane_wait);
               held.failure) {
      why = held.failure->message;
    } else {
      return true;
    }
    notes.push_back(fmt::format("{} was not measured: {}", lane, why));
    if (plan_.every_lane) throw BenchFailure(fmt::format("{}: {}", lane, why));
    return false;
  }

  /// It may have to be negotiated still.
  bool await_console() const {
    const auto until = std::chrono::steady_clock::now() + console_wait;
    while (!has_open_console(near_status(plan_.guest))) {
      if (std::chrono::steady_clock::now() >= until) return false;
      std::this_thread::sleep_for(look_again);
    }
    return true;
  }

  void measure_course(unsigned round, Course& course, std::vector<std::string>& notes) {
    if (course.given_up) return;
    if (!course.lane.empty()) return measure_lane(round, course);
    try {
      measure_sizes(round, course);
    } catch (const BenchFailure& failure) {
      // It is not what this is about: the lanes' figures are not lost for it.
      course.given_up = true;
      notes.push_back(fmt::format("{}; that path was given up in round {}", failure.what(), round));
    }
  }

  void measure_lane(unsigned round, Course& course) {
    const Answer<LaneHold> held = hold_lane(plan_.guest, course.lane, lane_wait);
    if (held.failure) throw BenchFailure(held.failure->message, held.failure->code);
    try {
      measure_sizes(round, course);
    } catch (const BenchFailure&) {
      // The socket ends alike however the stream has ended; the bridge knows why.
      if (const auto why = bad_ending_of(near_status(plan_.guest), bench_channel)) {
        throw BenchFailure(course.lane + ": " + why->message, why->code);
      }
      throw;
    }
    const json::object status = near_status(plan_.guest);
    const json::object* const lane = json_object(status, "lane");
    if (held.value.was_let_go() || lane == nullptr || json_text(*lane, "kind") != course.lane) {
      throw BenchFailure(course.lane + ": that lane was lost meanwhile; see 'xenlane status'");
    }
    course.found.send_ring_bytes = json_number(*lane, "send_ring_bytes");
    course.found.receive_ring_bytes = json_number(*lane, "receive_ring_bytes");
  }

  void measure_sizes(unsigned round, Course& course) {
    for (std::size_t i = 0; i < plan_.sizes.size(); ++i) {
      step_(fmt::format("round {} of {}: {}, {}", round, plan_.rounds, course.path.name,
                        bytes_in_words(plan_.sizes[i])));
      measure(course, plan_.sizes[i], course.raw[i]);
    }
  }

  void measure(const Course& course, std::uint64_t size, Raw& raw) {
    BothUsages before;
    if (course.found.is_lane) before = usages(course.path);
    raw.to.push_back(measure_to(course.path, size, plan_.times, course.data).per_second());
    raw.from.push_back(measure_from(course.path, size, plan_.times, course.data_back).per_second());
    if (course.found.is_lane) keep_costs(before, usages(course.path), course.lane, raw);
    if (!course.path.one_at_a_time) {
      raw.both.push_back(
          measure_both(course.path, size, plan_.times, course.data, course.data_back));
    }
    raw.round_trips.push_back(measure_round_trips(course.path, size, plan_.times, course.data));
  }

  BothUsages usages(const BenchPath& path) const {
    return {usage_of(near_status(plan_.guest)), far_usage(path)};
  }

  static void keep_costs(const BothUsages& before, const BothUsages& after, const std::string& lane,
                         Raw& raw) {
    if (const auto cost = cost_between(before, after)) {
      raw.near_cpu.push_back(cost->near_cpu_s_per_gb);
      raw.far_cpu.push_back(cost->far_cpu_s_per_gb);
      raw.wake_ups.push_back(cost->wake_ups_per_mb);
      raw.notifications.push_back(cost->notifications_per_mb);
    }
    if (lane != "console") return;
    if (const auto share = packing_between(before, after)) raw.packs_into.push_back(*share);
  }

  transport::UniqueFd connect_lane(const std::string& lane) const {
    auto socket = connect_unix(plan_.socket);
    if (socket) return std::move(*socket);
    throw BenchFailure(
        fmt::format("{}: {}: {}", lane, escape_untrusted(plan_.socket), socket.error().text));
  }

  const BenchPlan& plan_;
  const std::function<void(const std::string&)>& step_;
  std::vector<char> random_;
  std::vector<Course> courses_;
};

}  // namespace

void run_bench(const BenchPlan& plan, const std::function<void(const std::string&)>& step,
               BenchReport& report) {
  Runner(plan, step).run(report);
}

}  // namespace xenlane::bridge::cli

#include "tests/sim/environment.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

namespace xenlane::sim {

namespace {

/// Name, and how often per million opportunities the fault strikes at most; zero for what is drawn
/// or comes about otherwise.
struct Description {
  std::string_view name;
  std::uint32_t parts_per_million_max;
};

constexpr std::array<Description, fault_count> descriptions{{
    {"one-byte chunks", 400'000},
    {"link stall", 3'000},
    {"lost wake-up", 300'000},
    {"spurious wake-up", 20'000},
    {"late wake-up", 300'000},
    {"lane cut", 300},
    {"lane cut in mid-frame", 300},
    {"lane cut, nobody told", 200},
    {"no grants", 400'000},
    {"no event channel", 200'000},
    {"attach fails", 300'000},
    {"set-up times out", 100'000},
    {"smallest ring", 600'000},
    {"no vchan at all", 0},
    {"console: bytes lost", 100'000},
    {"console: bytes repeated", 100'000},
    {"console: log lines", 100'000},
    {"console: echo", 200},
    {"console: newlines mapped", 200},
    {"console: stalled", 400},
    {"console: dead", 150},
    {"console: middle discarded", 0},
    {"console: hung up", 300},
    {"console: client dropped", 300},
    {"no console", 0},
    {"console only, by policy", 0},
    {"lane set by hand", 1'000},
    {"guest bridge killed", 300},
    {"guest bridge stopped", 200},
    {"worker killed", 300},
    {"host stopped", 150},
    {"process frozen", 400},
    {"guest paused", 200},
    {"guest destroyed", 150},
    {"domid reused", 900'000},
    {"guest restored", 150},
    {"xenstore mute", 200},
    {"xenstore gone", 150},
    {"xenstore connections dropped", 200},
    {"spurious watch", 1'000},
    {"transaction conflict", 300'000},
    {"slow reader", 300'000},
    {"stopped reader", 150'000},
    {"application vanishes", 5'000},
    {"early close", 150'000},
    {"no listener", 1'000},
    {"backlog full", 1'000},
    {"connect and leave", 100'000},
    {"accept: out of files", 100'000},
    {"socket: out of files", 100'000},
    {"connect: try again", 200'000},
    {"short read", 300'000},
    {"short write", 300'000},
    {"write would block", 100'000},
    {"write: no buffers", 2'000},
    {"call interrupted", 50'000},
    {"out of memory", 40},
}};

/// Whether a new lane may be late because of it.
bool hinders(Fault fault) {
  const auto within = [fault](Fault first, Fault last) { return fault >= first && fault <= last; };
  return within(Fault::lane_cut, Fault::setup_timeout) ||
         within(Fault::console_bytes_lost, Fault::console_client_dropped) ||
         within(Fault::guest_bridge_killed, Fault::transaction_conflict);
}

}  // namespace

std::string_view to_string(Fault fault) {
  return descriptions[static_cast<std::size_t>(fault)].name;
}

std::optional<Fault> parse_fault(std::string_view name) {
  for (std::size_t i = 0; i < fault_count; ++i) {
    if (descriptions[i].name == name) return static_cast<Fault>(i);
  }
  return std::nullopt;
}

void log_to(std::ostream* out) {
  static std::ostream nowhere(nullptr);
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(out != nullptr ? *out : nowhere);
  auto logger = std::make_shared<spdlog::logger>("sim", std::move(sink));
  logger->set_pattern("             [%l] %v");
  logger->set_level(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

Environment*& environment() {
  static Environment* current = nullptr;
  return current;
}

void Environment::draw_faults() {
  // Seeds differ in character: some have a single fault, some many, one in sixteen none at all.
  const std::uint64_t density = below(16);
  for (std::size_t i = 0; i < fault_count; ++i) {
    const bool drawn = below(16) < density;
    const std::uint32_t most = descriptions[i].parts_per_million_max;
    const auto drawn_rate = static_cast<std::uint32_t>(1 + below(most));
    parts_per_million_[i] = drawn && most > 0 ? drawn_rate : 0;
  }
}

void Environment::count(Fault fault) {
  ++hits_[static_cast<std::size_t>(fault)];
  if (hinders(fault)) hinder(now_ns_);
}

bool Environment::strikes(Fault fault) {
  if (running != nullptr && is_spared(*running)) return false;
  if (planned_ && planned_->call == fault) {
    if (planned_->calls_left == 0 || --planned_->calls_left > 0) return false;
  } else {
    const std::uint32_t rate = parts_per_million_[static_cast<std::size_t>(fault)];
    if (!faults_allowed_ || rate == 0 || below(1'000'000) >= rate) return false;
  }
  count(fault);
  mix(0xFA0 + static_cast<std::uint64_t>(fault));
  return true;
}

void Environment::note(std::string_view what, std::uint64_t a, std::uint64_t b) {
  for (const char letter : what) mix(static_cast<unsigned char>(letter));
  mix(a);
  mix(b);
  if (print_trace)
    fmt::print("{:12.6f} {} {} {}\n", now_s() - 1000, what, a, static_cast<std::int64_t>(b));
}

}  // namespace xenlane::sim

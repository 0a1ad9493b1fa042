// What every part of a simulation shares: the seed's random numbers, the virtual clock, the faults
// that may strike, and the trace of all that happened. One simulation at a time in a process.
//
// The one idea: nothing that a simulated process sees may come from anywhere but here, so that the
// same seed gives the same run to the last byte. What the process would ask of its kernel (the
// time, short reads, failing calls, memory) is answered in kernel.cpp from this environment.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <ostream>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

namespace xenlane::sim {

/// A millisecond of virtual time, which is in nanoseconds.
inline constexpr std::uint64_t ms = 1'000'000;

/// Everything that can go wrong; docs/testing.md lists what each stands for.
enum class Fault : std::uint8_t {
  // the lane
  one_byte_chunks,
  link_stall,
  lost_wake_up,
  spurious_wake_up,
  late_wake_up,
  lane_cut,
  lane_cut_in_frame,
  lane_cut_unheard,
  no_grants,
  no_event_channel,
  attach_fails,
  setup_timeout,
  smallest_ring,
  vchan_missing,
  // the console
  console_bytes_lost,
  console_bytes_repeated,
  console_log_lines,
  console_echoes,
  console_newlines_mapped,
  console_stalled,
  console_dead,
  console_middle_discarded,
  console_hung_up,
  console_client_dropped,
  console_missing,
  // which lane
  console_only,
  lane_set_by_hand,
  // processes and domains
  guest_bridge_killed,
  guest_bridge_stopped,
  worker_killed,
  host_stopped,
  process_frozen,
  guest_paused,
  guest_destroyed,
  domid_reused,
  guest_restored,
  // xenstore
  store_mute,
  store_gone,
  store_connections_dropped,
  spurious_watch,
  transaction_conflict,
  // applications
  slow_reader,
  stopped_reader,
  application_vanishes,
  early_close,
  no_listener,
  backlog_full,
  connect_and_leave,
  // calls to the kernel
  accept_out_of_files,
  socket_out_of_files,
  connect_again,
  short_read,
  short_write,
  write_would_block,
  write_no_buffers,
  interrupted,
  out_of_memory,
  count_
};

inline constexpr std::size_t fault_count = static_cast<std::size_t>(Fault::count_);

std::string_view to_string(Fault fault);
std::optional<Fault> parse_fault(std::string_view name);

/// A broken promise, found by the model; the run ends with it.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Which simulated process is running; see kernel.hpp.
struct Process;
bool is_spared(const Process& process);

class Environment {
 public:
  explicit Environment(std::uint64_t seed) : random_(seed) {}

  // --- random numbers ------------------------------------------------------------------------
  std::uint64_t random() { return random_(); }
  /// Zero up to and without `bound`; zero when `bound` is.
  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }
  std::uint64_t between(std::uint64_t least, std::uint64_t most) {
    return least + below(most - least + 1);
  }
  /// True once in `n` times.
  bool one_in(std::uint64_t n) { return below(n) == 0; }

  // --- faults --------------------------------------------------------------------------------
  /// Draws how often each fault strikes in this run: most never, some now and then.
  void draw_faults();
  void allow_faults(bool allowed) { faults_allowed_ = allowed; }
  /// Whether the fault strikes at this opportunity; counted when it does.
  bool strikes(Fault fault);
  void count(Fault fault);
  /// Until then something is in the way of a new lane.
  void hinder(std::uint64_t until_ns) {
    hindered_until_ns_ = std::max(hindered_until_ns_, until_ns);
  }
  /// Whether anything has been since then.
  bool hindered_since(std::uint64_t time_ns) const { return hindered_until_ns_ > time_ns; }
  const std::array<std::uint64_t, fault_count>& hits() const { return hits_; }
  /// The k-th call of that kind from now on fails, and no other; for error-injection loops.
  void fail_call(Fault call, std::uint64_t k) { planned_ = {call, k}; }
  /// How often the planned kind of call has been made since fail_call.
  std::uint64_t planned_calls_left() const { return planned_ ? planned_->calls_left : 0; }

  // --- time ----------------------------------------------------------------------------------
  std::uint64_t now_ns() const { return now_ns_; }
  double now_s() const { return static_cast<double>(now_ns_) / 1e9; }
  void advance(std::uint64_t ns) { now_ns_ += ns; }

  // --- trace ---------------------------------------------------------------------------------
  /// Takes an event into the trace's hash, and prints it when wanted.
  void note(std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0);
  /// Into the hash only: for what happens all the time.
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001B3U; }
  std::uint64_t hash() const { return hash_; }
  bool print_trace = false;

  Process* running = nullptr;  ///< whose code is running now; null: the simulator's own

 private:
  struct Planned {
    Fault call;
    std::uint64_t calls_left;
  };

  std::mt19937_64 random_;
  std::array<std::uint32_t, fault_count> parts_per_million_{};
  std::array<std::uint64_t, fault_count> hits_{};
  bool faults_allowed_ = false;
  std::optional<Planned> planned_;
  std::uint64_t hindered_until_ns_ = 0;
  std::uint64_t now_ns_ = 1'000'000'000'000;  // a kernel that has run for a while
  std::uint64_t hash_ = 0xCBF29CE484222325U;
};

/// Where the bridges' own log goes; null: nowhere. It is written all the same, so that a run is the
/// same run with it and without.
void log_to(std::ostream* out);

/// The simulation under way; null outside of one.
Environment*& environment();

}  // namespace xenlane::sim

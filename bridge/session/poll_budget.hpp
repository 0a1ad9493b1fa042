// How long to look for work before going to sleep. Waking a sleeper costs more than copying 64 KiB,
// so a bridge that expects work within that time had better look for it; one that expects none must
// not burn a processor. The rule is the one by which KVM halts a virtual processor (halt_poll_ns in
// Linux's virt/kvm/kvm_main.c): a sleep that turns out to have been short teaches to look longer
// next time, one that was long teaches to sleep at once.
//
// Policy only: it is told how long things took, and reads no clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace xenlane::bridge {

struct PollCounters {
  std::uint64_t paid = 0;      ///< waits that ended while this side looked
  std::uint64_t missed = 0;    ///< waits for which it looked in vain and then slept
  std::uint64_t unlooked = 0;  ///< waits that it slept through from the start
};

class PollBudget {
 public:
  using Duration = std::chrono::nanoseconds;

  /// Never looks for longer than `max`; zero means never to look at all.
  explicit PollBudget(Duration max) : max_(max) {}

  /// How long to look before the next sleep; zero is to sleep at once.
  Duration current() const { return current_; }
  Duration max() const { return max_; }
  const PollCounters& counters() const { return counters_; }

  /// Work came before the budget was used up.
  void found_looking() { ++counters_.paid; }
  /// Work came after a sleep, `idle` after the last work was done, looking included.
  void found_asleep(Duration idle);
  /// While this side gave way to others, somebody else had the processor for longer than `max`.
  /// Looking is no use on a crowded processor: who sleeps is woken sooner than who waits his turn.
  void crowded_out();

 private:
  Duration max_;
  Duration current_{0};
  std::uint32_t sit_out_ = 0;  ///< short sleeps that teach nothing yet
  PollCounters counters_;
};

}  // namespace xenlane::bridge

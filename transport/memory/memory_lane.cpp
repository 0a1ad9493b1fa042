#include "transport/memory/memory_lane.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <bit>
#include <system_error>

namespace xenlane::transport {

MemoryLaneShared::MemoryLaneShared(std::uint32_t ring_bytes) {
  XENLANE_ASSERT(std::has_single_bit(ring_bytes));
  for (std::size_t end = 0; end < 2; ++end) {
    rings[end].bytes.resize(ring_bytes);
    events[end].reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!events[end]) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
}

std::pair<std::unique_ptr<MemoryLane>, std::unique_ptr<MemoryLane>> MemoryLane::make_pair(
    std::uint32_t ring_bytes) {
  auto shared = std::make_shared<MemoryLaneShared>(ring_bytes);
  return {std::unique_ptr<MemoryLane>(new MemoryLane(shared, 0)),
          std::unique_ptr<MemoryLane>(new MemoryLane(shared, 1))};
}

MemoryLane::MemoryLane(std::shared_ptr<MemoryLaneShared> shared, std::size_t end)
    : shared_(std::move(shared)), end_(end) {
  auto ring = [this](std::size_t index) {
    auto& r = shared_->rings[index];
    return SharedRing{r.bytes.data(), static_cast<std::uint32_t>(r.bytes.size()), &r.producer,
                      &r.consumer};
  };
  attach({ring(end_), ring(1 - end_), &shared_->requests[end_], &shared_->requests[1 - end_]});
}

MemoryLane::~MemoryLane() {
  __atomic_store_n(&shared_->live[end_], std::uint8_t{0}, __ATOMIC_SEQ_CST);
  send_wake_up();
}

LaneState MemoryLane::peer_state() {
  const bool live = __atomic_load_n(&shared_->live[1 - end_], __ATOMIC_SEQ_CST) != 0;
  return live ? LaneState::open : LaneState::closed;
}

void MemoryLane::send_wake_up() {
  __atomic_fetch_add(&shared_->wake_ups[1 - end_], 1U, __ATOMIC_SEQ_CST);
  const std::uint64_t one = 1;
  // An eventfd that is full is readable already, so a refused write loses nothing.
  [[maybe_unused]] const auto written = ::write(shared_->events[1 - end_].get(), &one, sizeof one);
}

void MemoryLane::acknowledge() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(shared_->events[end_].get(), &count, sizeof count);
}

}  // namespace xenlane::transport

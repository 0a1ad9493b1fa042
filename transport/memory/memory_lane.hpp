// A pair of lanes inside one process, over plain memory and eventfds: the vchan lane's rings
// without a hypervisor. For tests of everything above, and for the conformance suite that the vchan
// lane must pass too. Stricter than reality: the shared counters can be reached to play a hostile
// peer, and a wake-up that nobody asked for can be counted.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "transport/base/unique_fd.hpp"
#include "transport/shared_ring.hpp"

namespace xenlane::transport {

/// What both ends of a memory lane share, laid out like the first page of a vchan.
struct MemoryLaneShared {
  explicit MemoryLaneShared(std::uint32_t ring_bytes);

  struct Ring {
    std::vector<std::byte> bytes;
    std::uint32_t producer = 0;
    std::uint32_t consumer = 0;
  };
  Ring rings[2];                   ///< [0] is read by end 0, [1] by end 1
  std::uint8_t requests[2] = {};   ///< what end i asked of the other
  std::uint8_t live[2] = {1, 1};   ///< 0 once end i is gone
  std::uint64_t wake_ups[2] = {};  ///< how often end i was woken
  UniqueFd events[2];              ///< readable when end i was woken
};

class MemoryLane final : public SharedRingLane {
 public:
  /// Both ends over rings of `ring_bytes` each (a power of two).
  static std::pair<std::unique_ptr<MemoryLane>, std::unique_ptr<MemoryLane>> make_pair(
      std::uint32_t ring_bytes);
  ~MemoryLane() override;

  std::string_view kind() const override { return "memory"; }
  int wait_fd() const override { return shared_->events[end_].get(); }
  void acknowledge() override;

  /// The shared part, for tests that play a peer without manners.
  MemoryLaneShared& shared() { return *shared_; }

 private:
  MemoryLane(std::shared_ptr<MemoryLaneShared> shared, std::size_t end);
  LaneState peer_state() override;
  void send_wake_up() override;

  std::shared_ptr<MemoryLaneShared> shared_;
  std::size_t end_;
};

}  // namespace xenlane::transport

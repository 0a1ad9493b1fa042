// A lane over shared mappings, for tests that let another process, or the processor itself, at its
// pages: fork() shares them, a page of control words can be protected by itself, and each buffer
// stands between two pages that nobody may touch, so that the first byte outside is a SIGSEGV in
// any build, not only under AddressSanitizer (which does not look at mappings).
#pragma once

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <system_error>

#include "transport/base/unique_fd.hpp"
#include "transport/shared_ring.hpp"

namespace xenlane::transport::test {

inline constexpr std::size_t page_bytes = 4096;

/// The first page of a vchan as one end sees it: "ours" is what this end writes.
struct ControlPage {
  std::uint32_t receive_producer;
  std::uint32_t receive_consumer;
  std::uint32_t send_producer;
  std::uint32_t send_consumer;
  std::uint8_t our_requests;
  std::uint8_t peer_requests;
  std::uint8_t peer_live;
};

class MappedRings {
 public:
  /// `ring_bytes` is a power of two and at least a page.
  explicit MappedRings(std::uint32_t ring_bytes) : ring_bytes_(ring_bytes) {
    // guard, control, guard, receive buffer, guard, send buffer, guard
    bytes_ = 5 * page_bytes + 2 * std::size_t{ring_bytes};
    void* const all = ::mmap(nullptr, bytes_, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    base_ = static_cast<std::byte*>(all);
    allow(control_page(), page_bytes);
    allow(receive_buffer(), ring_bytes);
    allow(send_buffer(), ring_bytes);
    reset();
  }
  ~MappedRings() { ::munmap(base_, bytes_); }
  MappedRings(const MappedRings&) = delete;
  MappedRings& operator=(const MappedRings&) = delete;

  std::byte* control_page() const { return base_ + page_bytes; }
  ControlPage* control() const { return reinterpret_cast<ControlPage*>(control_page()); }
  std::byte* receive_buffer() const { return base_ + 3 * page_bytes; }
  std::byte* send_buffer() const { return receive_buffer() + ring_bytes_ + page_bytes; }

  /// As both ends find it before the first byte.
  void reset() const {
    std::memset(control_page(), 0, page_bytes);
    control()->peer_live = 1;
  }

  SharedRing receive() const {
    return {receive_buffer(), ring_bytes_, &control()->receive_producer,
            &control()->receive_consumer};
  }
  SharedRing send() const {
    return {send_buffer(), ring_bytes_, &control()->send_producer, &control()->send_consumer};
  }

 private:
  static void allow(std::byte* from, std::size_t count) {
    if (::mprotect(from, count, PROT_READ | PROT_WRITE) != 0) {
      throw std::system_error(errno, std::generic_category(), "mprotect");
    }
  }

  std::uint32_t ring_bytes_;
  std::size_t bytes_ = 0;
  std::byte* base_ = nullptr;
};

/// One end over mapped rings. The other end is whoever else can write them.
class MappedLane final : public SharedRingLane {
 public:
  /// `rings` outlive the lane; `event` becomes readable when the peer wakes this end. Not owned.
  MappedLane(const MappedRings& rings, int event) : control_(rings.control()), event_(event) {
    attach({rings.receive(), rings.send(), &control_->our_requests, &control_->peer_requests});
  }

  std::string_view kind() const override { return "memory"; }
  int wait_fd() const override { return event_; }
  void acknowledge() override {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(event_, &count, sizeof count);
  }
  /// Called before the peer's liveness is read: what it does happens between two looks.
  std::function<void()> before_state;
  /// Wake-ups this end has sent.
  std::uint64_t wake_ups() const { return wake_ups_; }

 private:
  LaneState peer_state() override {
    if (before_state) before_state();
    const std::uint8_t live = __atomic_load_n(&control_->peer_live, __ATOMIC_SEQ_CST);
    return live != 0 ? LaneState::open : LaneState::closed;
  }
  void send_wake_up() override { ++wake_ups_; }

  ControlPage* control_;
  int event_;
  std::uint64_t wake_ups_ = 0;
};

}  // namespace xenlane::transport::test

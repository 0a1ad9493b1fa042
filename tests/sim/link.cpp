#include "tests/sim/link.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

namespace xenlane::sim {

using transport::LaneState;

/// One end: the product's ring code, with liveness and wake-ups by way of the link.
class SimulatedLane final : public transport::SharedRingLane {
 public:
  SimulatedLane(std::shared_ptr<Link> link, Link::End end) : link_(std::move(link)), end_(end) {
    auto& own = link_->ends_[end_];
    auto& theirs = link_->ends_[1 - end_];
    auto& in = link_->rings_[1 - end_][link_->direct_ ? 0 : 1];
    auto& out = link_->rings_[end_][0];
    const auto size = static_cast<std::uint32_t>(in.bytes.size());
    // Without shared memory the other end's wishes are the link's business.
    attach({{in.bytes.data(), size, &in.producer, &in.consumer},
            {out.bytes.data(), size, &out.producer, &out.consumer},
            &own.wishes,
            link_->direct_ ? &theirs.wishes : &own.peer_wishes});
  }
  ~SimulatedLane() override { link_->close(end_); }

  std::string_view kind() const override { return "simulated"; }
  int wait_fd() const override { return link_->ends_[end_].event.get(); }
  void acknowledge() override {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wait_fd(), &count, sizeof count);
  }

 private:
  LaneState peer_state() override {
    if (!link_->ends_[end_].sees_peer) return LaneState::closed;
    return link_->attached() ? LaneState::open : LaneState::awaiting_peer;
  }
  void send_wake_up() override { link_->ends_[1 - end_].nudged = true; }

  std::shared_ptr<Link> link_;
  Link::End end_;
};

Link::Link(std::uint16_t domid, std::uint32_t ring_bytes, bool spared)
    : domid_(domid), spared_(spared), direct_(environment()->one_in(3)) {
  for (auto& ring : rings_) {
    for (auto& view : ring) view.bytes.resize(ring_bytes);
  }
  for (auto& end : ends_) end.event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

std::unique_ptr<transport::Lane> Link::make_lane(std::shared_ptr<Link> link, End end) {
  EndState& state = link->ends_[end];
  EndState& other = link->ends_[1 - end];
  state.used = true;
  // libxenvchan's client sends an event when it has attached.
  if (end == client) other.nudged = true;
  if (end == client && !other.live) state.sees_peer = false;
  return std::make_unique<SimulatedLane>(std::move(link), end);
}

bool Link::step() {
  bool moved = false;
  if (!direct_ && !cut_) {
    moved |= carry(server);
    moved |= carry(client);
  }
  for (EndState& end : ends_) moved |= deliver_wake_ups(end);
  return moved;
}

std::size_t Link::chunk(std::size_t pending) {
  Environment& env = *environment();
  if (strikes(Fault::one_byte_chunks)) return 1;
  return env.one_in(4) ? static_cast<std::size_t>(env.between(1, pending)) : pending;
}

// From one end's ring memory into the other's view of it, and the consumer's counter back.
bool Link::carry(End from) {
  Environment& env = *environment();
  if (env.now_ns() < stalled_until_[from]) return false;
  if (strikes(Fault::link_stall)) {
    stalled_until_[from] = env.now_ns() + env.between(1, 3'000) * 1'000'000;
    env.hinder(stalled_until_[from]);
    return false;
  }
  RingMemory& sent = rings_[from][0];
  RingMemory& seen = rings_[from][1];
  EndState& reader = ends_[1 - from];
  EndState& writer = ends_[from];
  bool moved = false;
  if (const std::uint32_t pending = sent.producer - seen.producer; pending > 0) {
    const std::size_t count = chunk(pending);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = (seen.producer + i) & (sent.bytes.size() - 1);
      seen.bytes[at] = sent.bytes[at];
    }
    seen.producer += static_cast<std::uint32_t>(count);
    moved = true;
    if ((reader.wishes & transport::notify_on_write) != 0) {
      reader.wishes &= static_cast<std::uint8_t>(~transport::notify_on_write);
      reader.nudged = true;
    }
  }
  if (sent.consumer != seen.consumer) {
    sent.consumer = seen.consumer;
    moved = true;
    if ((writer.wishes & transport::notify_on_read) != 0) {
      writer.wishes &= static_cast<std::uint8_t>(~transport::notify_on_read);
      writer.nudged = true;
    }
  }
  return moved;
}

bool Link::deliver_wake_ups(EndState& end) {
  Environment& env = *environment();
  if (end.wake_due != 0 && env.now_ns() >= end.wake_due) {
    end.wake_due = 0;
    wake(end);
    return true;
  }
  if (!end.nudged) return false;
  end.nudged = false;
  if (strikes(Fault::lost_wake_up)) return true;
  if (strikes(Fault::late_wake_up)) {
    end.wake_due = env.now_ns() + env.between(1, 5'000) * 1'000;
    return true;
  }
  wake(end);
  return true;
}

void Link::wake(EndState& end) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(end.event.get(), &one, sizeof one);
}

bool Link::carries_bytes() const {
  return !direct_ && (rings_[server][0].producer != rings_[server][1].producer ||
                      rings_[client][0].producer != rings_[client][1].producer);
}

void Link::disturb() {
  for (EndState& end : ends_) wake(end);
}

void Link::cut(bool unheard) {
  cut_ = true;
  for (EndState& end : ends_) {
    end.sees_peer = false;
    if (!unheard) wake(end);
  }
}

// What was committed before the close stays readable: the pages are still mapped on the other side.
void Link::close(End end) {
  EndState& own = ends_[end];
  EndState& other = ends_[1 - end];
  own.live = false;
  if (!direct_ && !cut_) {
    RingMemory& sent = rings_[end][0];
    RingMemory& seen = rings_[end][1];
    seen.bytes = sent.bytes;
    seen.producer = sent.producer;
  }
  if (!cut_) wake(other);  // else it was told then, or was not to be
  cut_ = true;
  other.sees_peer = false;
}

}  // namespace xenlane::sim

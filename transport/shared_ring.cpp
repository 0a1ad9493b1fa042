#include "transport/shared_ring.hpp"

namespace xenlane::transport {

namespace {

// Each shared counter is loaded exactly once per use and only its private copy is looked at again:
// a compiler that read it twice would reopen XSA-155. Counters and request bits are all accessed
// sequentially consistently: "publish, then look who asked" on one side meets "ask, then look
// again" on the other, and one of the two must see the other's store or a wake-up is lost.
std::uint32_t load_once(const std::uint32_t* shared) {
  return __atomic_load_n(shared, __ATOMIC_SEQ_CST);
}

template <typename Byte>
RingSpans<Byte> spans_at(Byte* buffer, std::size_t size, std::size_t offset, std::size_t count) {
  const std::size_t until_end = std::min(count, size - offset);
  return {{buffer + offset, until_end}, {buffer, count - until_end}};
}

}  // namespace

void SharedRingLane::attach(const SharedRingPair& rings) {
  rings_ = rings;
  // A fresh lane starts at counter zero on both sides; a peer that wrote anything else first is
  // caught by the first observe, which allows no more than one ring's worth of advance.
  receive_ = {rings.receive.size, 0};
  send_ = {rings.send.size, 0};
}

void SharedRingLane::observe_producer() {
  if (!receive_.observe(load_once(rings_.receive.producer))) violated_ = true;
}

void SharedRingLane::observe_consumer() {
  if (!send_.observe(load_once(rings_.send.consumer))) violated_ = true;
}

ReadableSpans SharedRingLane::readable() {
  observe_producer();
  if (violated_) return {};
  return spans_at<const std::byte>(rings_.receive.buffer, receive_.size(), receive_.offset(),
                                   receive_.ready());
}

void SharedRingLane::consume(std::size_t count) {
  receive_.consume(count);
  consumed_unpublished_ |= count > 0;
}

WritableSpans SharedRingLane::writable() {
  observe_consumer();
  if (violated_) return {};
  return spans_at<std::byte>(rings_.send.buffer, send_.size(), send_.offset(), send_.room());
}

void SharedRingLane::commit(std::size_t count) {
  send_.commit(count);
  committed_unpublished_ |= count > 0;
}

void SharedRingLane::publish() {
  std::uint8_t actions = 0;
  if (consumed_unpublished_) {
    __atomic_store_n(rings_.receive.consumer, receive_.consumer(), __ATOMIC_SEQ_CST);
    actions |= notify_on_read;
  }
  if (committed_unpublished_) {
    __atomic_store_n(rings_.send.producer, send_.producer(), __ATOMIC_SEQ_CST);
    actions |= notify_on_write;
  }
  if (actions == 0) return;
  consumed_unpublished_ = committed_unpublished_ = false;
  const std::uint8_t untrusted_asked = __atomic_fetch_and(
      rings_.peer_requests, static_cast<std::uint8_t>(~actions), __ATOMIC_SEQ_CST);
  if ((untrusted_asked & actions) != 0) notify();
}

void SharedRingLane::notify() {
  ++notifications_;
  send_wake_up();
}

std::size_t SharedRingLane::unconsumed_bytes() {
  // On a copy: the room that writable() showed last is what arm() compares with.
  auto looking = send_;
  if (!looking.observe(load_once(rings_.send.consumer))) violated_ = true;
  return looking.unconsumed();
}

ReadableSpans SharedRingLane::unconsumed() {
  if (!violated_) observe_consumer();
  return spans_at<const std::byte>(rings_.send.buffer, send_.size(), send_.consumer_offset(),
                                   send_.unconsumed());
}

bool SharedRingLane::arm(bool want_readable, bool want_writable) {
  std::uint8_t wanted = 0;
  if (want_readable) wanted |= notify_on_write;
  if (want_writable) wanted |= notify_on_read;
  if (wanted != 0) __atomic_fetch_or(rings_.our_requests, wanted, __ATOMIC_SEQ_CST);
  // Ask first, look again second: a change in between is seen here, a later one is notified.
  const std::uint32_t ready_before = receive_.ready();
  const std::uint32_t room_before = send_.room();
  observe_producer();
  observe_consumer();
  return state() == LaneState::violated || state() == LaneState::closed ||
         (want_readable && receive_.ready() > ready_before) ||
         (want_writable && send_.room() > room_before);
}

}  // namespace xenlane::transport

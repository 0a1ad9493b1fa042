// Event channel ports as their handle and everybody who notifies it see them: one memfd per handle.
//
// The protocol. A port has an open, a pending and a masked bit in one word, and a ready bit beside
// those of all other ports. The handle's eventfd is a semaphore that counts the ready bits.
//   notify   sets pending; if it was clear, and the port is open and unmasked, it raises the port.
//   unmask   clears masked; if it was set, and the port is open and pending, it raises the port.
//   raise    sets the ready bit; whoever turns it from 0 to 1 adds one to the eventfd.
//   take     after one was taken from the eventfd: clears one ready bit, then in one step clears
//            that port's pending bit and sets its masked bit.
// No wake-up is lost. Pending and masked share a word, so of a notify and an unmask that meet
// exactly one sees both facts and raises. A bit is set before the eventfd is added to and each
// count taken clears one bit, so a reader that got a count finds a bit. A notify that finds pending
// set may rely on the raise of the one that set it; if take was faster, it found the bit clear.
// Everything is sequentially consistent read-modify-write, hence data written before a notify is
// seen after the take that follows it.
// A notifier killed between two steps breaks the third sentence; the broker then calls rescue().
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>

namespace xensim {

/// Ports of one domain, port 0 included, which Xen never gives out. Xen's two-level event channels
/// have this many for 64-bit guests (xen/event_channel.h).
inline constexpr std::uint32_t port_limit = 4096;

enum PortBits : std::uint32_t { port_pending = 1, port_masked = 2, port_open = 4 };

struct PortArea {
  static constexpr std::uint32_t ready_words = port_limit / 64;
  std::atomic<std::uint64_t> ready[ready_words];
  std::atomic<std::uint32_t> state[port_limit];
  /// Counts the changes of what the port is bound to; a notifier that sees it move asks the broker.
  std::atomic<std::uint32_t> generation[port_limit];
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// Adds one to an eventfd. It can only fail when 2^64 counts are waiting.
inline void add_to_eventfd(int event_fd) {
  const std::uint64_t one = 1;
  while (::write(event_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

inline void raise_port(PortArea& area, int event_fd, std::uint32_t port) {
  const std::uint64_t bit = std::uint64_t{1} << (port % 64);
  if ((area.ready[port / 64].fetch_or(bit) & bit) == 0) add_to_eventfd(event_fd);
}

inline void notify_port(PortArea& area, int event_fd, std::uint32_t port) {
  const std::uint32_t before = area.state[port].fetch_or(port_pending);
  if (before == port_open) raise_port(area, event_fd, port);
}

inline void unmask_port(PortArea& area, int event_fd, std::uint32_t port) {
  const std::uint32_t before = area.state[port].fetch_and(~std::uint32_t{port_masked});
  if (before == (port_open | port_masked | port_pending)) raise_port(area, event_fd, port);
}

/// Opens the port unmasked with nothing pending.
inline void open_port(PortArea& area, std::uint32_t port) {
  area.state[port].store(port_open);
}
inline void close_port(PortArea& area, std::uint32_t port) {
  area.state[port].store(0);
}

/// Delivers `port`: pending becomes masked.
inline void deliver_port(PortArea& area, std::uint32_t port) {
  std::uint32_t now = area.state[port].load();
  while (!area.state[port].compare_exchange_weak(
      now, (now & port_open) != 0 ? std::uint32_t{port_open | port_masked} : 0U)) {
  }
}

/// To be called once for each count taken from the eventfd. `start` says where to look first, so
/// that a busy port cannot starve the others. Returns the port, or 0 if no ready bit is set.
inline std::uint32_t take_port(PortArea& area, std::uint32_t start) {
  const std::uint32_t first_word = (start % port_limit) / 64;
  for (std::uint32_t i = 0; i <= PortArea::ready_words; ++i) {
    const std::uint32_t word = (first_word + i) % PortArea::ready_words;
    std::uint64_t bits = area.ready[word].load();
    if (i == 0) bits &= ~std::uint64_t{0} << (start % 64);
    while (bits != 0) {
      const std::uint64_t bit = bits & (~bits + 1);
      bits &= bits - 1;
      if ((area.ready[word].fetch_and(~bit) & bit) == 0) continue;
      const std::uint32_t port = word * 64 + static_cast<std::uint32_t>(std::countr_zero(bit));
      deliver_port(area, port);
      return port;
    }
  }
  return 0;
}

/// Repeats the raise of a port whose notifier was killed half-way. May cost one surplus count.
inline void rescue_port(PortArea& area, int event_fd, std::uint32_t port) {
  if (area.state[port].load() != (port_open | port_pending)) return;
  const std::uint64_t bit = std::uint64_t{1} << (port % 64);
  const bool was_ready = (area.ready[port / 64].fetch_or(bit) & bit) != 0;
  pollfd waiting{event_fd, POLLIN, 0};
  if (!was_ready || ::poll(&waiting, 1, 0) == 0) add_to_eventfd(event_fd);
}

}  // namespace xensim

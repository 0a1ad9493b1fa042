#include "tests/sim/cable.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace xenlane::sim {

using transport::UniqueFd;

namespace {

/// The console's rings (xen/include/public/io/console.h).
constexpr std::size_t ring_to_guest_bytes = 1024;
constexpr std::size_t ring_to_host_bytes = 2048;
/// What QEMU keeps, really; most runs have less, so that it matters.
constexpr std::size_t kept_bytes_real = 1024 * 1024;
/// What the product can write at once: as little as the kernel lets one ask for.
constexpr int socket_buffer_bytes = 1;
/// The longest run of bytes that is lost or comes twice.
constexpr std::size_t run_bytes_max = 1500;

/// Reads what is there, at most `room`. False when the other end was closed.
bool read_some(int end, std::size_t room, std::vector<std::byte>& into) {
  std::array<std::byte, ring_to_host_bytes> buffer;
  const ssize_t got = ::recv(end, buffer.data(), std::min(room, buffer.size()), MSG_DONTWAIT);
  if (got > 0) into.insert(into.end(), buffer.begin(), buffer.begin() + got);
  return got != 0;
}

/// Writes what has room, and takes it off the front.
std::size_t write_some(int end, std::vector<std::byte>& bytes) {
  const ssize_t sent = ::send(end, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent <= 0) return 0;
  bytes.erase(bytes.begin(), bytes.begin() + sent);
  return static_cast<std::size_t>(sent);
}

}  // namespace

Cable::Cable(bool spared) : spared_(spared) {
  Environment& env = *environment();
  latency_ns_ = env.between(20'000, 2 * ms);
  byte_ns_ = env.between(300, 6'000);
  kept_bytes_max_ = env.one_in(4) ? kept_bytes_real : env.between(2'000, 64'000);
}

UniqueFd Cable::open(UniqueFd& end) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    throw Failure("socketpair");
  }
  ::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &socket_buffer_bytes, sizeof socket_buffer_bytes);
  end.reset(ends[0]);
  return UniqueFd(ends[1]);
}

void Cable::silence(const UniqueFd& end) {
  if (end) ::shutdown(end.get(), SHUT_RD);
}

bool Cable::step() {
  if (lasts(stalled_until_ns_)) return false;
  bool moved = carry_to_host();
  moved |= carry_to_guest();
  return moved;
}

void Cable::set_pace(std::uint64_t& due_ns, std::size_t bytes) const {
  due_ns = environment()->now_ns() + latency_ns_ + bytes * byte_ns_;
}

// QEMU takes all that the guest says, whether it can pass it on or not; and it looks at its client
// only when the guest says something.
bool Cable::carry_to_host() {
  if (lasts(host_due_ns_)) return false;
  bool moved = false;
  if (tty_) {
    Bytes run;
    if (!read_some(tty_.get(), ring_to_host_bytes, run)) tty_.reset();
    if (!run.empty()) {
      set_pace(host_due_ns_, run.size());
      damage(run);
      if (!run.empty() && strikes(Fault::console_log_lines)) add_log_line(run);
      keep_for_host(run);
      output_due_ = moved = true;
    }
  }
  if (output_due_ && host_) {
    output_due_ = false;
    moved |= send_to_client();
  }
  return moved;
}

bool Cable::send_to_client() {
  return !to_host_.empty() && write_some(host_.get(), to_host_) > 0;
}

bool Cable::carry_to_guest() {
  if (lasts(guest_due_ns_)) return false;
  bool moved = false;
  if (host_ && to_guest_.size() < ring_to_guest_bytes) {
    Bytes run;
    if (!read_some(host_.get(), ring_to_guest_bytes - to_guest_.size(), run)) host_.reset();
    if (!run.empty()) {
      set_pace(guest_due_ns_, run.size());
      damage(run);
      to_guest_.insert(to_guest_.end(), run.begin(), run.end());
      // A terminal that is not raw says again what it is told.
      if (lasts(echo_until_ns_)) {
        keep_for_host(run);
        output_due_ = true;
      }
      moved = true;
    }
  }
  if (tty_ && !to_guest_.empty()) moved |= write_some(tty_.get(), to_guest_) > 0;
  return moved;
}

// Of the bytes that move together, what becomes of them.
void Cable::damage(Bytes& run) {
  Environment& env = *environment();
  if (lasts(dead_until_ns_)) {
    run.clear();
    return;
  }
  const auto part = [&] {
    const auto begin = static_cast<std::ptrdiff_t>(env.below(run.size()));
    const std::size_t rest = run.size() - static_cast<std::size_t>(begin);
    const auto count = env.between(1, std::min(rest, run_bytes_max));
    return std::pair(run.begin() + begin, run.begin() + begin + static_cast<std::ptrdiff_t>(count));
  };
  if (strikes(Fault::console_bytes_repeated)) {
    const auto [begin, end] = part();
    const Bytes again(begin, end);
    run.insert(end, again.begin(), again.end());
  }
  if (strikes(Fault::console_bytes_lost)) {
    const auto [begin, end] = part();
    run.erase(begin, end);
  }
  if (lasts(mapped_until_ns_)) {
    Bytes mapped;
    for (const std::byte byte : run) {
      if (byte == std::byte{'\n'}) mapped.push_back(std::byte{'\r'});
      mapped.push_back(byte);
    }
    run = std::move(mapped);
  }
}

// The guest's kernel speaks into it.
void Cable::add_log_line(Bytes& run) {
  Environment& env = *environment();
  const std::string line = fmt::format("[{:5}.{:06}] hvc: ~oops~ {{\x02}} {}\r\n", env.below(9'999),
                                       env.below(999'999), env.random());
  const auto at = run.begin() + static_cast<std::ptrdiff_t>(env.below(run.size() + 1));
  const auto* text = reinterpret_cast<const std::byte*>(line.data());
  run.insert(at, text, text + line.size());
}

void Cable::keep_for_host(const Bytes& run) {
  to_host_.insert(to_host_.end(), run.begin(), run.end());
  if (to_host_.size() > kept_bytes_max_) discard_middle();
}

// As QEMU and xenconsoled do it: the beginning stays, and of the rest the end.
void Cable::discard_middle() {
  const std::size_t over = std::min(to_host_.size() - kept_bytes_max_, kept_bytes_max_);
  environment()->count(Fault::console_middle_discarded);
  const auto hole = to_host_.begin() + static_cast<std::ptrdiff_t>(kept_bytes_max_ - over);
  to_host_.erase(hole, to_host_.end() - static_cast<std::ptrdiff_t>(over));
}

void Cable::strike() {
  if (spared_) return;
  Environment& env = *environment();
  const auto for_a_while = [&env](std::uint64_t most_ms) {
    const std::uint64_t until = env.now_ns() + env.between(1, most_ms) * ms;
    env.hinder(until);
    return until;
  };
  if (strikes(Fault::console_stalled)) stalled_until_ns_ = for_a_while(3'000);
  if (strikes(Fault::console_dead)) dead_until_ns_ = for_a_while(25'000);
  if (strikes(Fault::console_echoes)) echo_until_ns_ = for_a_while(5'000);
  if (strikes(Fault::console_newlines_mapped)) mapped_until_ns_ = for_a_while(5'000);
  if (tty_ && strikes(Fault::console_hung_up)) {
    env.note("console hung up");
    hang_up_tty();
    to_guest_.clear();
  }
  if (host_ && strikes(Fault::console_client_dropped)) {
    env.note("console's client dropped");
    drop_client();
  }
}

void Cable::mend() {
  stalled_until_ns_ = dead_until_ns_ = echo_until_ns_ = mapped_until_ns_ = 0;
}

}  // namespace xenlane::sim

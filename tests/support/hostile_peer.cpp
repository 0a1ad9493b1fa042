#include "tests/support/hostile_peer.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

#include "bridge/session/session.hpp"

namespace xenlane::transport::test {

namespace {

/// xorshift64: a few instructions, so that the memory is what limits the flipper.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t roll() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  std::uint32_t below(std::uint64_t limit) {
    return static_cast<std::uint32_t>(roll() % std::max<std::uint64_t>(limit, 1));
  }

 private:
  std::uint64_t state_;
};

template <typename Word>
void put(Word* where, Word value) {
  __atomic_store_n(where, value, __ATOMIC_RELAXED);
}

std::uint32_t get(const std::uint32_t* where) {
  return __atomic_load_n(where, __ATOMIC_RELAXED);
}

// Forward by no more than an honest peer could: for a ring that the victim reads up to the room,
// for one that it writes up to what lies there.
void move_politely(const FlipperTarget& target, Dice& dice) {
  if (dice.below(2) == 0) {
    const SharedRing& ring = target.receive;
    const std::uint32_t producer = get(ring.producer);
    const std::uint32_t used = producer - get(ring.consumer);
    if (used <= ring.size) put(ring.producer, producer + dice.below(ring.size - used + 1));
  } else {
    const SharedRing& ring = target.send;
    const std::uint32_t consumer = get(ring.consumer);
    const std::uint32_t used = get(ring.producer) - consumer;
    if (used <= ring.size) put(ring.consumer, consumer + dice.below(used + 1));
  }
}

void write_wildly(const FlipperTarget& target, Dice& dice) {
  auto* const words = reinterpret_cast<std::uint32_t*>(target.control.data());
  std::uint32_t* const indexes[] = {target.receive.producer, target.receive.consumer,
                                    target.send.producer, target.send.consumer};
  std::uint32_t* const index = indexes[dice.below(4)];
  const std::uint32_t near[] = {get(target.receive.consumer) + target.receive.size + 1,
                                get(target.send.producer) + 1, get(index) - 1,
                                get(index) + 0x8000'0000U};
  switch (dice.below(4)) {
    case 0:
      put(index, near[dice.below(4)]);
      break;
    case 1:
      put(index, static_cast<std::uint32_t>(dice.roll()));
      break;
    default:
      put(words + dice.below(target.control.size() / sizeof *words),
          static_cast<std::uint32_t>(dice.roll()));
  }
}

// Only of the ring that the victim reads: it never looks at what lies in the other, which
// libxenvchan's client has mapped for reading only.
void change_bytes(const FlipperTarget& target, Dice& dice) {
  if (target.cells.empty()) {
    const SharedRing& ring = target.receive;
    put(ring.buffer + dice.below(ring.size), static_cast<std::byte>(dice.roll()));
    return;
  }
  const auto& cell = target.cells[dice.below(target.cells.size())];
  auto* const words = reinterpret_cast<std::uint64_t*>(target.receive.buffer);
  const std::size_t at = 2 * std::size_t{dice.below(target.receive.size / 16)};
  put(words + at, cell[0]);
  put(words + at + 1, cell[1]);
}

void flip(const FlipperTarget& target, Temper temper, Dice& dice) {
  if (temper == Temper::wild || (temper == Temper::sly && dice.below(8192) == 0)) {
    write_wildly(target, dice);
    return;
  }
  switch (dice.below(8)) {
    case 0:
      move_politely(target, dice);
      break;
    case 1:
      put(dice.below(2) == 0 ? target.victim_asked : target.flipper_asked,
          static_cast<std::uint8_t>(dice.roll()));
      break;
    default:
      change_bytes(target, dice);
  }
}

}  // namespace

Flipper::Flipper(FlipperTarget target) {
  void* const page =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  board_ = new (page) Board{};
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) run(target, *board_);
}

Flipper::~Flipper() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::munmap(board_, sizeof(Board));
}

void Flipper::run(const FlipperTarget& target, Board& board) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Dice dice(0x9E37'79B9'7F4A'7C15U);
  for (std::uint64_t count = 0;;) {
    while (!board.wanted.load()) {
      board.running.store(false);
      ::sched_yield();
    }
    board.running.store(true);
    if (!board.wanted.load()) continue;  // somebody paused in between and may have missed the store
    const Temper temper{board.temper.load(std::memory_order_relaxed)};
    for (int i = 0; i < 64; ++i) flip(target, temper, dice);
    board.flips.store(count += 64, std::memory_order_relaxed);
    if (count % 1024 == 0 && target.wake_victim) target.wake_victim();
    if (count % 4096 == 0) ::sched_yield();  // where both share a processor, to take turns often
  }
}

void Flipper::wait_until_running(bool running) {
  while (board_->running.load() != running) give_way();
}

void Flipper::give_way() {
  ::sched_yield();
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0) return;
  pid_ = -1;
  throw std::runtime_error("the flipper died");
}

void Flipper::pause() {
  board_->wanted.store(false);
  wait_until_running(false);
}

void Flipper::resume(Temper temper) {
  board_->temper.store(static_cast<std::uint32_t>(temper));
  board_->wanted.store(true);
  wait_until_running(true);
}

namespace {

/// Empty if the spans are those `count` bytes of the ring that begin at `position` since its start.
template <typename Byte>
std::string check_place(const RingSpans<Byte>& spans, std::span<Byte> ring,
                        std::uint64_t position) {
  const std::size_t offset = position % ring.size();
  if (spans.size() > ring.size()) return "more than the ring holds";
  if (spans.first.size() > 0 && spans.first.data() != ring.data() + offset) return "lost its place";
  if (spans.first.size() > ring.size() - offset) return "past the ring's end";
  if (!spans.second.empty()) {
    if (spans.first.size() != ring.size() - offset) return "wrapped too early";
    if (spans.second.data() != ring.data()) return "wrapped to the wrong place";
  }
  return "";
}

}  // namespace

Victim::Victim(Lane& lane, std::span<const std::byte> receive, std::span<std::byte> send,
               std::uint32_t seed, VictimCounts& counts)
    : lane_(lane),
      receive_(receive),
      send_(send),
      random_(seed),
      counts_(counts),
      scratch_(std::max(receive.size(), send.size())) {}

std::string Victim::run(Flipper& flipper, const Effort& effort) {
  const std::uint64_t flips_before = flipper.flips();
  for (std::uint64_t done = 0; !violated_; ++done) {
    if (done >= effort.operations) {
      if (flipper.flips() - flips_before >= effort.flips && consumed_ >= effort.bytes &&
          committed_ >= effort.bytes) {
        break;
      }
      flipper.give_way();
    }
    if (std::string fault = step(); !fault.empty()) {
      return fault + " (operation " + std::to_string(done) + ")";
    }
  }
  return "";
}

std::string Victim::step() {
  ++counts_.operations;
  std::string fault;
  switch (random_() % 4) {
    case 0:
      fault = read();
      break;
    case 1:
      fault = write();
      break;
    case 2:
      lane_.publish();
      break;
    default:
      fault = look();
  }
  if (fault.empty() && lane_.state() == LaneState::violated) {
    violated_ = true;
    ++counts_.violations;
    fault = check_sticky();
  }
  return fault;
}

std::string Victim::read() {
  const ReadableSpans spans = lane_.readable();
  if (lane_.state() == LaneState::violated) return spans.empty() ? "" : "bytes after a violation";
  if (std::string fault = check_place(spans, receive_, consumed_); !fault.empty()) {
    return "readable: " + fault;
  }
  if (spans.size() < ready_min_) return "readable: took bytes back";
  const std::size_t take = spans.empty() ? 0 : random_() % (spans.size() + 1);
  bridge::copy_out(spans, 0, std::span(scratch_).first(take));
  lane_.consume(take);
  consumed_ += take;
  counts_.bytes_in += take;
  ready_min_ = spans.size() - take;
  return "";
}

std::string Victim::write() {
  const WritableSpans spans = lane_.writable();
  if (lane_.state() == LaneState::violated) return spans.empty() ? "" : "room after a violation";
  if (std::string fault = check_place(spans, send_, committed_); !fault.empty()) {
    return "writable: " + fault;
  }
  if (spans.size() < room_min_) return "writable: took room back";
  const std::size_t give = spans.empty() ? 0 : random_() % (spans.size() + 1);
  bridge::copy_in(spans, 0, std::span(scratch_).first(give));
  lane_.commit(give);
  committed_ += give;
  counts_.bytes_out += give;
  room_min_ = spans.size() - give;
  return "";
}

std::string Victim::look() {
  const auto what = random_();
  if (what % 4 == 0) lane_.acknowledge();
  if (what % 2 == 0) {
    (void)lane_.arm((what & 16) != 0, (what & 32) != 0);
    return "";
  }
  return lane_.unconsumed_bytes() <= send_.size() ? "" : "more unconsumed than the ring holds";
}

std::string Victim::check_sticky() {
  for (int i = 0; i < 8; ++i) {
    if (!lane_.readable().empty()) return "bytes after a violation";
    if (!lane_.writable().empty()) return "room after a violation";
    if (lane_.unconsumed_bytes() > send_.size()) return "more unconsumed than the ring holds";
    if (!lane_.arm(true, true)) return "let somebody sleep on a violated lane";
    lane_.publish();
    if (lane_.state() != LaneState::violated) return "recovered from a violation";
  }
  return "";
}

}  // namespace xenlane::transport::test

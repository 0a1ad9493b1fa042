// One end of the shared rings (transport/shared_ring.cpp), whose other end rewrites everything that
// both can write, counters of either side included, between any two calls. A model with counters
// that never wrap says what must be seen; what was impossible once is never forgotten.
#include <memory>
#include <numeric>

#include "tests/fuzz/input.hpp"
#include "transport/shared_ring.hpp"

namespace xenlane::fuzz {

void fuzz_ring_consume(Bytes input);

namespace {

using namespace transport;  // NOLINT(google-build-using-namespace): this file is about little else

/// What both sides can write, each thing in memory of its own.
struct SharedMemory {
  explicit SharedMemory(std::uint32_t bytes) : buffer(bytes) {}

  std::vector<std::byte> buffer;
  std::unique_ptr<std::uint32_t> producer = std::make_unique<std::uint32_t>(0);
  std::unique_ptr<std::uint32_t> consumer = std::make_unique<std::uint32_t>(0);

  SharedRing ring() {
    return {buffer.data(), static_cast<std::uint32_t>(buffer.size()), producer.get(),
            consumer.get()};
  }
};

class TestedLane final : public SharedRingLane {
 public:
  TestedLane(std::uint32_t receive_bytes, std::uint32_t send_bytes)
      : receive(receive_bytes), send(send_bytes) {
    attach({receive.ring(), send.ring(), our_requests.get(), peer_requests.get()});
  }

  SharedMemory receive;
  SharedMemory send;
  std::unique_ptr<std::uint8_t> our_requests = std::make_unique<std::uint8_t>(std::uint8_t{0});
  std::unique_ptr<std::uint8_t> peer_requests = std::make_unique<std::uint8_t>(std::uint8_t{0});
  bool peer_closed = false;
  std::uint64_t wake_ups = 0;

  std::string_view kind() const override { return "fuzz"; }
  int wait_fd() const override { return -1; }
  void acknowledge() override {}

 private:
  LaneState peer_state() override { return peer_closed ? LaneState::closed : LaneState::open; }
  void send_wake_up() override { ++wake_ups; }
};

/// One direction, counted in 64 bits: what was produced and consumed so far, as far as seen.
struct Position {
  std::uint64_t size;
  std::uint64_t produced = 0;
  std::uint64_t consumed = 0;

  std::uint64_t used() const { return produced - consumed; }
};

class RingProgram {
 public:
  explicit RingProgram(Input choices)
      : choices_(choices),
        lane_(1U << choices_.below(13), 1U << choices_.below(13)),
        receive_{lane_.receive_ring_bytes()},
        send_{lane_.send_ring_bytes()} {}

  void run() {
    while (!choices_.empty()) {
      const auto operation = choices_.below(16);
      if (operation < 8) {
        rewrite(operation);
      } else {
        operate(operation);
      }
      FUZZ_CHECK(lane_.state() == expected_state());
    }
  }

 private:
  LaneState expected_state() const {
    if (violated_) return LaneState::violated;
    return lane_.peer_closed ? LaneState::closed : LaneState::open;
  }

  /// The peer's turn.
  void rewrite(std::uint32_t operation) {
    switch (operation) {
      case 0:
        *lane_.receive.producer = choices_.take<std::uint32_t>();
        break;
      case 1:  // on from where it was: mostly what an honest peer could do
        *lane_.receive.producer += choices_.below(300);
        break;
      case 2:
        *lane_.send.consumer = choices_.take<std::uint32_t>();
        break;
      case 3:
        *lane_.send.consumer += choices_.below(300);
        break;
      case 4:  // those are ours, but nothing stops it
        *lane_.receive.consumer = choices_.take<std::uint32_t>();
        *lane_.send.producer = choices_.take<std::uint32_t>();
        break;
      case 5:
        *lane_.our_requests = choices_.take<std::uint8_t>();
        *lane_.peer_requests = choices_.take<std::uint8_t>();
        break;
      case 6:
        for (auto* memory : {&lane_.receive, &lane_.send}) {
          std::fill(memory->buffer.begin(), memory->buffer.end(),
                    std::byte{choices_.take<std::uint8_t>()});
        }
        break;
      default:
        lane_.peer_closed = !lane_.peer_closed;
    }
  }

  void operate(std::uint32_t operation) {
    switch (operation) {
      case 8:
      case 9:
        return read();
      case 10:
        lane_.consume(take_up_to(receive_.used(), receive_.consumed, consumed_unpublished_));
        return;
      case 11:
      case 12:
        return write();
      case 13:
        lane_.commit(take_up_to(send_.size - send_.used(), send_.produced, committed_unpublished_));
        return;
      case 14:
        return publish();
      default:
        return choices_.flag() ? arm() : look_at_unconsumed();
    }
  }

  std::size_t take_up_to(std::uint64_t available, std::uint64_t& position, bool& unpublished) {
    const auto count = choices_.below(static_cast<std::uint32_t>(available) + 1);
    position += count;
    unpublished |= count > 0;
    return count;
  }

  /// Only how far the counter moved since it was last believed says whether a peer could have
  /// written it.
  void observe_producer() {
    const auto advance = static_cast<std::uint32_t>(*lane_.receive.producer - receive_.produced);
    if (advance > receive_.size - receive_.used()) {
      violated_ = true;
    } else {
      receive_.produced += advance;
    }
  }
  std::uint32_t consumer_advance() {
    const auto advance = static_cast<std::uint32_t>(*lane_.send.consumer - send_.consumed);
    if (advance > send_.used()) violated_ = true;
    return advance > send_.used() ? 0 : advance;
  }

  template <typename Byte>
  void check_spans(const RingSpans<Byte>& spans, std::vector<std::byte>& buffer,
                   std::uint64_t begin, std::uint64_t count) {
    if (violated_) {
      FUZZ_CHECK(spans.empty());
      return;
    }
    FUZZ_CHECK(spans.size() == count);
    std::uint64_t position = begin;
    for (const auto span : {spans.first, spans.second}) {
      for (Byte& byte : span) FUZZ_CHECK(&byte == &buffer[position++ % buffer.size()]);
    }
  }

  void read() {
    const ReadableSpans spans = lane_.readable();
    observe_producer();
    check_spans(spans, lane_.receive.buffer, receive_.consumed, receive_.used());
    for (const auto span : {spans.first, spans.second}) {
      for (const std::byte byte : span) seen_ ^= byte;
    }
  }

  void write() {
    const WritableSpans spans = lane_.writable();
    send_.consumed += consumer_advance();
    check_spans(spans, lane_.send.buffer, send_.produced, send_.size - send_.used());
    for (const auto span : {spans.first, spans.second}) {
      std::fill(span.begin(), span.end(), seen_);
    }
  }

  void publish() {
    const unsigned actions = (consumed_unpublished_ ? notify_on_read : 0U) |
                             (committed_unpublished_ ? notify_on_write : 0U);
    const unsigned asked = *lane_.peer_requests;
    const std::uint64_t wake_ups = lane_.wake_ups;
    lane_.publish();
    FUZZ_CHECK(lane_.wake_ups == wake_ups + ((asked & actions) != 0 ? 1 : 0));
    FUZZ_CHECK(*lane_.peer_requests == (asked & ~actions));
    if (consumed_unpublished_) {
      FUZZ_CHECK(*lane_.receive.consumer == static_cast<std::uint32_t>(receive_.consumed));
    }
    if (committed_unpublished_) {
      FUZZ_CHECK(*lane_.send.producer == static_cast<std::uint32_t>(send_.produced));
    }
    consumed_unpublished_ = committed_unpublished_ = false;
  }

  void arm() {
    const bool want_readable = choices_.flag();
    const bool want_writable = choices_.flag();
    const unsigned asked = *lane_.our_requests;
    const Position receive_before = receive_;
    const Position send_before = send_;
    const bool something = lane_.arm(want_readable, want_writable);
    observe_producer();
    send_.consumed += consumer_advance();
    const unsigned wanted =
        (want_readable ? notify_on_write : 0U) | (want_writable ? notify_on_read : 0U);
    FUZZ_CHECK(*lane_.our_requests == (asked | wanted));
    FUZZ_CHECK(something == (violated_ || lane_.peer_closed ||
                             (want_readable && receive_.produced > receive_before.produced) ||
                             (want_writable && send_.consumed > send_before.consumed)));
  }

  void look_at_unconsumed() {
    const std::size_t unconsumed = lane_.unconsumed_bytes();
    FUZZ_CHECK(unconsumed == send_.used() - consumer_advance());
    FUZZ_CHECK(unconsumed <= send_.size);
  }

  Input choices_;
  TestedLane lane_;
  Position receive_;
  Position send_;
  bool consumed_unpublished_ = false;
  bool committed_unpublished_ = false;
  bool violated_ = false;
  std::byte seen_{0};
};

}  // namespace

void fuzz_ring_consume(Bytes input) {
  RingProgram(Input(input)).run();
}

}  // namespace xenlane::fuzz

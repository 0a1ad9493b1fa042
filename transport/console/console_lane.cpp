#include "transport/console/console_lane.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

namespace {

using Clock = std::chrono::steady_clock;

/// Input that one look takes before others have a turn; the rest wakes the lane again.
constexpr std::uint64_t input_bytes_per_look = 64 * 1024;
/// What is worth a look where more is on its way. A tty holds 4 KiB (Linux, N_TTY_BUF_SIZE), and
/// the other end stands still when that is full. Of what QEMU's socket holds, less than what is
/// acknowledged at once.
constexpr std::size_t enough_of_tty = 3 * 1024;
constexpr std::size_t enough_of_socket = 12 * 1024;

template <typename Byte>
RingSpans<Byte> spans_of(std::span<Byte, console_ring_bytes> ring, std::uint64_t begin,
                         std::uint64_t end) {
  const std::size_t offset = begin % ring.size();
  const std::size_t count = end - begin;
  const std::size_t until_end = std::min(count, ring.size() - offset);
  return {ring.subspan(offset, until_end), ring.first(count - until_end)};
}

std::uint32_t random_nonce() {
  std::uint32_t nonce = 0;
  while (nonce == 0) {
    const ssize_t got = ::getrandom(&nonce, sizeof nonce, 0);
    if (got == sizeof nonce) continue;
    if (got < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
    nonce = 0;
  }
  return nonce;
}

}  // namespace

std::unique_ptr<ConsoleLane> make_console_lane(std::shared_ptr<ConsolePort> port, ConsoleEnd end,
                                               const ConsoleOptions& options) {
  LinkSettings settings;
  settings.flags = link_roomy;
  settings.end = end;
  settings.nonce = random_nonce();
  settings.give_up = options.give_up;
  if (options.own_device) settings.flags |= link_own_device;
  if (options.zstd) settings.flags |= link_zstd;
  return std::make_unique<ConsoleLane>(std::move(port), settings, options.zstd);
}

ConsoleLane::ConsoleLane(std::shared_ptr<ConsolePort> port, const LinkSettings& settings, bool zstd)
    : port_(std::move(port)),
      input_pause_(port_->is_socket() ? enough_of_socket : enough_of_tty),
      link_(settings, Clock::now()),
      unpacker_(zstd),
      zstd_(zstd),
      paced_bytes_(port_->bytes_in()),
      bytes_in_before_(port_->bytes_in()),
      writes_before_(port_->writes()),
      bytes_out_before_(port_->bytes_out()) {
  XENLANE_ASSERT(!port_->in_use);
  port_->in_use = true;
  port_->expect_input();
  port_->watch_input(true);  // a lane before it may have looked away
  write_port(now());
}

ConsoleLane::~ConsoleLane() {
  write_port(now(), true);
  const auto frame = link_.poll_close();
  if (frame && port_->usable() && port_->output_room().size() >= link_line_bytes_max) {
    add_frame(*frame);
    port_->write_output();
  }
  port_->in_use = false;
}

LaneState ConsoleLane::current_state() const {
  switch (link_.state()) {
    case LinkState::opening:
      return port_->usable() ? LaneState::awaiting_peer : LaneState::closed;
    case LinkState::open:
      return port_->usable() ? LaneState::open : LaneState::closed;
    case LinkState::closed:
      return LaneState::closed;
    case LinkState::violated:
      return LaneState::violated;
  }
  return LaneState::violated;
}

LaneState ConsoleLane::state() {
  return seen_state_ = current_state();
}

std::string_view ConsoleLane::trouble() const {
  return link_.trouble().empty() ? port_->trouble() : link_.trouble();
}

ReadableSpans ConsoleLane::readable() {
  look(now());
  if (current_state() == LaneState::violated) return {};
  seen_unpacked_ = unpacked_;
  return spans_of<const std::byte>(receive_ring_, consumed_, unpacked_);
}

void ConsoleLane::consume(std::size_t count) {
  XENLANE_ASSERT(count <= unpacked_ - consumed_);
  consumed_ += count;
}

WritableSpans ConsoleLane::writable() {
  look(now());
  if (current_state() == LaneState::violated) return {};
  seen_released_ = released_;
  return spans_of<std::byte>(send_ring_, committed_, released_ + console_ring_bytes);
}

void ConsoleLane::commit(std::size_t count) {
  XENLANE_ASSERT(count <= console_ring_bytes - (committed_ - released_));
  committed_ += count;
}

void ConsoleLane::publish() {
  published_ = committed_;
  release_consumed();
  write_port(now());
}

ReadableSpans ConsoleLane::unconsumed() {
  return spans_of<const std::byte>(send_ring_, released_, committed_);
}

// What fills the link's window, as well as it packs lately; not all of the ring, where releases
// would come too late. Where each block may take long, an answer should not have many before it.
std::size_t ConsoleLane::useful_bytes_max() const {
  if (!link_.is_proven()) return block_raw_bytes / 2;
  const std::size_t useful = console_useful_blocks * block_raw_bytes;
  return std::clamp(useful * packed_share_unit / packed_share_, useful,
                    peer_ring_bytes() - 2 * block_raw_bytes);
}

// The same from one arm() or wake-up to the next: in a domain without a clock page each look at the
// clock is a system call.
ConsoleLane::TimePoint ConsoleLane::now() {
  if (!std::exchange(time_known_, true)) now_ = Clock::now();
  return now_;
}

bool ConsoleLane::arm(bool want_readable, bool want_writable) {
  wants_room_ = want_writable;
  look(now());
  write_port(now());
  time_known_ = false;
  // What comes from now on makes wait_fd() readable; who does not wait for it looks again.
  port_->expect_input();
  return is_over() || current_state() != seen_state_ ||
         (want_readable && unpacked_ > seen_unpacked_) ||
         (want_writable && released_ > seen_released_);
}

// Frames wait for publish() or arm(), which follow: one acknowledgement then tells what came and
// what was consumed of it. Unless a timer is why this was called.
void ConsoleLane::acknowledge() {
  time_known_ = false;
  const auto due = deadline();
  port_->expect_input();
  look(now());
  input_pause_.looked(port_->bytes_in() - std::exchange(paced_bytes_, port_->bytes_in()),
                      expects_more(), now());
  if (due && now() >= *due) {
    write_port(now());
  } else {
    port_->write_output();
  }
}

bool ConsoleLane::expects_more() const {
  return scanner_.in_line() || link_.more_follows();
}

// Output that waits for room goes as soon as there is some.
std::chrono::microseconds ConsoleLane::look_away() {
  const bool may = !is_over() && expects_more() && !port_->has_output();
  const auto pause = may ? input_pause_.current() : std::chrono::microseconds();
  port_->watch_input(pause == pause.zero());
  return pause;
}

std::optional<std::chrono::steady_clock::time_point> ConsoleLane::deadline() const {
  if (is_over()) return {};
  return link_.deadline();
}

void ConsoleLane::nudge() {
  time_known_ = false;
  link_.probe(now());
  write_port(now());
}

// Input first: an answer that is there already is no silence.
void ConsoleLane::look(TimePoint now) {
  if (is_over()) return;
  if (const auto due = link_.deadline(); due && now >= *due) port_->expect_input();
  read_port(now);
  link_.handle_time(now);
}

void ConsoleLane::read_port(TimePoint now) {
  const std::uint64_t until = port_->bytes_in() + input_bytes_per_look;
  while (!is_over() && port_->bytes_in() < until && port_->read_input()) {
    auto untrusted_bytes = port_->input();
    const std::size_t before = untrusted_bytes.size();
    // A link that ends leaves the rest to the next one.
    const auto frame = scanner_.next(untrusted_bytes);
    port_->take_input(before - untrusted_bytes.size());
    if (!frame) continue;
    ++counters_.frames_in;
    link_.handle_frame(*frame, now);
    handle_released();
    unpack_blocks();
  }
}

// A peer that keeps to the protocol has no more under way than there is room for here.
void ConsoleLane::unpack_blocks() {
  while (link_.state() != LinkState::violated) {
    const auto block = unpacker_.unpack(link_.unread());
    if (!block.fault.empty()) {
      link_.fail(block.fault);
      return;
    }
    if (block.used == 0) return;
    const std::size_t room = console_ring_bytes - (unpacked_ - consumed_);
    if (block.raw.size() > room || received_blocks_.full()) {
      link_.fail("the peer sent more than the lane's ring");
      return;
    }
    const auto to = spans_of<std::byte>(receive_ring_, unpacked_, unpacked_ + block.raw.size());
    copy_bytes(block.raw.first(to.first.size()), to.first.data());
    copy_bytes(block.raw.subspan(to.first.size()), to.second.data());
    link_.take(block.used);
    unpacked_ += block.raw.size();
    counters_.raw_bytes_in += block.raw.size();
    received_blocks_.push({link_.taken(), unpacked_});
  }
}

// What the peer's session has consumed need not be kept any longer.
void ConsoleLane::handle_released() {
  const LinkPlace place = link_.peer_released();
  if (place == seen_place_) return;
  seen_place_ = place;
  while (!sent_blocks_.empty() && !is_after(sent_blocks_.front().link_end, place.position)) {
    sent_boundary_ = sent_blocks_.front().link_end;
    released_blocks_ = sent_blocks_.front().raw_end;
    sent_blocks_.pop();
  }
  const std::uint64_t block_end =
      sent_blocks_.empty() ? released_blocks_ + 1 : sent_blocks_.front().raw_end;
  if (sent_boundary_ != place.position || released_blocks_ + place.part >= block_end) {
    link_.fail("the peer released what is no block");
    return;
  }
  released_ = released_blocks_ + place.part;
}

void ConsoleLane::release_consumed() {
  while (!received_blocks_.empty() && received_blocks_.front().raw_end <= consumed_) {
    given_back_.position = received_blocks_.front().link_end;
    given_back_blocks_ = received_blocks_.front().raw_end;
    received_blocks_.pop();
  }
  given_back_.part = static_cast<std::uint16_t>(consumed_ - given_back_blocks_);
  // A fourth of what the peer may have under way; or anything, when for all it was told so much of
  // that is not released that it may be waiting.
  const bool is_much = consumed_ - told_consumed_ >= peer_ring_bytes() / 4 ||
                       unpacked_ - told_consumed_ > peer_ring_bytes() / 4 * 3;
  link_.release(given_back_, is_much);
}

// A part of a block waits, as in RFC 896, while bytes are under way whose acknowledgement will send
// it: what a slow channel carries should not be many small pieces.
void ConsoleLane::pack_blocks(TimePoint now, bool all) {
  // What fills the window is sent half a window at a time.
  const bool full = link_.has_unacknowledged() && link_.room() < link_window_bytes / 2;
  const bool may_pack = zstd_ && (link_.peer_flags() & link_zstd) != 0;
  while (link_.is_open() && packed_ < published_ && !sent_blocks_.full() && (all || !full)) {
    const std::size_t size = std::min<std::uint64_t>(published_ - packed_, block_raw_bytes);
    if (link_.room() < BlockPacker::bytes_max(size)) break;
    if (packed_ + size - released_ > peer_ring_bytes()) break;
    if (size < block_raw_bytes && link_.has_unacknowledged() && !all) break;
    const auto block =
        packer_.pack(spans_of<const std::byte>(send_ring_, packed_, packed_ + size), may_pack);
    link_.write(block);
    packed_ += size;
    packed_share_ = (3 * packed_share_ + block.size() * packed_share_unit / size) / 4 + 1;
    counters_.raw_bytes_out += size;
    counters_.packed_bytes_out += block.size();
    sent_blocks_.push({link_.written(), packed_});
  }
  // Who has use for no more under way may wait for what the peer need not tell.
  const bool waits = wants_room_ && released_ < committed_;
  const bool ring_full = committed_ - released_ == console_ring_bytes;
  link_.want_release(packed_ < published_ || ring_full || waits, now);
}

void ConsoleLane::write_port(TimePoint now, bool all) {
  while (!is_over() && port_->write_output()) {
    pack_blocks(now, all);
    bool more = false;
    while (port_->output_room().size() >= link_line_bytes_max) {
      const auto frame = link_.poll_frame(now, all);
      if (!frame) break;
      add_frame(*frame);
      more = true;
    }
    if (!more) return;
  }
}

void ConsoleLane::add_frame(const LinkFrame& frame) {
  // Whoever this is for may not be the peer, and only the peer has said that it takes binary.
  const bool of_link = frame.type == LinkFrameType::data || frame.type == LinkFrameType::probe;
  const auto encoding = of_link ? link_.encoding() : LinkEncoding::text;
  port_->add_output(
      encode_link_line(frame, encoding, port_->output_room().first<link_line_bytes_max>()));
  ++counters_.frames_out;
  if (of_link) told_consumed_ = given_back_blocks_ + given_back_.part;
}

ConsoleCounters ConsoleLane::counters() const {
  ConsoleCounters out = counters_;
  out.retransmitted_frames = link_.counters().retransmitted_frames;
  out.echoes = link_.counters().echoes;
  out.foreign_frames = link_.counters().foreign_frames;
  out.bad_frames = scanner_.bad_frames();
  out.wire_bytes_in = port_->bytes_in() - bytes_in_before_;
  out.wire_bytes_out = port_->bytes_out() - bytes_out_before_;
  out.binary = link_.encoding() == LinkEncoding::binary;
  out.srtt = link_.round_trip();
  return out;
}

}  // namespace xenlane::transport

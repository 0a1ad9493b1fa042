#include "transport/console/link.hpp"

#include <algorithm>

#include "transport/base/assert.hpp"

namespace xenlane::transport {

namespace {

/// How often a host tells whoever writes to a life that is not its own. A flood of old frames is
/// answered now and then; a guest that is alive sends again, and is told then.
constexpr std::chrono::milliseconds close_unknown_interval{100};
/// A pause of our own is no silence of the peer's: before giving up, it was asked this often.
constexpr unsigned retries_min = 3;

}  // namespace

ConsoleLink::ConsoleLink(const LinkSettings& settings, TimePoint now) : settings_(settings) {
  XENLANE_ASSERT(settings.nonce != 0);
  if (settings.end == ConsoleEnd::host) return;
  syn_due_ = true;
  retry_at_ = now + link_opening_retry;
}

LinkEncoding ConsoleLink::encoding() const {
  return (peer_flags_ & link_own_device) != 0 ? LinkEncoding::binary : LinkEncoding::text;
}

std::size_t ConsoleLink::payload_bytes_max() const {
  const std::size_t most = link_payload_bytes_max(encoding());
  return peer_is_roomy() ? most : std::min(most, link_short_payload_bytes_max);
}

void ConsoleLink::handle_frame(const LinkFrame& untrusted_frame, TimePoint now) {
  if (state_ == LinkState::closed || state_ == LinkState::violated) return;
  if (untrusted_frame.from_host == (settings_.end == ConsoleEnd::host)) {
    ++counters_.echoes;
    return;
  }
  if (untrusted_frame.to != settings_.nonce) {
    handle_unverified(untrusted_frame, now);
  } else if (state_ == LinkState::opening) {
    handle_opening(untrusted_frame, now);
  } else if (untrusted_frame.from != peer_) {
    handle_of_another_life(untrusted_frame, now);
  } else {
    handle_of_peer(untrusted_frame, now);
  }
}

// It may be old, so nothing is believed. Only a host answers: it says who it is, or that it does
// not know the link.
void ConsoleLink::handle_unverified(const LinkFrame& untrusted_frame, TimePoint now) {
  if (settings_.end == ConsoleEnd::host && untrusted_frame.type == LinkFrameType::syn) {
    syn_answer_to_ = untrusted_frame.from;
    return;
  }
  handle_foreign(untrusted_frame, now);
}

void ConsoleLink::handle_foreign(const LinkFrame& untrusted_frame, TimePoint now) {
  ++counters_.foreign_frames;
  const bool is_traffic =
      untrusted_frame.type == LinkFrameType::data || untrusted_frame.type == LinkFrameType::probe;
  if (settings_.end == ConsoleEnd::guest || !is_traffic) return;
  if (closed_unknown_at_ && now - *closed_unknown_at_ < close_unknown_interval) return;
  closed_unknown_at_ = now;
  close_to_ = untrusted_frame.from;
}

void ConsoleLink::handle_opening(const LinkFrame& untrusted_frame, TimePoint now) {
  const bool is_syn = untrusted_frame.type == LinkFrameType::syn;
  if (settings_.end == ConsoleEnd::host) {
    if (untrusted_frame.type == LinkFrameType::close) return;
    open(untrusted_frame, now);
    handle_of_peer(untrusted_frame, now);
  } else if (!is_syn) {
    ++counters_.foreign_frames;
  } else if ((untrusted_frame.flags & link_busy) != 0) {
    // The host has a link with a former life of this end. The answer ends it; the host's next life
    // is asked soon.
    syn_answer_to_ = untrusted_frame.from;
    backoff_ = 0;
    retry_at_ = now + link_opening_retry;
  } else {
    open(untrusted_frame, now);
    probe(now);  // the host's link opens when this arrives, so somebody has to see that it does
  }
}

void ConsoleLink::open(const LinkFrame& untrusted_frame, TimePoint now) {
  state_ = LinkState::open;
  peer_ = untrusted_frame.from;
  peer_flags_ = untrusted_frame.flags & (link_own_device | link_zstd | link_roomy);
  syn_due_ = false;
  note_progress(now);
}

void ConsoleLink::handle_of_another_life(const LinkFrame& untrusted_frame, TimePoint now) {
  if (untrusted_frame.type == LinkFrameType::syn) {
    end(LinkState::closed, "the peer began anew");
  } else if (untrusted_frame.type == LinkFrameType::close && settings_.end == ConsoleEnd::guest) {
    // Of a host that does not know this link: only one that began after it can have seen it.
    peer_ended_it_ = true;
    end(LinkState::closed, "the peer does not know the link: it began anew");
  } else {
    handle_foreign(untrusted_frame, now);
  }
}

void ConsoleLink::handle_of_peer(const LinkFrame& untrusted_frame, TimePoint now) {
  switch (untrusted_frame.type) {
    case LinkFrameType::syn:
      return;  // an answer, repeated
    case LinkFrameType::close:
      peer_ended_it_ = true;
      end(LinkState::closed, "the peer closed the link");
      return;
    case LinkFrameType::probe:
      acknowledgement_due_ = true;
      more_follows_ = false;  // what it had to send did not stop it from asking
      break;
    case LinkFrameType::data:
      break;
  }
  probing_ = false;
  backoff_ = 0;
  const bool waited_for_bytes = sending_.has_unacknowledged();
  switch (sending_.handle(untrusted_frame, now)) {
    case SendWindow::Heard::impossible:
      fail("the peer acknowledged what was never sent");
      return;
    case SendWindow::Heard::progress:
      note_progress(now);
      break;
    case SendWindow::Heard::nothing:
      if (!waited_for_bytes) note_progress(now);
      break;
  }
  if (!untrusted_frame.payload.empty()) handle_payload(untrusted_frame);
  if (is_open()) watch(now);
}

// What is told at once is what the sender waits for: its last bytes for now, a loss, room.
void ConsoleLink::handle_payload(const LinkFrame& untrusted_frame) {
  const std::uint32_t got_before = receiving_.got();
  if (!receiving_.insert(untrusted_frame.position, untrusted_frame.payload)) {
    fail("the peer sent more than the link's window");
    return;
  }
  more_follows_ = (untrusted_frame.flags & link_more) != 0;
  if (!more_follows_ || receiving_.hole() != 0 || receiving_.got() == got_before ||
      receiving_.got() - told_got_ >= link_acknowledged_at_once) {
    acknowledgement_due_ = true;
  }
}

void ConsoleLink::end(LinkState state, std::string_view text) {
  state_ = state;
  trouble_ = text;
  retry_at_.reset();
}

void ConsoleLink::fail(std::string_view text) {
  if (state_ != LinkState::violated) end(LinkState::violated, text);
}

void ConsoleLink::probe(TimePoint now) {
  if (!is_open()) return;
  probe_due_ = probing_ = true;
  watch(now);
}

void ConsoleLink::want_release(bool wanted, TimePoint now) {
  wants_release_ = wanted;
  if (is_open()) watch(now);
}

void ConsoleLink::release(LinkPlace place, bool is_much) {
  receiving_.release(place.position);
  part_ = place.part;
  if (place == told_place_) return;
  const bool took_all = receiving_.held() == 0 && !more_follows_;
  const bool peer_may_wait = receiving_.got() - told_place_.position > link_held_many;
  const std::uint32_t untold = place.position - told_place_.position;
  if (took_all || is_much || peer_may_wait || untold >= link_acknowledged_at_once) {
    acknowledgement_due_ = true;
  }
}

bool ConsoleLink::expects_answer() const {
  return sending_.has_unacknowledged() || probing_ || wants_release_;
}

void ConsoleLink::note_progress(TimePoint now) {
  progress_at_ = now;
  forget_retries();
}

void ConsoleLink::forget_retries() {
  retries_ = backoff_ = 0;
  retry_at_.reset();
}

// Keeps a deadline for as long as an answer is expected, and none when none is.
void ConsoleLink::watch(TimePoint now) {
  if (!expects_answer()) {
    forget_retries();
  } else if (!retry_at_) {
    if (retries_ == 0) progress_at_ = now;
    retry_at_ = now + sending_.round_trip().retry_after(backoff_);
  }
}

std::optional<ConsoleLink::TimePoint> ConsoleLink::deadline() const {
  if (!retry_at_ || !is_open() || retries_ < retries_min) return retry_at_;
  return std::min(*retry_at_, progress_at_ + settings_.give_up);
}

void ConsoleLink::handle_time(TimePoint now) {
  const auto due = deadline();
  if (!due || now < *due) return;
  if (state_ == LinkState::opening) {
    syn_due_ = true;
    ++backoff_;
    retry_at_ = now + std::min<RoundTrip::Duration>(
                          link_opening_retry * (1U << std::min(backoff_, 5U)), link_retry_max);
    return;
  }
  if (retries_ >= retries_min && now - progress_at_ >= settings_.give_up) {
    end(LinkState::closed, "the peer does not answer over the console");
    return;
  }
  ++retries_;
  ++backoff_;
  if (sending_.has_unacknowledged()) {
    sending_.handle_timeout(now);
  } else {
    probe_due_ = probing_ = true;
  }
  retry_at_ = now + sending_.round_trip().retry_after(backoff_);
}

LinkFrame ConsoleLink::frame_of(LinkFrameType type, std::uint32_t to) const {
  LinkFrame out;
  out.type = type;
  out.from_host = settings_.end == ConsoleEnd::host;
  out.flags = settings_.flags;
  out.from = settings_.nonce;
  out.to = to;
  return out;
}

std::optional<LinkFrame> ConsoleLink::poll_frame(TimePoint now, bool all) {
  if (state_ == LinkState::closed || state_ == LinkState::violated) return std::nullopt;
  if (close_to_ != 0) return frame_of(LinkFrameType::close, std::exchange(close_to_, 0));
  if (syn_answer_to_ != 0) {
    LinkFrame out = frame_of(LinkFrameType::syn, std::exchange(syn_answer_to_, 0));
    if (is_open() && out.to != peer_) out.flags |= link_busy;
    return out;
  }
  if (is_open()) return poll_open(now, all);
  if (!std::exchange(syn_due_, false)) return std::nullopt;
  return frame_of(LinkFrameType::syn, 0);
}

std::optional<LinkFrame> ConsoleLink::poll_open(TimePoint now, bool all) {
  LinkFrame out = frame_of(LinkFrameType::data, peer_);
  out.got = receiving_.got();
  out.held = receiving_.held();
  out.part = part_;
  out.hole = receiving_.hole();
  if (const auto segment = sending_.poll(payload_bytes_max(), all, now)) {
    out.position = segment->position;
    out.payload = segment->bytes;
    if (segment->more) out.flags |= link_more;
    if (segment->again) ++counters_.retransmitted_frames;
    watch(now);
  } else if (std::exchange(probe_due_, false)) {
    out.type = LinkFrameType::probe;
  } else if (!acknowledgement_due_) {
    return std::nullopt;
  }
  acknowledgement_due_ = false;
  told_got_ = out.got;
  told_place_ = {out.got - out.held, out.part};
  return out;
}

std::optional<LinkFrame> ConsoleLink::poll_close() {
  if (peer_ == 0 || std::exchange(peer_ended_it_, true)) return std::nullopt;
  return frame_of(LinkFrameType::close, peer_);
}

}  // namespace xenlane::transport

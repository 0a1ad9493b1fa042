// The half of the mux that faces the applications and the ring; what the peer's frames do is in
// mux_input.cpp.
#include "bridge/mux/mux.hpp"

#include <algorithm>
#include <cerrno>

#include "transport/base/assert.hpp"

namespace xenlane::bridge {

namespace {

/// Ids of streams that are gone which the turn queues may hold besides those of living ones.
constexpr std::size_t leftover_ids_max = 64;

/// Room below which no DATA frame is started: a nearly full ring filled with slivers costs more in
/// headers and wake-ups than waiting for the peer to read on.
constexpr std::size_t data_room_bytes_min = 2048;

/// So this always comes about.
static_assert(data_room_bytes_min <= ring_bytes_min / 2);

// What a peer promises may be far more than this side can hold: no side opens more than it would
// itself allow, or a peer that never answers could make it remember OPENs without end.
MuxLimits within_reason(MuxLimits theirs, const MuxLimits& ours) {
  theirs.streams_max = std::min(theirs.streams_max, ours.streams_max);
  theirs.open_backlog_max = std::min(theirs.open_backlog_max, ours.open_backlog_max);
  return theirs;
}

}  // namespace

Mux::Mux(Role role, const MuxLimits& ours, const MuxLimits& theirs, std::uint16_t version)
    : ours_(ours),
      theirs_(within_reason(theirs, ours)),
      version_(version),
      own_parity_(role == Role::guest ? 1 : 0),
      last_own_id_(role == Role::guest ? static_cast<StreamId>(-1) : 0),
      last_peer_id_(role == Role::guest ? 0 : static_cast<StreamId>(-1)),
      session_send_(theirs.session_window_bytes),
      session_receive_(ours.session_window_bytes) {
  const std::uint64_t promised = 2ULL * ours.streams_max * ours.stream_window_bytes_min;
  window_pool_bytes_ =
      ours.session_window_bytes > promised ? ours.session_window_bytes - promised : 0;
}

Stream& Mux::stream(StreamId id) {
  Stream* found = find(id);
  XENLANE_ASSERT(found != nullptr);
  return *found;
}

Stream* Mux::find(StreamId id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

bool Mux::can_open() const {
  return !going_away_ && !peer_going_away_ && own_streams_ + own_lingering_ < theirs_.streams_max &&
         own_unanswered_ < theirs_.open_backlog_max;
}

bool Mux::has_output() const {
  if (ping_to_send_ || pong_to_send_ || go_away_to_send_ || session_receive_.update_due() ||
      !owing_.empty() || !refusals_.empty() || !notices_.empty()) {
    return true;
  }
  return !(fresh_.empty() && ready_.empty()) && session_send_.available() > 0;
}

StreamId Mux::open(EndShape shape, std::string name, SocketKind kind, std::uint32_t uid) {
  XENLANE_ASSERT(can_open() && speaks(kind));
  // Ids go up by two and wrap; one that is still in use after four thousand million is passed over.
  do {
    last_own_id_ += 2;
  } while (last_own_id_ == 0 || has_stream(last_own_id_) || lingering_.contains(last_own_id_));
  const StreamId id = last_own_id_;
  Stream& opened =
      streams_
          .try_emplace(id, id, true, theirs_.stream_window_bytes_min, ours_.stream_window_bytes_min)
          .first->second;
  opened.open_name = std::move(name);
  opened.shape = shape;
  opened.kind = kind;
  opened.caller_uid = uid;
  ++own_streams_;
  ++own_unanswered_;
  ++counters_.streams_opened;
  owe(opened, Owed::open);
  return id;
}

void Mux::accept(StreamId id) {
  Stream& accepted = stream(id);
  XENLANE_ASSERT(!accepted.opened_by_us && !accepted.answered);
  accepted.answered = true;
  owe(accepted, Owed::accept);
  schedule(accepted);
}

void Mux::refuse(StreamId id, std::uint16_t error, std::string reason) {
  const Stream& refused = stream(id);
  XENLANE_ASSERT(!refused.opened_by_us && !refused.answered);
  refusals_.push_back({id, error, std::move(reason)});
  ++counters_.streams_refused;
  erase(id);
}

void Mux::source_ready(StreamId id) {
  Stream& ready = stream(id);
  if (ready.finish_wanted) return;  // the peer has stopped it meanwhile
  ready.source_ready = true;
  schedule(ready);
}

void Mux::source_drained(StreamId id) {
  if (Stream* drained = find(id)) drained->source_ready = false;
}

void Mux::finish(StreamId id) {
  Stream& finished = stream(id);
  if (finished.finish_wanted) return;
  finished.finish_wanted = true;
  finished.source_ready = false;
  owe(finished, Owed::finish);
}

void Mux::stop_sending(StreamId id, StreamError error) {
  Stream& stopped = stream(id);
  if (stopped.discarding || stopped.finish_received) return;
  stopped.discarding = true;
  stopped.stop_error = error;
  owe(stopped, Owed::stop_sending);
}

void Mux::reset(StreamId id, StreamError error) {
  Stream& dropped = stream(id);
  if (!dropped.opened_by_us && !dropped.answered) {
    refuse(id, ECANCELED, std::string(to_string(error)));
    return;
  }
  ++counters_.streams_reset;
  if (dropped.owes(Owed::open)) {  // the peer never heard of it
    --own_unanswered_;
    erase(id);
    return;
  }
  dropped.source_ready = false;
  dropped.finish_wanted = true;
  dropped.discarding = true;
  dropped.reset_error = error;
  // An ACCEPT that was not sent yet still counts as the answer the peer is owed.
  dropped.owed &= static_cast<std::uint8_t>(Owed::accept);
  owe(dropped, Owed::reset);
}

void Mux::ping(std::uint64_t nonce) {
  ping_to_send_ = nonce;
}

void Mux::go_away(std::string reason) {
  going_away_ = true;
  go_away_to_send_ = std::move(reason);
}

void Mux::notice(NoticeFrame notice) {
  if (version_ < notices_version_min) return;
  const std::string name = notice.name;
  notices_.insert_or_assign(name, std::move(notice));
}

std::optional<std::uint64_t> Mux::delivered(StreamId id, std::uint64_t bytes) {
  session_receive_.deliver(bytes);
  if (const auto late = lingering_.find(id); late != lingering_.end()) {
    late->second.receive.deliver(bytes);
    if (late->second.receive.held() > 0) return std::nullopt;
    release_window(late->second.receive);
    --(late->second.opened_by_us ? own_lingering_ : peer_lingering_);
    lingering_.erase(late);
    return std::nullopt;
  }
  Stream* receiver = find(id);
  if (receiver == nullptr) return std::nullopt;
  receiver->receive.deliver(bytes);
  if (receiver->finish_received || receiver->discarding) return std::nullopt;
  const bool grown = grow_window(*receiver);
  if (receiver->receive.update_due()) owe(*receiver, Owed::credit);
  return grown ? std::optional(receiver->receive.window()) : std::nullopt;
}

void Mux::set_aside(StreamId id, std::uint64_t bytes) {
  session_receive_.deliver(bytes);
  Stream& waiting = stream(id);
  waiting.receive.deliver(bytes);
  if (!waiting.finish_received && waiting.receive.update_due()) owe(waiting, Owed::credit);
}

// A reader that has caught up when its credit is renewed earns twice the window, while the session
// has bytes that are promised to nobody.
bool Mux::grow_window(Stream& grown) {
  const std::uint64_t window = grown.receive.window();
  if (!grown.receive.update_due() || grown.receive.held() > 0) return false;
  const std::uint64_t wider = std::min<std::uint64_t>(window * 2, ours_.stream_window_bytes_max);
  if (wider <= window || wider - window > window_pool_bytes_) return false;
  window_pool_bytes_ -= wider - window;
  grown.receive.widen(wider);
  return true;
}

void Mux::count_volume(StreamId id, std::uint64_t bytes) {
  Stream* counted = find(id);
  if (counted == nullptr || counted->weightless) return;
  if (counted->period != period_) counted->volume = 0;
  counted->period = period_;
  counted->volume += bytes;
  period_volume_ = std::max(period_volume_, counted->volume);
}

void Mux::owe(Stream& debtor, Owed what) {
  debtor.owed |= static_cast<std::uint8_t>(what);
  if (debtor.in_owing) return;
  debtor.in_owing = true;
  owing_.push_back(debtor.id);
}

// Turns are dealt as fq_codel does it (RFC 8290): by deficit round robin, and who was silent for a
// whole round comes first, once. So a small message waits for no bulk stream's turn, and nobody
// gains by falling silent in between.
void Mux::schedule(Stream& candidate) {
  if (candidate.in_ready || !candidate.source_ready || candidate.send.available() == 0) return;
  if (!candidate.opened_by_us && !candidate.answered) return;  // accept() comes back to it
  candidate.in_ready = true;
  candidate.deficit = quantum_bytes_;
  fresh_.push_back(candidate.id);
}

// Whatever a stream still owes is moot then, and must not keep it: the peer counts it as gone from
// its own last FINISH on and may open another in its place.
void Mux::erase_if_done(StreamId id) {
  const Stream* done = find(id);
  if (done == nullptr || !done->answered || !done->finish_sent || !done->finish_received) return;
  if (done->receive.held() > 0) {
    lingering_.emplace(id, Lingering{done->opened_by_us, done->receive});
    ++(done->opened_by_us ? own_lingering_ : peer_lingering_);
  }
  erase(id);
}

void Mux::release_window(const ReceiveCredit& receive) {
  window_pool_bytes_ +=
      receive.window() - std::min<std::uint64_t>(receive.window(), ours_.stream_window_bytes_min);
}

void Mux::erase(StreamId id) {
  const Stream& gone = stream(id);
  if (!lingering_.contains(id)) release_window(gone.receive);
  --(gone.opened_by_us ? own_streams_ : peer_streams_);
  streams_.erase(id);
  // Entries in these queues find no stream when their turn comes and are dropped then. Turns
  // do not come while the ring is full, so leftovers are swept before they outnumber the streams.
  const auto sweep = [this](std::deque<StreamId>& ids) {
    if (ids.size() <= 2 * streams_.size() + leftover_ids_max) return;
    std::erase_if(ids, [this](StreamId leftover) { return !has_stream(leftover); });
  };
  sweep(owing_);
  sweep(fresh_);
  sweep(ready_);
}

Output Mux::poll_output(std::size_t room) {
  if (room >= frame_header_bytes + control_payload_bytes_max) {
    auto frame = poll_session_frame();
    if (!frame) frame = poll_owed_frame();
    if (frame) {
      ++counters_.frames_out;
      return *frame;
    }
  }
  if (session_send_.available() == 0 || room < data_room_bytes_min) return NoOutput{};
  if (const auto turn = poll_turn(room)) return *turn;
  return NoOutput{};
}

std::optional<DataTurn> Mux::poll_turn(std::size_t room) {
  for (;;) {
    const bool fresh = !fresh_.empty();
    auto& turns = fresh ? fresh_ : ready_;
    if (turns.empty()) return std::nullopt;
    const StreamId id = turns.front();
    Stream* next = find(id);
    if (next == nullptr || !next->in_ready) {
      turns.pop_front();
      continue;
    }
    const bool sends = next->source_ready && next->send.available() > 0;
    if (sends && next->deficit > 0) return DataTurn{id, turn_bytes(*next, room), fresh};
    turns.pop_front();
    if (!sends && !fresh) {
      next->in_ready = false;
      continue;
    }
    // A fresh stream that has said all joins the others' round and leaves at its end.
    if (next->deficit <= 0) next->deficit += quantum_bytes_;
    ready_.push_back(id);
  }
}

std::uint32_t Mux::turn_bytes(const Stream& sender, std::size_t room) const {
  const std::uint64_t bytes = std::min({sender.send.available(), session_send_.available(),
                                        static_cast<std::uint64_t>(room - frame_header_bytes),
                                        static_cast<std::uint64_t>(sender.deficit),
                                        static_cast<std::uint64_t>(data_payload_bytes_max)});
  return static_cast<std::uint32_t>(bytes);
}

EncodedFrame Mux::data_sent(StreamId id, std::uint32_t bytes) {
  Stream& sender = stream(id);
  XENLANE_ASSERT(bytes > 0 && !sender.finish_wanted);
  sender.send.spend(bytes);
  session_send_.spend(bytes);
  sender.deficit -= bytes;
  count_volume(id, bytes);
  ++counters_.frames_out;
  counters_.data_bytes_out += bytes;
  return encode_frame(DataFrame{id, bytes});
}

std::optional<EncodedFrame> Mux::poll_session_frame() {
  if (pong_to_send_) {
    return encode_frame(PongFrame{*std::exchange(pong_to_send_, std::nullopt)});
  }
  if (ping_to_send_) {
    return encode_frame(PingFrame{*std::exchange(ping_to_send_, std::nullopt)});
  }
  if (const auto limit = session_receive_.poll_update()) {
    return encode_frame(CreditFrame{0, *limit});
  }
  if (!refusals_.empty()) {
    const EncodedFrame frame = encode_frame(refusals_.front());
    refusals_.pop_front();
    --peer_unanswered_;
    return frame;
  }
  if (go_away_to_send_) {
    return encode_frame(GoAwayFrame{*std::exchange(go_away_to_send_, std::nullopt)});
  }
  if (!notices_.empty()) {
    return encode_frame(notices_.extract(notices_.begin()).mapped(), version_);
  }
  return std::nullopt;
}

std::optional<EncodedFrame> Mux::poll_owed_frame() {
  while (!owing_.empty()) {
    const StreamId id = owing_.front();
    Stream* debtor = find(id);
    if (debtor == nullptr || debtor->owed == 0) {
      if (debtor != nullptr) debtor->in_owing = false;
      owing_.pop_front();
      continue;
    }
    if (!debtor->opened_by_us && !debtor->answered) {
      // The answer goes first; accept() puts the stream back in line with whatever it owes by then.
      debtor->in_owing = false;
      owing_.pop_front();
      continue;
    }
    auto frame = take_owed(*debtor);
    if (debtor->owed == 0) {
      debtor->in_owing = false;
      owing_.pop_front();
    }
    erase_if_done(id);
    if (frame) return frame;
  }
  return std::nullopt;
}

std::optional<EncodedFrame> Mux::take_owed(Stream& debtor) {
  const auto take = [&debtor](Owed what) {
    if (!debtor.owes(what)) return false;
    debtor.owed &= static_cast<std::uint8_t>(~static_cast<std::uint8_t>(what));
    return true;
  };
  if (take(Owed::open)) {
    return encode_frame(OpenFrame{debtor.id, debtor.shape, debtor.kind,
                                  std::exchange(debtor.open_name, {}), debtor.caller_uid},
                        version_);
  }
  if (take(Owed::accept)) {
    --peer_unanswered_;
    return encode_frame(AcceptFrame{debtor.id});
  }
  if (take(Owed::reset)) {
    debtor.owed = 0;
    const auto frame = encode_frame(ResetFrame{debtor.id, debtor.reset_error});
    debtor.finish_sent = debtor.finish_received = true;
    // One of ours that nobody answered yet stays until the answer comes: it is owed and counted.
    debtor.abandoned = !debtor.answered;
    return frame;
  }
  if (take(Owed::credit)) {
    const auto limit = debtor.receive.poll_update();
    if (limit && !debtor.finish_received && !debtor.discarding) {
      return encode_frame(CreditFrame{debtor.id, *limit});
    }
    return std::nullopt;
  }
  if (take(Owed::finish)) {
    debtor.finish_sent = true;
    return encode_frame(FinishFrame{debtor.id, debtor.send.sent()});
  }
  if (take(Owed::stop_sending)) {
    if (debtor.finish_received) return std::nullopt;
    return encode_frame(StopSendingFrame{debtor.id, debtor.stop_error});
  }
  return std::nullopt;
}

}  // namespace xenlane::bridge

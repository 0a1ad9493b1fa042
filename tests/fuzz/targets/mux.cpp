// The mux between a peer without manners and applications with all of theirs. The input is a
// program of what either does: frames well formed, nearly so, or not at all, arriving in pieces;
// streams opened, answered, read, finished, reset; room on the ring. A monitor (mux_monitor.hpp)
// holds both directions against the protocol, and this file what the mux keeps: never more than its
// limits, and nothing once all is over.
#include "bridge/mux/mux.hpp"

#include "tests/fuzz/input.hpp"
#include "tests/fuzz/mux_monitor.hpp"

namespace xenlane::fuzz {

void fuzz_mux(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

constexpr std::size_t big_room = 80'000;
/// As far as an id may come after the last.
constexpr StreamId far_away = 0x7ffffffe;

/// What the application has of one stream. It forgets a stream that was reset or refused.
struct Held {
  bool asked = false;  ///< of the peer's, and not answered yet
  bool peer_finished = false;
  std::uint64_t bytes = 0;
};

/// What a loaded configuration could say.
MuxLimits any_own_limits(Input& choices) {
  MuxLimits limits;
  limits.streams_max = 1 + choices.below(5);
  limits.open_backlog_max = 1 + choices.below(4);
  limits.stream_window_bytes_min = 1 + choices.below(2000);
  limits.stream_window_bytes_max = limits.stream_window_bytes_min * (1 + choices.below(8));
  limits.session_window_bytes = 2 * limits.streams_max * limits.stream_window_bytes_min +
                                limits.stream_window_bytes_max + choices.below(4000);
  return limits;
}

/// What a handshake could say.
MuxLimits any_limits_of_peer(Input& choices) {
  MuxLimits limits;
  limits.streams_max = choices.below(8);
  limits.open_backlog_max = choices.below(8);
  limits.stream_window_bytes_min = 1 + choices.below(3000);
  limits.stream_window_bytes_max = limits.stream_window_bytes_min;
  limits.session_window_bytes = 1 + choices.below(20'000);
  return limits;
}

class MuxProgram {
 public:
  explicit MuxProgram(Input choices)
      : choices_(choices),
        role_(choices_.flag() ? Role::host : Role::guest),
        ours_(any_own_limits(choices_)),
        theirs_(any_limits_of_peer(choices_)),
        mux_(role_, ours_, theirs_),
        monitor_(role_, ours_, theirs_) {}

  void run() {
    while (!choices_.empty() && !violated_) {
      const auto operation = choices_.below(16);
      if (operation < 7) {
        speak(operation);
      } else {
        operate(operation);
      }
      check();
    }
    if (!violated_ && bring_to_an_end()) expect_nothing_left();
  }

 private:
  void speak(std::uint32_t operation);
  void operate(std::uint32_t operation);
  void operate_on(StreamId id, Held& held);
  Frame any_frame();
  Frame any_frame_without_effect();
  StreamId any_id();
  void send(const Frame& frame, bool spoil);
  void arrive(std::size_t count, std::size_t split);
  void note_refusals();
  void handle(const InputEvent& event);
  void take_chunk(const Chunk& chunk);
  void forget(StreamId id);
  void deliver(StreamId id, Held& held, std::uint64_t bytes);
  bool poll(std::size_t room);
  void flush() {
    while (poll(big_room)) {
    }
  }
  void check() const;
  bool bring_to_an_end();
  void expect_nothing_left();

  Input choices_;
  Role role_;
  MuxLimits ours_;
  MuxLimits theirs_;
  Mux mux_;
  MuxMonitor monitor_;
  std::map<StreamId, Held> app_;
  std::vector<std::byte> inbox_;    ///< said by the peer and not taken yet
  std::uint32_t payload_left_ = 0;  ///< of the DATA frame whose header was taken last
  StreamId last_peer_id_ = 0;
  bool violated_ = false;
};

// --- the peer ---------------------------------------------------------------------------------

StreamId MuxProgram::any_id() {
  switch (choices_.below(7)) {
    case 0:
      return choices_.take<StreamId>();
    case 1:
      return last_peer_id_ = last_peer_id_ + far_away;
    case 2:
      last_peer_id_ += last_peer_id_ == 0 && role_ == Role::host ? 1 : 2;
      return last_peer_id_;
    case 3: {  // perhaps one that is over but for its reader
      if (app_.empty()) return last_peer_id_;
      const auto which = choices_.below(static_cast<std::uint32_t>(app_.size()));
      return last_peer_id_ = std::next(app_.begin(), which)->first;
    }
    default: {
      const auto& streams = monitor_.streams();
      if (streams.empty()) return last_peer_id_;
      const auto which = choices_.below(static_cast<std::uint32_t>(streams.size()));
      return std::next(streams.begin(), which)->first;
    }
  }
}

Frame MuxProgram::any_frame_without_effect() {
  switch (choices_.below(4)) {
    case 0:
      return GoAwayFrame{"bye"};
    case 1:
      return PongFrame{1};
    case 2:
      return LaneWishFrame{static_cast<LaneWish>(choices_.below(3))};
    default:
      return LeaveFrame{choices_.below(3)};
  }
}

Frame MuxProgram::any_frame() {
  const auto type = choices_.below(14);
  const StreamId id = any_id();
  const auto seen = monitor_.streams().find(id);
  const bool is_known = seen != monitor_.streams().end();
  const auto error = static_cast<StreamError>(1 + choices_.below(4));
  switch (type) {
    case 0:
    case 1:
      return OpenFrame{id, EndShape::service, SocketKind::stream, "org.example.test", 0};
    case 2:
      return AcceptFrame{id};
    case 3:
      return RefuseFrame{id, 111, "no"};
    case 4:
      return CreditFrame{choices_.flag() ? id : 0, choices_.take<std::uint16_t>()};
    case 5:
      return CreditFrame{choices_.flag() ? id : 0, choices_.take<std::uint64_t>()};
    case 6:  // mostly the true size
      return FinishFrame{id, (is_known ? seen->second.data_in : 0) + choices_.below(8) / 7};
    case 7:
      return StopSendingFrame{id, error};
    case 8:
      return ResetFrame{id, error};
    case 9:
      return PingFrame{choices_.take<std::uint8_t>()};
    case 10:
      return any_frame_without_effect();
    case 11:  // all that the stream may send
      return DataFrame{id, static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
                               is_known ? seen->second.limit_out - seen->second.data_in : 0, 1,
                               data_payload_bytes_max))};
    default:
      return DataFrame{id, 1 + choices_.below(1000)};
  }
}

void MuxProgram::send(const Frame& frame, bool spoil) {
  EncodedFrame encoded = encode_frame(frame);
  if (spoil) encoded.bytes[choices_.below(12)] ^= std::byte{choices_.take<std::uint8_t>()};
  inbox_.insert(inbox_.end(), encoded.view().begin(), encoded.view().end());
  if (const auto* data = std::get_if<DataFrame>(&frame)) {
    inbox_.resize(inbox_.size() + data->size);
  }
}

void MuxProgram::speak(std::uint32_t operation) {
  if (operation == 0) {
    const auto raw = choices_.piece(1 + choices_.below(40));
    inbox_.insert(inbox_.end(), raw.begin(), raw.end());
  } else {
    send(any_frame(), operation == 1);
  }
  const bool whole = choices_.below(4) != 0;
  arrive(whole ? inbox_.size() : choices_.below(3000), choices_.below(300));
}

/// Shows the mux the first bytes of what was said, in two spans of exactly their sizes.
void MuxProgram::arrive(std::size_t count, std::size_t split) {
  count = std::min(count, inbox_.size());
  split = std::min(split, count);
  const auto at = [this](std::size_t offset) {
    return inbox_.begin() + static_cast<std::ptrdiff_t>(offset);
  };
  const std::vector<std::byte> first(at(0), at(split));
  const std::vector<std::byte> second(at(split), at(count));
  const transport::ReadableSpans all{first, second};
  std::size_t used = 0;
  while (!violated_) {
    note_refusals();
    const auto rest = all.slice(used, count - used);
    const InputStep step = mux_.handle_input(rest);
    FUZZ_CHECK(step.consumed <= rest.size());
    violated_ = std::holds_alternative<Violation>(step.event);
    if (step.consumed > 0 && !violated_) {
      const Bytes frame(&*at(used), step.consumed);
      const auto header = decode_header(frame.first<frame_header_bytes>());
      if (header->type == FrameType::data) payload_left_ = header->payload_bytes;
      monitor_.took(*decode_frame(*header, frame.subspan(frame_header_bytes)));
    }
    used += step.consumed;
    if (const auto* chunk = std::get_if<Chunk>(&step.event)) {
      FUZZ_CHECK(chunk->size > 0 && chunk->size <= rest.size());
      used += chunk->size;
      take_chunk(*chunk);
    } else {
      handle(step.event);
      if (step.consumed == 0) break;
    }
  }
  inbox_.erase(at(0), at(used));
}

/// The mux has nothing more of a stream that it refuses, but has not said so yet.
void MuxProgram::note_refusals() {
  for (const auto& [id, seen] : monitor_.streams()) {
    if (!seen.answered && !monitor_.is_own(id) && !mux_.has_stream(id)) {
      monitor_.stopped_reading(id);
    }
  }
}

void MuxProgram::take_chunk(const Chunk& chunk) {
  FUZZ_CHECK(chunk.size <= payload_left_);
  payload_left_ -= chunk.size;
  const auto found = app_.find(chunk.id);
  if (found == app_.end()) {
    mux_.delivered(chunk.id, chunk.size);
    return;
  }
  FUZZ_CHECK(!found->second.peer_finished);
  found->second.bytes += chunk.size;
}

// --- the applications -------------------------------------------------------------------------

void MuxProgram::deliver(StreamId id, Held& held, std::uint64_t bytes) {
  if (bytes == 0) return;
  held.bytes -= bytes;
  if (const auto window = mux_.delivered(id, bytes)) {
    FUZZ_CHECK(*window <= ours_.stream_window_bytes_max);
  }
}

void MuxProgram::forget(StreamId id) {
  const auto found = app_.find(id);
  if (found == app_.end()) return;
  deliver(id, found->second, found->second.bytes);
  app_.erase(found);
}

void MuxProgram::handle(const InputEvent& event) {
  if (const auto* open = std::get_if<OpenRequested>(&event)) {
    // A stream whose bytes an application still has is not to be mistaken for another.
    FUZZ_CHECK(!app_.contains(open->id) || app_[open->id].bytes == 0);
    FUZZ_CHECK(mux_.has_stream(open->id) && !monitor_.is_own(open->id));
    app_[open->id] = Held{true, false, 0};
  } else if (const auto* accepted = std::get_if<Accepted>(&event)) {
    FUZZ_CHECK(app_.contains(accepted->id));
  } else if (const auto* refused = std::get_if<Refused>(&event)) {
    FUZZ_CHECK(app_.contains(refused->id));
    forget(refused->id);
  } else if (const auto* finished = std::get_if<PeerFinished>(&event)) {
    FUZZ_CHECK(app_.contains(finished->id) && !app_[finished->id].peer_finished);
    app_[finished->id].peer_finished = true;
  } else if (const auto* reset = std::get_if<PeerReset>(&event)) {
    FUZZ_CHECK(app_.contains(reset->id));
    forget(reset->id);
  } else if (const auto* violation = std::get_if<Violation>(&event)) {
    FUZZ_CHECK(is_printable(violation->text));
    FUZZ_CHECK(violation->text.find("(protocol section ") != std::string::npos);
  }
}

void MuxProgram::operate_on(StreamId id, Held& held) {
  const auto operation = choices_.below(8);
  if (operation == 0) return deliver(id, held, held.bytes);
  if (operation == 1) {
    const auto part = choices_.below(static_cast<std::uint32_t>(held.bytes) + 1);
    return deliver(id, held, part);
  }
  if (!mux_.has_stream(id)) return;
  switch (operation) {
    case 2:
    case 3:
      if (!held.asked) return mux_.source_ready(id);
      held.asked = false;
      return mux_.accept(id);
    case 4:
      return mux_.source_ready(id);
    case 5:
      return mux_.finish(id);
    case 6:
      mux_.stop_sending(id, StreamError::cancelled);
      monitor_.stopped_reading(id);
      return deliver(id, held, held.bytes);
    default:
      if (held.asked && choices_.flag()) {
        mux_.refuse(id, 111, "not now");
      } else {
        mux_.reset(id, StreamError::broken);
        monitor_.stopped_reading(id);
      }
      return forget(id);
  }
}

void MuxProgram::operate(std::uint32_t operation) {
  if (operation < 9) {
    if (mux_.can_open()) app_[mux_.open(EndShape::service, "org.example.test")] = {};
  } else if (operation < 12) {
    poll(choices_.flag() ? big_room : choices_.below(5000));
  } else if (operation < 15) {
    if (app_.empty()) return;
    const auto which = choices_.below(static_cast<std::uint32_t>(app_.size()));
    const auto found = std::next(app_.begin(), which);
    const StreamId id = found->first;
    operate_on(id, found->second);
    const auto left = app_.find(id);
    if (left != app_.end() && left->second.bytes == 0 && !mux_.has_stream(id)) app_.erase(left);
  } else if (choices_.below(8) == 0) {
    mux_.go_away("enough");
  } else {
    const auto nonce = choices_.take<std::uint8_t>();
    mux_.ping(nonce);
    monitor_.ping_asked(nonce);
  }
}

/// One output into that much room. True when there was any.
bool MuxProgram::poll(std::size_t room) {
  const bool announced = mux_.has_output();
  const Output output = mux_.poll_output(room);
  if (std::holds_alternative<NoOutput>(output)) return false;
  FUZZ_CHECK(announced);
  if (const auto* control = std::get_if<ControlOutput>(&output)) {
    FUZZ_CHECK(control->size <= room);
    const auto header = decode_header(control->view().first<frame_header_bytes>());
    FUZZ_CHECK(header && header->payload_bytes == control->size - frame_header_bytes);
    const auto frame = decode_frame(*header, control->view().subspan(frame_header_bytes));
    FUZZ_CHECK(frame);
    monitor_.said(*frame);
    return true;
  }
  const auto& turn = std::get<DataTurn>(output);
  FUZZ_CHECK(turn.bytes_max > 0 && turn.bytes_max <= data_payload_bytes_max);
  FUZZ_CHECK(turn.bytes_max + frame_header_bytes <= room);
  if (choices_.below(4) == 0) {
    mux_.source_drained(turn.id);
    return true;
  }
  const std::uint32_t bytes = 1 + choices_.below(turn.bytes_max);
  const EncodedFrame header = mux_.data_sent(turn.id, bytes);
  FUZZ_CHECK(header.size == frame_header_bytes);
  monitor_.said(DataFrame{turn.id, bytes});
  return true;
}

// --- what must hold ---------------------------------------------------------------------------

void MuxProgram::check() const {
  if (violated_) return;
  std::uint64_t held = payload_left_;
  for (const auto& [id, stream] : app_) held += stream.bytes;
  FUZZ_CHECK(mux_.held_bytes() == held && held <= ours_.session_window_bytes);
  const std::size_t streams_max =
      std::size_t{ours_.streams_max} + std::min(ours_.streams_max, theirs_.streams_max);
  FUZZ_CHECK(mux_.stream_count() <= streams_max);
  FUZZ_CHECK(mux_.unanswered() <= 2 * std::size_t{ours_.open_backlog_max});
  // Each of the three queues of ids may have its leftovers.
  FUZZ_CHECK(mux_.queued() <= 3 * (2 * streams_max + 64) + streams_max + ours_.open_backlog_max);
}

/// Both sides give up all they have. False when the peer has stopped within a frame.
bool MuxProgram::bring_to_an_end() {
  arrive(inbox_.size(), 0);
  if (!violated_) inbox_.resize(inbox_.size() + payload_left_);
  arrive(inbox_.size(), 0);
  if (violated_ || !inbox_.empty()) return false;
  send(CreditFrame{0, ~std::uint64_t{0}}, false);
  arrive(inbox_.size(), 0);
  while (!app_.empty()) {
    const StreamId id = app_.begin()->first;
    if (mux_.has_stream(id)) mux_.reset(id, StreamError::shutting_down);
    forget(id);
  }
  flush();
  // What is left are its own that it has reset before any answer.
  const auto left = monitor_.streams();
  for (const auto& [id, seen] : left) {
    FUZZ_CHECK(monitor_.is_own(id) && seen.reset_out);
    send(RefuseFrame{id, 125, "given up"}, false);
    arrive(inbox_.size(), 0);
  }
  flush();
  FUZZ_CHECK(!violated_);
  return true;
}

void MuxProgram::expect_nothing_left() {
  FUZZ_CHECK(monitor_.streams().empty());
  FUZZ_CHECK(mux_.stream_count() == 0 && mux_.unanswered() == 0);
  FUZZ_CHECK(mux_.held_bytes() == 0);
  FUZZ_CHECK(mux_.queued() == 0);
  FUZZ_CHECK(!mux_.has_output());
  // And the peer may send again.
  FUZZ_CHECK(monitor_.room_in() >= ours_.session_window_bytes / 2);
}

}  // namespace

void fuzz_mux(Bytes input) {
  MuxProgram(Input(input)).run();
}

}  // namespace xenlane::fuzz

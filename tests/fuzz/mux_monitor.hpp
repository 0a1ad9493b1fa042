// An onlooker on the wire beside a mux under test. It knows docs/protocol.md sections 5 to 7 and
// nothing of the mux: whatever the mux says must be allowed where the session stands, and whatever
// it takes from its peer without calling it a violation must have been allowed too.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <set>

#include "bridge/wire/frame.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

using bridge::StreamId;

/// One stream as the frames on the wire have made it; it is gone from the map when it is over.
struct SeenStream {
  bool answered = false;
  bool finish_out = false;
  bool finish_in = false;
  bool stop_in = false;
  bool reset_out = false;  ///< of one of its own, which nobody has answered yet
  bool reset_in = false;   ///< of one of the peer's, which has not been answered yet
  std::uint64_t data_out = 0;
  std::uint64_t data_in = 0;
  std::uint64_t limit_out = 0;  ///< up to where it let the peer send
  std::uint64_t limit_in = 0;   ///< up to where the peer lets it send
};

class MuxMonitor {
 public:
  MuxMonitor(bridge::Role role, const bridge::MuxLimits& ours, const bridge::MuxLimits& theirs)
      : own_parity_(role == bridge::Role::guest ? 1 : 0),
        ours_(ours),
        theirs_(theirs),
        session_limit_out_(ours.session_window_bytes),
        session_limit_in_(theirs.session_window_bytes) {}

  const std::map<StreamId, SeenStream>& streams() const { return streams_; }
  bool is_own(StreamId id) const { return id % 2 == own_parity_; }
  /// What the peer may still send in all.
  std::uint64_t room_in() const { return session_limit_out_ - session_in_; }
  /// Nobody reads this stream any more, or its refusal is on its way. What comes is thrown away
  /// and no longer held against the stream so strictly.
  void stopped_reading(StreamId id) { unread_.insert(id); }
  void ping_asked(std::uint64_t nonce) { ping_asked_ = nonce; }

  /// The mux has taken this from its peer.
  void took(const bridge::Frame& frame) {
    std::visit([this](const auto& typed) { in(typed); }, frame);
    count_streams();
  }
  /// The mux has said this.
  void said(const bridge::Frame& frame) {
    std::visit([this](const auto& typed) { out(typed); }, frame);
    count_streams();
  }

 private:
  SeenStream* find(StreamId id) {
    const auto found = streams_.find(id);
    return found == streams_.end() ? nullptr : &found->second;
  }
  SeenStream& get(StreamId id) {
    SeenStream* seen = find(id);
    FUZZ_CHECK(seen != nullptr);
    return *seen;
  }

  void count_streams() const {
    std::uint32_t answered[2] = {};
    std::uint32_t unanswered[2] = {};
    for (const auto& [id, seen] : streams_) ++(seen.answered ? answered : unanswered)[is_own(id)];
    // One of the peer's whose refusal is on its way is no longer counted as open by the mux.
    FUZZ_CHECK(answered[0] <= ours_.streams_max && unanswered[0] <= ours_.open_backlog_max);
    FUZZ_CHECK(answered[1] + unanswered[1] <= theirs_.streams_max);
    FUZZ_CHECK(unanswered[1] <= theirs_.open_backlog_max);
  }

  void open(StreamId id) {
    FUZZ_CHECK(!streams_.contains(id));
    SeenStream& seen = streams_[id];
    seen.limit_out = ours_.stream_window_bytes_min;
    seen.limit_in = theirs_.stream_window_bytes_min;
  }
  void forget_if_finished(StreamId id) {
    const SeenStream& seen = get(id);
    if (seen.answered && seen.finish_in && seen.finish_out) streams_.erase(id);
  }

  // --- what the peer says
  void in(const bridge::OpenFrame& frame) {
    FUZZ_CHECK(!is_own(frame.id));
    unread_.erase(frame.id);
    open(frame.id);
  }
  void in(const bridge::AcceptFrame& frame) {
    SeenStream& seen = get(frame.id);
    FUZZ_CHECK(is_own(frame.id) && !seen.answered);
    seen.answered = true;
    if (seen.reset_out)
      streams_.erase(frame.id);
    else
      forget_if_finished(frame.id);
  }
  void in(const bridge::RefuseFrame& frame) {
    FUZZ_CHECK(is_own(frame.id) && !get(frame.id).answered);
    streams_.erase(frame.id);
  }
  void in(const bridge::DataFrame& frame) {
    session_in_ += frame.size;
    FUZZ_CHECK(session_in_ <= session_limit_out_);
    SeenStream* seen = find(frame.id);
    if (seen == nullptr || seen->reset_out || seen->reset_in) return;
    seen->data_in += frame.size;
    if (unread_.contains(frame.id)) return;
    FUZZ_CHECK(!seen->finish_in && (!is_own(frame.id) || seen->answered));
    FUZZ_CHECK(seen->data_in <= seen->limit_out);
  }
  void in(const bridge::CreditFrame& frame) {
    SeenStream* seen = find(frame.id);
    std::uint64_t* limit = seen == nullptr ? nullptr : &seen->limit_in;
    if (frame.id == 0) limit = &session_limit_in_;
    if (limit != nullptr) *limit = std::max(*limit, frame.limit);
  }
  void in(const bridge::FinishFrame& frame) {
    SeenStream* seen = find(frame.id);
    if (seen == nullptr || seen->reset_out || seen->reset_in) return;
    if (!unread_.contains(frame.id)) {
      FUZZ_CHECK(!seen->finish_in && seen->data_in == frame.size);
      FUZZ_CHECK(!is_own(frame.id) || seen->answered);
    }
    seen->finish_in = true;
    forget_if_finished(frame.id);
  }
  void in(const bridge::StopSendingFrame& frame) {
    if (SeenStream* seen = find(frame.id)) seen->stop_in = true;
  }
  void in(const bridge::ResetFrame& frame) {
    SeenStream* seen = find(frame.id);
    if (seen == nullptr || seen->reset_out) return;
    FUZZ_CHECK(!is_own(frame.id) || seen->answered);
    // It is owed an answer all the same.
    if (seen->answered)
      streams_.erase(frame.id);
    else
      seen->reset_in = true;
  }
  void in(const bridge::PingFrame& frame) { ping_in_ = frame.nonce; }
  void in(const bridge::PongFrame&) {}
  void in(const bridge::GoAwayFrame&) {}
  void in(const bridge::LaneWishFrame&) {}
  void in(const bridge::LeaveFrame&) {}
  void in(const bridge::NoticeFrame&) {}

  // --- what the mux says
  SeenStream& open_for_output(StreamId id) {
    SeenStream& seen = get(id);
    FUZZ_CHECK(!seen.reset_out && !seen.reset_in);
    return seen;
  }
  void out(const bridge::OpenFrame& frame) {
    FUZZ_CHECK(is_own(frame.id) && frame.id != 0 && !frame.name.empty());
    open(frame.id);
  }
  void out(const bridge::AcceptFrame& frame) {
    SeenStream& seen = open_for_output(frame.id);
    FUZZ_CHECK(!is_own(frame.id) && !seen.answered);
    seen.answered = true;
  }
  void out(const bridge::RefuseFrame& frame) {
    FUZZ_CHECK(!is_own(frame.id) && !get(frame.id).answered);
    streams_.erase(frame.id);
  }
  void out(const bridge::DataFrame& frame) {
    SeenStream& seen = open_for_output(frame.id);
    FUZZ_CHECK(!seen.finish_out && !seen.stop_in && (is_own(frame.id) || seen.answered));
    seen.data_out += frame.size;
    session_out_ += frame.size;
    FUZZ_CHECK(seen.data_out <= seen.limit_in);
    FUZZ_CHECK(session_out_ <= session_limit_in_);
  }
  void out(const bridge::CreditFrame& frame) {
    if (frame.id == 0) {
      FUZZ_CHECK(frame.limit > session_limit_out_);
      FUZZ_CHECK(frame.limit - session_in_ <= ours_.session_window_bytes);
      session_limit_out_ = frame.limit;
      return;
    }
    SeenStream& seen = open_for_output(frame.id);
    FUZZ_CHECK(!seen.finish_in && frame.limit > seen.limit_out);
    FUZZ_CHECK(frame.limit - seen.data_in <= ours_.stream_window_bytes_max);
    seen.limit_out = frame.limit;
  }
  void out(const bridge::FinishFrame& frame) {
    SeenStream& seen = open_for_output(frame.id);
    FUZZ_CHECK(!seen.finish_out && (is_own(frame.id) || seen.answered));
    FUZZ_CHECK(frame.size == seen.data_out);
    seen.finish_out = true;
    forget_if_finished(frame.id);
  }
  void out(const bridge::StopSendingFrame& frame) {
    FUZZ_CHECK(!open_for_output(frame.id).finish_in);
  }
  void out(const bridge::ResetFrame& frame) {
    SeenStream& seen = open_for_output(frame.id);
    FUZZ_CHECK(is_own(frame.id) || seen.answered);
    if (seen.answered)
      streams_.erase(frame.id);
    else
      seen.reset_out = true;
  }
  void out(const bridge::PingFrame& frame) { FUZZ_CHECK(frame.nonce == ping_asked_); }
  void out(const bridge::PongFrame& frame) {
    FUZZ_CHECK(frame.nonce == ping_in_);
    ping_in_.reset();
  }
  void out(const bridge::GoAwayFrame&) {}
  // What is said of the lane is the driver's to say.
  void out(const bridge::LaneWishFrame&) { FUZZ_CHECK(false); }
  void out(const bridge::LeaveFrame&) { FUZZ_CHECK(false); }
  // Nobody here has channels to tell of.
  void out(const bridge::NoticeFrame&) { FUZZ_CHECK(false); }

  StreamId own_parity_;
  bridge::MuxLimits ours_;
  bridge::MuxLimits theirs_;
  std::map<StreamId, SeenStream> streams_;
  std::set<StreamId> unread_;
  std::uint64_t session_in_ = 0;
  std::uint64_t session_out_ = 0;
  std::uint64_t session_limit_out_;
  std::uint64_t session_limit_in_;
  std::optional<std::uint64_t> ping_in_;
  std::optional<std::uint64_t> ping_asked_;
};

}  // namespace xenlane::fuzz

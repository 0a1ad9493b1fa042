// A guest that can speak the protocol, and therefore knows how to break it: an open lane, the
// handshake and frames by hand. The codec is the product's own, for the frames that are right;
// those that are not are put together here byte by byte.
#pragma once

#include <map>
#include <optional>
#include <string_view>

#include "bridge/wire/frame.hpp"
#include "bridge/wire/hello.hpp"
#include "tests/hostile/lane.hpp"

namespace xenlane::hostile {

using bridge::FrameType;
using bridge::Greeting;
using bridge::StreamId;
using Bytes = std::vector<std::byte>;

/// A frame with whatever its header says and whatever stands behind it.
Bytes raw_frame(std::uint32_t type, std::uint32_t size, StreamId id, std::size_t behind = 0);
Bytes open_frame(StreamId id, std::string_view name, std::uint8_t shape = 0, std::uint8_t kind = 0);
Bytes data_frame(StreamId id, std::string_view text);
Bytes encoded(const bridge::Frame& frame);
Bytes& operator+=(Bytes& to, const Bytes& more);
Bytes operator+(Bytes front, const Bytes& behind);

/// What an honest guest with modest wishes says on this lane.
Greeting modest_greeting(std::uint64_t epoch);
Bytes hello(const Greeting& greeting);
/// Overwrites part of a message.
void overwrite(Bytes& message, std::size_t offset, std::uint64_t value, std::size_t width);

class Talk {
 public:
  /// Offers a lane and waits for the host to attach; says nothing yet.
  explicit Talk(Store& store, const LaneMaking& making = {});

  Lane& lane() { return lane_; }
  /// HELLO, and WELCOME awaited.
  void shake_hands() { shake_hands(modest_greeting(lane_.epoch())); }
  void shake_hands(const Greeting& greeting);
  void await_welcome();
  /// What the host said; once hands were shaken.
  const Greeting& welcome() const { return welcome_; }
  /// Session bytes of the host's that were read on this lane.
  std::uint64_t consumed() const { return consumed_; }
  /// The host has said LEAVE.
  bool left() const { return left_; }
  /// What the host allows; once hands were shaken.
  const bridge::MuxLimits& allowed() const { return allowed_; }

  void send(const Bytes& bytes) { lane_.send(bytes); }
  void send(const bridge::Frame& frame) { lane_.send(encoded(frame)); }

  /// Reads what came, keeping account of answers, credit and data; true when it was anything.
  bool read_on();
  /// Reads until it is so; throws when the host has ended the session instead.
  void read_until(const std::string& what, const std::function<bool()>& condition);
  /// The host still answers: PING, PONG, and everything before it has been read.
  void expect_pong();
  /// Opens a stream to a service and waits for the answer: 0 is ACCEPT, else REFUSE's error.
  std::uint16_t open(StreamId id, std::string_view name);
  /// Asks for it without waiting.
  StreamId next_id() { return next_id_ += 2; }
  /// Sends what the host's credit for the stream lets it, up to `bytes`; says how much.
  std::uint64_t send_data(StreamId id, std::uint64_t bytes);
  /// Lets the host send on without end.
  void give_credit(StreamId id);

  std::uint64_t received(StreamId id) { return streams_[id].received; }
  bool finished(StreamId id) { return streams_[id].finished; }
  std::optional<std::uint16_t> answer(StreamId id) { return streams_[id].answer; }
  std::size_t answers() const { return answers_; }
  /// The last stream that the host opened.
  std::optional<StreamId> opened_by_host() const { return opened_by_host_; }

 private:
  struct Stream {
    std::uint64_t received = 0;
    std::uint64_t sent = 0;
    std::uint64_t may_send = 0;
    bool finished = false;
    std::optional<std::uint16_t> answer;
  };

  void handle(const bridge::Frame& frame);
  Stream& stream(StreamId id);

  Lane lane_;
  Greeting welcome_;
  bridge::MuxLimits allowed_;
  Bytes unread_;
  std::uint64_t consumed_ = 0;
  bool left_ = false;
  std::map<StreamId, Stream> streams_;
  std::uint64_t session_sent_ = 0;
  std::uint64_t session_may_send_ = 0;
  std::uint64_t pong_ = 0;
  std::uint64_t pings_ = 0;
  std::size_t answers_ = 0;
  StreamId next_id_ = static_cast<StreamId>(-1);
  std::optional<StreamId> opened_by_host_;
};

/// One honest session: an echo of so many bytes, and a proper end of it.
void honest_session(Store& store);

}  // namespace xenlane::hostile

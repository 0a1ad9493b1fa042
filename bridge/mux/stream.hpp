// One stream's state in the mux. A plain value: the rules that move it are in mux.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "bridge/mux/credit.hpp"
#include "bridge/wire/frame.hpp"

namespace xenlane::bridge {

/// Control frames that a stream still owes the peer, sent in this order. A set, not a queue: owing
/// the same twice is owing it once.
enum class Owed : std::uint8_t {
  open = 1 << 0,
  accept = 1 << 1,
  credit = 1 << 2,
  finish = 1 << 3,
  stop_sending = 1 << 4,
  reset = 1 << 5,
};

struct Stream {
  Stream(StreamId stream_id, bool ours, std::uint64_t send_window, std::uint64_t receive_window)
      : id(stream_id), opened_by_us(ours), send(send_window), receive(receive_window) {}

  StreamId id;
  bool opened_by_us;
  bool answered = false;       ///< ACCEPT sent or received
  bool abandoned = false;      ///< reset by us before the answer came; kept until it comes
  bool finish_wanted = false;  ///< the application's side has ended
  bool finish_sent = false;
  bool finish_received = false;
  bool discarding = false;  ///< we asked the peer to stop; what still comes is thrown away
  bool source_ready = false;
  bool in_ready = false;
  bool in_owing = false;
  std::uint8_t owed = 0;
  StreamError stop_error = StreamError::cancelled;
  StreamError reset_error = StreamError::cancelled;
  EndShape shape = EndShape::service;
  SocketKind kind = SocketKind::stream;
  std::uint32_t caller_uid = uid_unknown;
  std::int64_t deficit = 0;  ///< bytes this stream may still send in its turn
  std::string open_name;     ///< until OPEN is sent
  bool weightless = false;   ///< its volume asks for no faster lane
  std::uint64_t period = 0;  ///< in which `volume` was counted
  std::uint64_t volume = 0;  ///< payload bytes, both ways
  SendCredit send;
  ReceiveCredit receive;

  bool owes(Owed what) const { return (owed & static_cast<std::uint8_t>(what)) != 0; }
};

}  // namespace xenlane::bridge

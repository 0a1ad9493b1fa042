#include "bridge/wire/frame.hpp"

#include <algorithm>

#include "bridge/wire/bytes.hpp"
#include "transport/base/assert.hpp"

namespace xenlane::bridge {

namespace {

constexpr unsigned type_shift = 24;
constexpr std::uint32_t size_mask = (1U << type_shift) - 1;

/// From this version on OPEN tells whose connection it is, and there are message sockets.
constexpr std::uint16_t version_with_callers = 3;

/// What payload sizes a type may have, whether it belongs to a stream, and in which versions of the
/// protocol that is so.
struct TypeRule {
  FrameType type;
  std::uint32_t payload_min;
  std::uint32_t payload_max;
  bool on_stream;
  std::uint16_t version_min = protocol_version_min;
  std::uint16_t version_max = protocol_version_max;
};

constexpr std::array type_rules{
    TypeRule{FrameType::open, 4 + 1, 4 + channel_name_bytes_max, true, 2, 2},
    TypeRule{FrameType::open, 8 + 1, 8 + channel_name_bytes_max, true, version_with_callers},
    TypeRule{FrameType::accept, 0, 0, true},
    TypeRule{FrameType::refuse, 2, 2 + reason_bytes_max, true},
    TypeRule{FrameType::data, 1, data_payload_bytes_max, true},
    TypeRule{FrameType::credit, 8, 8, true},  // stream 0 too: checked below
    TypeRule{FrameType::finish, 8, 8, true},
    TypeRule{FrameType::stop_sending, 4, 4, true},
    TypeRule{FrameType::reset, 4, 4, true},
    TypeRule{FrameType::ping, 8, 8, false},
    TypeRule{FrameType::pong, 8, 8, false},
    TypeRule{FrameType::go_away, 0, reason_bytes_max, false},
    TypeRule{FrameType::lane_wish, 1, 1, false},
    TypeRule{FrameType::leave, 4, 4, false},
    TypeRule{FrameType::notice, 5 + 1, 5 + channel_name_bytes_max, false, notices_version_min},
};

const TypeRule* rule_of(std::uint8_t type, std::uint16_t version) {
  const auto* found = std::find_if(type_rules.begin(), type_rules.end(), [=](const auto& rule) {
    return static_cast<std::uint8_t>(rule.type) == type && version >= rule.version_min &&
           version <= rule.version_max;
  });
  return found == type_rules.end() ? nullptr : found;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

WireResult<StreamError> stream_error_of(std::uint32_t untrusted_code) {
  const auto highest = static_cast<std::uint32_t>(StreamError::internal);
  if (untrusted_code == 0 || untrusted_code > highest) {
    return WireError{"a stream error code that does not exist"};
  }
  return static_cast<StreamError>(untrusted_code);
}

WireResult<Frame> decode_open(const FrameHeader& header, ByteReader& in, std::uint16_t version) {
  const auto shape = in.get<std::uint8_t>();
  const auto kind = in.get<std::uint8_t>();
  const auto name_bytes = in.get<std::uint16_t>();
  const bool has_caller = version >= version_with_callers;
  const std::uint32_t uid = has_caller ? in.get<std::uint32_t>() : uid_unknown;
  const auto last_kind = has_caller ? SocketKind::seqpacket : SocketKind::stream;
  if (shape > static_cast<std::uint8_t>(EndShape::port)) return WireError{"OPEN: unknown shape"};
  if (kind > static_cast<std::uint8_t>(last_kind)) {
    return WireError{"OPEN: unknown socket kind"};
  }
  if (name_bytes != in.left()) return WireError{"OPEN: name length differs from the payload"};
  return OpenFrame{header.id, static_cast<EndShape>(shape), static_cast<SocketKind>(kind),
                   text_of(in.get(name_bytes)), uid};
}

/// Appends a frame's payload to the writer; one overload each.
struct PayloadEncoder {
  ByteWriter& out;
  std::uint16_t version;

  void operator()(const OpenFrame& frame) const {
    XENLANE_ASSERT(frame.name.size() <= channel_name_bytes_max);
    out.put(static_cast<std::uint8_t>(frame.shape));
    out.put(static_cast<std::uint8_t>(frame.kind));
    out.put(static_cast<std::uint16_t>(frame.name.size()));
    if (version >= version_with_callers) {
      out.put(frame.uid);
    } else {
      XENLANE_ASSERT(frame.kind == SocketKind::stream);
    }
    out.put(bytes_of(frame.name));
  }
  void operator()(const AcceptFrame&) const {}
  void operator()(const RefuseFrame& frame) const {
    out.put(frame.error);
    out.put(bytes_of(std::string_view(frame.reason).substr(0, reason_bytes_max)));
  }
  void operator()(const DataFrame&) const {}
  void operator()(const CreditFrame& frame) const { out.put(frame.limit); }
  void operator()(const FinishFrame& frame) const { out.put(frame.size); }
  void operator()(const StopSendingFrame& frame) const {
    out.put(static_cast<std::uint32_t>(frame.error));
  }
  void operator()(const ResetFrame& frame) const {
    out.put(static_cast<std::uint32_t>(frame.error));
  }
  void operator()(const PingFrame& frame) const { out.put(frame.nonce); }
  void operator()(const PongFrame& frame) const { out.put(frame.nonce); }
  void operator()(const GoAwayFrame& frame) const {
    out.put(bytes_of(std::string_view(frame.reason).substr(0, reason_bytes_max)));
  }
  void operator()(const LaneWishFrame& frame) const {
    out.put(static_cast<std::uint8_t>(frame.wish));
  }
  void operator()(const LeaveFrame& frame) const { out.put(frame.turn); }
  void operator()(const NoticeFrame& frame) const {
    XENLANE_ASSERT(version >= notices_version_min);
    XENLANE_ASSERT(frame.name.size() <= channel_name_bytes_max);
    out.put(static_cast<std::uint8_t>(frame.end));
    out.put(frame.open);
    out.put(bytes_of(frame.name));
  }
};

template <typename F>
concept StreamFrame = requires(const F& frame) {
  frame.id;
};

}  // namespace

std::string_view to_string(SocketKind kind) {
  return kind == SocketKind::seqpacket ? "seqpacket" : "stream";
}

std::string_view to_string(StreamError error) {
  switch (error) {
    case StreamError::cancelled:
      return "cancelled";
    case StreamError::broken:
      return "broken";
    case StreamError::shutting_down:
      return "shutting down";
    case StreamError::internal:
      return "internal";
  }
  return "unknown";
}

std::string_view to_string(LaneWish wish) {
  switch (wish) {
    case LaneWish::none:
      return "none";
    case LaneWish::vchan:
      return "vchan";
    case LaneWish::console:
      return "console";
  }
  return "unknown";
}

std::string_view to_string(NoticedEnd end) {
  switch (end) {
    case NoticedEnd::none:
      return "none";
    case NoticedEnd::listen:
      return "listen";
    case NoticedEnd::dial:
      return "dial";
    case NoticedEnd::port:
      return "port";
  }
  return "unknown";
}

WireResult<FrameHeader> decode_header(std::span<const std::byte, frame_header_bytes> bytes,
                                      std::uint16_t version) {
  const auto word = load_le<std::uint32_t>(bytes.first<4>());
  const auto id = load_le<std::uint32_t>(bytes.last<4>());
  const std::uint32_t size = word & size_mask;
  const TypeRule* rule = rule_of(static_cast<std::uint8_t>(word >> type_shift), version);
  if (rule == nullptr) return WireError{"a frame type that does not exist"};
  if (size < rule->payload_min) return WireError{"a frame shorter than its type allows"};
  if (size > rule->payload_max) return WireError{"a frame longer than its type allows"};
  if (!rule->on_stream && id != 0) return WireError{"a session frame that names a stream"};
  if (rule->on_stream && id == 0 && rule->type != FrameType::credit) {
    return WireError{"a stream frame that names no stream"};
  }
  return FrameHeader{rule->type, size, id};
}

WireResult<Frame> decode_frame(const FrameHeader& header, std::span<const std::byte> payload,
                               std::uint16_t version) {
  ByteReader in(payload);
  switch (header.type) {
    case FrameType::open:
      return decode_open(header, in, version);
    case FrameType::accept:
      return AcceptFrame{header.id};
    case FrameType::refuse: {
      const auto error = in.get<std::uint16_t>();
      if (error == 0) return WireError{"REFUSE: error zero"};
      return RefuseFrame{header.id, error, text_of(in.get(in.left()))};
    }
    case FrameType::data:
      return DataFrame{header.id, header.payload_bytes};
    case FrameType::credit:
      return CreditFrame{header.id, in.get<std::uint64_t>()};
    case FrameType::finish:
      return FinishFrame{header.id, in.get<std::uint64_t>()};
    case FrameType::stop_sending:
    case FrameType::reset: {
      const auto error = stream_error_of(in.get<std::uint32_t>());
      if (!error) return error.error();
      if (header.type == FrameType::reset) return ResetFrame{header.id, *error};
      return StopSendingFrame{header.id, *error};
    }
    case FrameType::ping:
      return PingFrame{in.get<std::uint64_t>()};
    case FrameType::pong:
      return PongFrame{in.get<std::uint64_t>()};
    case FrameType::go_away:
      return GoAwayFrame{text_of(in.get(in.left()))};
    case FrameType::lane_wish: {
      const auto wish = in.get<std::uint8_t>();
      if (wish > static_cast<std::uint8_t>(LaneWish::console)) {
        return WireError{"LANE_WISH: a wish that does not exist"};
      }
      return LaneWishFrame{static_cast<LaneWish>(wish)};
    }
    case FrameType::leave:
      return LeaveFrame{in.get<std::uint32_t>()};
    case FrameType::notice: {
      const auto end = in.get<std::uint8_t>();
      const auto open = in.get<std::uint32_t>();
      if (end > static_cast<std::uint8_t>(NoticedEnd::port)) {
        return WireError{"NOTICE: an end that does not exist"};
      }
      return NoticeFrame{static_cast<NoticedEnd>(end), open, text_of(in.get(in.left()))};
    }
  }
  return WireError{"a frame type that does not exist"};
}

EncodedFrame encode_frame(const Frame& frame, std::uint16_t version) {
  static constexpr std::array types{
      FrameType::open,   FrameType::accept, FrameType::refuse,       FrameType::data,
      FrameType::credit, FrameType::finish, FrameType::stop_sending, FrameType::reset,
      FrameType::ping,   FrameType::pong,   FrameType::go_away,      FrameType::lane_wish,
      FrameType::leave,  FrameType::notice};
  static_assert(types.size() == std::variant_size_v<Frame>);

  EncodedFrame out;
  ByteWriter payload(std::span(out.bytes).subspan(frame_header_bytes));
  std::visit(PayloadEncoder{payload, version}, frame);
  std::size_t size = payload.used();
  if (const auto* data = std::get_if<DataFrame>(&frame)) size = data->size;

  ByteWriter header(out.bytes);
  header.put(static_cast<std::uint32_t>(size) |
             (static_cast<std::uint32_t>(types[frame.index()]) << type_shift));
  header.put(std::visit(
      [](const auto& f) -> StreamId {
        if constexpr (StreamFrame<std::decay_t<decltype(f)>>) return f.id;
        return 0;
      },
      frame));
  out.size = frame_header_bytes + payload.used();
  return out;
}

}  // namespace xenlane::bridge

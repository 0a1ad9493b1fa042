// The frame decoder (docs/protocol.md section 4): what it takes, it gives back byte for byte; and
// every frame that this side can say is one that it would take.
#include "bridge/wire/frame.hpp"

#include "bridge/wire/bytes.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_frame(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

constexpr int frame_types = 14;

std::vector<std::byte> copy_of(Bytes bytes) {
  return {bytes.begin(), bytes.end()};
}

void check_limits(const FrameHeader& header) {
  const bool is_data = header.type == FrameType::data;
  FUZZ_CHECK(header.payload_bytes <=
             (is_data ? data_payload_bytes_max : control_payload_bytes_max));
  const bool of_session = header.type >= FrameType::ping && header.type <= FrameType::notice;
  FUZZ_CHECK(header.type == FrameType::credit || (header.id == 0) == of_session);
}

/// Frames back to back, as they lie in the ring, until one is wrong or not whole.
void decode_stream(Bytes bytes, std::uint16_t version) {
  while (bytes.size() >= frame_header_bytes) {
    const auto raw = copy_of(bytes.first(frame_header_bytes));
    const auto header = decode_header(std::span(raw).first<frame_header_bytes>(), version);
    if (!header) {
      FUZZ_CHECK(is_printable(header.error().text) && !header.error().text.empty());
      return;
    }
    check_limits(*header);
    bytes = bytes.subspan(frame_header_bytes);
    const std::size_t payload_bytes = header->type == FrameType::data ? 0 : header->payload_bytes;
    if (bytes.size() < payload_bytes) return;
    const auto payload = copy_of(bytes.first(payload_bytes));
    bytes = bytes.subspan(payload_bytes);
    const auto frame = decode_frame(*header, payload, version);
    if (!frame) {
      FUZZ_CHECK(is_printable(frame.error().text) && !frame.error().text.empty());
      return;
    }
    auto whole = raw;
    whole.insert(whole.end(), payload.begin(), payload.end());
    FUZZ_CHECK(std::ranges::equal(encode_frame(*frame, version).view(), whole));
  }
}

StreamError any_stream_error(Input& choices) {
  return static_cast<StreamError>(1 + choices.below(4));
}

Frame any_frame(Input& choices) {
  const auto type = choices.below(frame_types);
  const StreamId id = std::max(choices.take<StreamId>(), 1U);
  switch (type) {
    case 0: {
      std::string name = choices.text(1 + choices.below(channel_name_bytes_max));
      if (name.empty()) name = "a";
      const EndShape shape = choices.flag() ? EndShape::port : EndShape::service;
      const SocketKind kind = choices.flag() ? SocketKind::seqpacket : SocketKind::stream;
      return OpenFrame{id, shape, kind, std::move(name), choices.take<std::uint32_t>()};
    }
    case 1:
      return AcceptFrame{id};
    case 2:
      return RefuseFrame{id, std::max<std::uint16_t>(choices.take<std::uint16_t>(), 1),
                         choices.text(choices.below(200))};
    case 3:
      return DataFrame{id, 1 + choices.below(data_payload_bytes_max)};
    case 4:
      return CreditFrame{choices.flag() ? id : 0, choices.take<std::uint64_t>()};
    case 5:
      return FinishFrame{id, choices.take<std::uint64_t>()};
    case 6:
      return StopSendingFrame{id, any_stream_error(choices)};
    case 7:
      return ResetFrame{id, any_stream_error(choices)};
    case 8:
      return PingFrame{choices.take<std::uint64_t>()};
    case 9:
      return PongFrame{choices.take<std::uint64_t>()};
    case 10:
      return GoAwayFrame{choices.text(choices.below(200))};
    case 11:
      return LaneWishFrame{static_cast<LaneWish>(choices.below(3))};
    case 12: {
      std::string name = choices.text(1 + choices.below(channel_name_bytes_max));
      if (name.empty()) name = "a";
      const auto end = static_cast<NoticedEnd>(choices.below(4));
      return NoticeFrame{end, choices.take<std::uint32_t>(), std::move(name)};
    }
    default:
      return LeaveFrame{choices.take<std::uint32_t>()};
  }
}

/// Reasons are cut to what the wire takes.
void cut_reason(Frame& frame) {
  auto* refuse = std::get_if<RefuseFrame>(&frame);
  auto* away = std::get_if<GoAwayFrame>(&frame);
  std::string* reason = refuse != nullptr ? &refuse->reason : nullptr;
  if (away != nullptr) reason = &away->reason;
  if (reason != nullptr && reason->size() > reason_bytes_max) reason->resize(reason_bytes_max);
}

/// What version 2 can say of it.
void cut_to_version_2(Frame& frame) {
  if (std::holds_alternative<NoticeFrame>(frame)) frame = PongFrame{1};
  auto* open = std::get_if<OpenFrame>(&frame);
  if (open == nullptr) return;
  open->kind = SocketKind::stream;
  open->uid = uid_unknown;
}

void encode_any(Input& choices) {
  Frame frame = any_frame(choices);
  const std::uint16_t version = choices.flag() ? 2 : 3;
  if (version == 2) cut_to_version_2(frame);
  const EncodedFrame encoded = encode_frame(frame, version);
  const auto header = decode_header(encoded.view().first<frame_header_bytes>(), version);
  FUZZ_CHECK(header);
  check_limits(*header);
  const auto decoded = decode_frame(*header, encoded.view().subspan(frame_header_bytes), version);
  FUZZ_CHECK(decoded);
  cut_reason(frame);
  FUZZ_CHECK(*decoded == frame);
}

}  // namespace

void fuzz_frame(Bytes input) {
  Input choices(input);
  if (choices.flag()) {
    while (!choices.empty()) encode_any(choices);
  } else {
    const auto stream = choices.rest();
    decode_stream(stream, 2);
    decode_stream(stream, 3);
  }
}

}  // namespace xenlane::fuzz

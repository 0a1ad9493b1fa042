// The frame codec: what each type allows, and that what is encoded decodes to the same.
#include "bridge/wire/frame.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {
namespace {

constexpr std::uint32_t size_max = (1U << 24) - 1;

WireResult<FrameHeader> header_of(std::uint32_t type, std::uint32_t size, StreamId id) {
  std::array<std::byte, frame_header_bytes> bytes{};
  store_le<std::uint32_t>(std::span(bytes).first<4>(), type << 24 | size);
  store_le<std::uint32_t>(std::span(bytes).last<4>(), id);
  return decode_header(bytes);
}

struct Rule {
  std::uint8_t type;
  std::uint32_t min;
  std::uint32_t max;
  bool may_be_stream;
  bool may_be_session;
};

// As docs/protocol.md section 4.1 has it, written down a second time on purpose.
constexpr std::array rules{
    Rule{1, 9, 71, true, false},    Rule{2, 0, 0, true, false},    Rule{3, 2, 122, true, false},
    Rule{4, 1, 65536, true, false}, Rule{5, 8, 8, true, true},     Rule{6, 8, 8, true, false},
    Rule{7, 4, 4, true, false},     Rule{8, 4, 4, true, false},    Rule{9, 8, 8, false, true},
    Rule{10, 8, 8, false, true},    Rule{11, 0, 120, false, true}, Rule{12, 1, 1, false, true},
    Rule{13, 4, 4, false, true}};

TEST(FrameHeader, TakesExactlyTheSizesOfItsType) {
  for (const Rule& rule : rules) {
    const StreamId id = rule.may_be_stream ? 1 : 0;
    for (const std::uint32_t size : {0U, rule.min - 1, rule.min, (rule.min + rule.max) / 2,
                                     rule.max, rule.max + 1, size_max}) {
      if (size > size_max) continue;  // min - 1 of a type that may be empty
      const auto header = header_of(rule.type, size, id);
      const bool allowed = size >= rule.min && size <= rule.max;
      ASSERT_EQ(header.has_value(), allowed) << "type " << int{rule.type} << ", size " << size;
      if (!allowed) {
        EXPECT_EQ(header.error().text, size < rule.min ? "a frame shorter than its type allows"
                                                       : "a frame longer than its type allows");
        continue;
      }
      EXPECT_EQ(header->payload_bytes, size);
      EXPECT_EQ(static_cast<std::uint8_t>(header->type), rule.type);
      EXPECT_EQ(header->id, id);
    }
  }
}

TEST(FrameHeader, NamesAStreamOrNoneAsItsTypeSays) {
  for (const Rule& rule : rules) {
    for (const StreamId id : {1U, 2U, 0x7FFF'FFFFU, 0x8000'0000U, 0xFFFF'FFFFU}) {
      EXPECT_EQ(header_of(rule.type, rule.min, id).has_value(), rule.may_be_stream);
    }
    EXPECT_EQ(header_of(rule.type, rule.min, 0).has_value(), rule.may_be_session);
  }
}

TEST(FrameHeader, RefusesEveryOtherType) {
  for (std::uint32_t type = 0; type < 256; ++type) {
    if (type >= 1 && type <= 13) continue;
    for (const std::uint32_t size : {0U, 8U, size_max}) {
      const auto header = header_of(type, size, 1);
      ASSERT_FALSE(header.has_value()) << type;
      EXPECT_EQ(header.error().text, "a frame type that does not exist");
    }
  }
}

TEST(FrameHeader, ControlFramesFitTheCopyOnTheStack) {
  for (const Rule& rule : rules) {
    if (rule.type == 4) continue;
    EXPECT_LE(rule.max, control_payload_bytes_max);
  }
}

class RandomFrames {
 public:
  explicit RandomFrames(std::uint32_t seed) : random_(seed) {}

  Frame next() {
    switch (number<std::uint32_t>() % 13) {
      case 0:
        return OpenFrame{id(), static_cast<EndShape>(number<std::uint8_t>() % 2),
                         static_cast<SocketKind>(number<std::uint8_t>() % 2),
                         text(1, channel_name_bytes_max), number<std::uint32_t>()};
      case 1:
        return AcceptFrame{id()};
      case 2:
        return RefuseFrame{id(), static_cast<std::uint16_t>(1 + number<std::uint32_t>() % 65535),
                           text(0, reason_bytes_max)};
      case 3:
        return DataFrame{id(), 1 + number<std::uint32_t>() % data_payload_bytes_max};
      case 4:
        return CreditFrame{number<std::uint32_t>() % 3 == 0 ? 0 : id(), number<std::uint64_t>()};
      case 5:
        return FinishFrame{id(), number<std::uint64_t>()};
      case 6:
        return StopSendingFrame{id(), error()};
      case 7:
        return ResetFrame{id(), error()};
      case 8:
        return PingFrame{number<std::uint64_t>()};
      case 9:
        return PongFrame{number<std::uint64_t>()};
      case 10:
        return GoAwayFrame{text(0, reason_bytes_max)};
      case 11:
        return LaneWishFrame{static_cast<LaneWish>(number<std::uint32_t>() % 3)};
      default:
        return LeaveFrame{number<std::uint32_t>()};
    }
  }
  template <typename T>
  T number() {
    return static_cast<T>(random_());
  }

 private:
  StreamId id() { return 1 + number<std::uint32_t>() % 0xFFFF'FFFEU; }
  StreamError error() { return static_cast<StreamError>(1 + number<std::uint32_t>() % 4); }
  std::string text(std::size_t min, std::size_t max) {
    std::string out(min + random_() % (max - min + 1), '\0');
    for (char& c : out) c = number<char>();
    return out;
  }
  std::mt19937_64 random_;
};

WireResult<Frame> decode(std::span<const std::byte> bytes) {
  const auto header = decode_header(bytes.first<frame_header_bytes>());
  if (!header) return header.error();
  return decode_frame(*header, bytes.subspan(frame_header_bytes));
}

TEST(Frame, RoundTripKeepsEveryField) {
  RandomFrames frames(1);
  for (int i = 0; i < 50'000; ++i) {
    const Frame frame = frames.next();
    const EncodedFrame encoded = encode_frame(frame);
    const auto decoded = decode(encoded.view());
    ASSERT_TRUE(decoded.has_value()) << decoded.error().text;
    ASSERT_TRUE(*decoded == frame) << "frame of type " << frame.index() + 1;
  }
}

TEST(Frame, DecoderTakesAnyBytesWithoutHarmAndEncodesTheSameAgain) {
  RandomFrames random(2);
  int decoded_count = 0;
  for (int i = 0; i < 200'000; ++i) {
    const Rule& rule = rules[random.number<std::uint32_t>() % rules.size()];
    const std::uint32_t size =
        rule.type == 4 ? 1 : rule.min + random.number<std::uint32_t>() % (rule.max - rule.min + 1);
    std::vector<std::byte> bytes(frame_header_bytes + size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.number<std::uint32_t>() % 8);
    store_le<std::uint32_t>(std::span(bytes).first<4>(), std::uint32_t{rule.type} << 24 | size);
    const auto frame = decode(bytes);
    if (!frame || rule.type == 4) continue;
    ++decoded_count;
    const EncodedFrame again = encode_frame(*frame);
    ASSERT_TRUE(std::ranges::equal(again.view(), bytes)) << "type " << int{rule.type};
  }
  EXPECT_GT(decoded_count, 10'000);
}

TEST(Frame, OfVersionTwoOpensAsItAlwaysDid) {
  RandomFrames frames(3);
  int opens = 0;
  for (int i = 0; i < 50'000; ++i) {
    Frame frame = frames.next();
    auto* open = std::get_if<OpenFrame>(&frame);
    if (open != nullptr) open->kind = SocketKind::stream;
    const EncodedFrame encoded = encode_frame(frame, 2);
    const auto header = decode_header(encoded.view().first<frame_header_bytes>(), 2);
    ASSERT_TRUE(header.has_value()) << header.error().text;
    const auto decoded = decode_frame(*header, encoded.view().subspan(frame_header_bytes), 2);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().text;
    if (open != nullptr) {
      ++opens;
      EXPECT_EQ(header->payload_bytes, 4 + open->name.size());
      open->uid = uid_unknown;  // not on the wire
    }
    ASSERT_TRUE(*decoded == frame) << "frame of type " << frame.index() + 1;
  }
  EXPECT_GT(opens, 1000);
}

TEST(Frame, WishesThatDoNotExistAreRefused) {
  for (int value = 0; value < 256; ++value) {
    EncodedFrame bytes = encode_frame(LaneWishFrame{LaneWish::none});
    bytes.bytes[frame_header_bytes] = static_cast<std::byte>(value);
    const auto frame = decode(bytes.view());
    ASSERT_EQ(frame.has_value(), value <= 2) << value;
    if (frame.has_value()) continue;
    EXPECT_EQ(frame.error().text, "LANE_WISH: a wish that does not exist");
  }
}

TEST(Frame, ReasonsThatAreTooLongAreCut) {
  const std::string longer(500, 'x');
  for (const Frame& frame : {Frame{RefuseFrame{1, 2, longer}}, Frame{GoAwayFrame{longer}}}) {
    const auto decoded = decode(encode_frame(frame).view());
    ASSERT_TRUE(decoded.has_value());
    const auto* refuse = std::get_if<RefuseFrame>(&*decoded);
    const std::string& reason = refuse ? refuse->reason : std::get<GoAwayFrame>(*decoded).reason;
    EXPECT_EQ(reason, std::string(reason_bytes_max, 'x'));
  }
}

TEST(Bytes, AreLittleEndian) {
  std::array<std::byte, 8> bytes{};
  store_le<std::uint64_t>(bytes, 0x0102030405060708U);
  EXPECT_EQ(bytes.front(), std::byte{8});
  EXPECT_EQ(bytes.back(), std::byte{1});
  EXPECT_EQ(load_le<std::uint64_t>(bytes), 0x0102030405060708U);
}

TEST(Bytes, ReaderPastTheEndGivesZeroesAndRemembers) {
  const std::array<std::byte, 3> bytes{std::byte{1}, std::byte{2}, std::byte{3}};
  ByteReader in(bytes);
  EXPECT_EQ(in.get<std::uint16_t>(), 0x0201U);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.get<std::uint16_t>(), 0U);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.get<std::uint8_t>(), 0U) << "nothing is read behind a failure";
  EXPECT_TRUE(in.get(1).empty());
}

}  // namespace
}  // namespace xenlane::bridge

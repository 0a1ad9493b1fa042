// The handshake messages' codec.
#include "bridge/wire/hello.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {
namespace {

Greeting greeting() {
  Greeting out;
  out.version_min = 1;
  out.version_max = 3;
  out.epoch = 0x1122334455667788;
  out.session.fill(std::byte{0xAB});
  out.instance.fill(std::byte{0xCD});
  out.consumed = 77;
  out.limits.streams_max = 10;
  out.limits.stream_window_bytes_min = 4096;
  out.limits.stream_window_bytes_max = 4096;  // not on the wire: as the minimum
  out.limits.session_window_bytes = 1ULL << 40;
  out.limits.open_backlog_max = 5;
  out.turn = 0x01020304;
  return out;
}

std::vector<HandshakeMessage> examples() {
  return {Hello{greeting()}, Welcome{greeting()},
          Reject{RejectCode::version, 1, 2, "the older side is to be upgraded"}};
}

WireResult<HandshakeMessage> decode(std::span<const std::byte> bytes) {
  const auto size = decode_handshake_size(bytes.first<handshake_prefix_bytes>());
  if (!size) return size.error();
  EXPECT_LE(*size, bytes.size());
  return decode_handshake(bytes.first(*size));
}

void set_size(std::vector<std::byte>& bytes) {
  store_le<std::uint16_t>(std::span(bytes).subspan<8, 2>(),
                          static_cast<std::uint16_t>(bytes.size()));
}

std::vector<std::byte> bytes_of(const HandshakeMessage& message) {
  const EncodedHandshake encoded = encode_handshake(message);
  return {encoded.view().begin(), encoded.view().end()};
}

TEST(Handshake, RoundTripKeepsEveryField) {
  for (const HandshakeMessage& message : examples()) {
    const auto decoded = decode(bytes_of(message));
    ASSERT_TRUE(decoded.has_value()) << decoded.error().text;
    EXPECT_TRUE(*decoded == message);
  }
}

/// Where a greeting of version 1 ended.
constexpr std::size_t turn_offset = 84;

TEST(Handshake, CutShortAtEveryByteIsRefused) {
  for (const HandshakeMessage& message : examples()) {
    const std::vector<std::byte> whole = bytes_of(message);
    const bool is_greeting = !std::holds_alternative<Reject>(message);
    const std::size_t needed = is_greeting ? turn_offset : whole.size();
    for (std::size_t size = handshake_prefix_bytes; size < needed; ++size) {
      std::vector<std::byte> bytes(whole.begin(),
                                   whole.begin() + static_cast<std::ptrdiff_t>(size));
      set_size(bytes);
      const auto decoded = decode(bytes);
      ASSERT_FALSE(decoded.has_value()) << size;
      EXPECT_EQ(decoded.error().text, "a handshake message shorter than its fields") << size;
    }
  }
}

// A guest of version 1 says no turn. Its HELLO is read all the same, or nobody could tell it that
// it is too old; so is one whose turn is cut short.
TEST(Handshake, GreetingThatEndsBeforeItsTurnHasTurnZero) {
  Greeting without = greeting();
  without.turn = 0;
  for (const HandshakeMessage& message :
       std::vector<HandshakeMessage>{Hello{greeting()}, Welcome{greeting()}}) {
    const std::vector<std::byte> whole = bytes_of(message);
    ASSERT_EQ(whole.size(), turn_offset + 4);
    for (std::size_t size = turn_offset; size < whole.size(); ++size) {
      std::vector<std::byte> bytes(whole.begin(),
                                   whole.begin() + static_cast<std::ptrdiff_t>(size));
      set_size(bytes);
      const auto decoded = decode(bytes);
      ASSERT_TRUE(decoded.has_value()) << size;
      const bool is_hello = std::holds_alternative<Hello>(message);
      EXPECT_TRUE(*decoded == (is_hello ? HandshakeMessage(Hello{without}) : Welcome{without}));
    }
  }
}

TEST(Handshake, TrailingBytesOfLaterVersionsAreIgnored) {
  for (const HandshakeMessage& message : examples()) {
    std::vector<std::byte> bytes = bytes_of(message);
    while (bytes.size() < hello_bytes_max) {
      bytes.push_back(std::byte{0xEE});
      set_size(bytes);
      const auto decoded = decode(bytes);
      ASSERT_TRUE(decoded.has_value() && *decoded == message) << bytes.size();
    }
  }
}

TEST(Handshake, ReservedByteIsIgnored) {
  std::vector<std::byte> bytes = bytes_of(Hello{greeting()});
  bytes[11] = std::byte{0xFF};
  EXPECT_TRUE(decode(bytes).has_value());
}

TEST(Handshake, EveryByteOfTheMagicCounts) {
  for (std::size_t i = 0; i < 8; ++i) {
    std::vector<std::byte> bytes = bytes_of(Hello{greeting()});
    bytes[i] ^= std::byte{1};
    const auto decoded = decode(bytes);
    ASSERT_FALSE(decoded.has_value());
    EXPECT_EQ(decoded.error().text, "the peer does not speak xenlane's protocol");
  }
}

TEST(Handshake, ImpossibleSizesAreRefusedFromThePrefix) {
  std::vector<std::byte> bytes = bytes_of(Hello{greeting()});
  for (std::uint32_t size = 0; size <= 0xFFFF; ++size) {
    store_le<std::uint16_t>(std::span(bytes).subspan<8, 2>(), static_cast<std::uint16_t>(size));
    const auto decoded = decode_handshake_size(std::span(bytes).first<handshake_prefix_bytes>());
    ASSERT_EQ(decoded.has_value(), size >= handshake_prefix_bytes && size <= hello_bytes_max);
  }
}

TEST(Handshake, UnknownKindsAreRefused) {
  std::vector<std::byte> bytes = bytes_of(Hello{greeting()});
  for (int kind = 0; kind < 256; ++kind) {
    bytes[10] = static_cast<std::byte>(kind);
    const auto decoded = decode(bytes);
    if (kind == 0 || kind > 3) {
      ASSERT_FALSE(decoded.has_value()) << kind;
      EXPECT_EQ(decoded.error().text, "a handshake message of unknown kind");
    }
  }
}

TEST(Handshake, RandomBytesDoNoHarm) {
  std::mt19937 random(3);
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::byte> bytes = bytes_of(examples()[random() % 3]);
    bytes.resize(handshake_prefix_bytes + random() % (hello_bytes_max - handshake_prefix_bytes));
    set_size(bytes);
    for (std::size_t j = 10; j < bytes.size(); ++j) {
      if (random() % 4 == 0) bytes[j] = static_cast<std::byte>(random());
    }
    const auto decoded = decode(bytes);
    if (const auto* reject = decoded ? std::get_if<Reject>(&*decoded) : nullptr) {
      ASSERT_LE(reject->reason.size(), reason_bytes_max);
    }
  }
}

TEST(Handshake, ReasonThatIsTooLongIsCut) {
  const auto decoded = decode(bytes_of(Reject{RejectCode::busy, 1, 1, std::string(999, 'x')}));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(std::get<Reject>(*decoded).reason, std::string(reason_bytes_max, 'x'));
}

}  // namespace
}  // namespace xenlane::bridge

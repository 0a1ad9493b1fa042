// The vectors in docs/protocol.md's appendix: the document and the codec say the same.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "bridge/wire/frame.hpp"
#include "bridge/wire/hello.hpp"

namespace xenlane::bridge {
namespace {

using Bytes = std::vector<std::byte>;

struct Line {
  std::string kind;
  std::string name;
  Bytes bytes;
  std::string text;  ///< behind the colon
};

/// `KIND NAME = HEX HEX ... [: TEXT]` from the fenced blocks labelled "vectors".
std::vector<Line> read_vectors() {
  std::ifstream file(PROTOCOL_DOCUMENT);
  EXPECT_TRUE(file) << PROTOCOL_DOCUMENT;
  std::vector<Line> lines;
  bool inside = false;
  for (std::string text; std::getline(file, text);) {
    if (text.starts_with("```")) {
      inside = text == "```vectors";
    } else if (inside && !text.starts_with('#') && !text.empty()) {
      std::istringstream words(text);
      Line line;
      std::string word;
      words >> line.kind >> line.name >> word;
      EXPECT_EQ(word, "=") << text;
      while (words >> word && word != ":") {
        line.bytes.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
      }
      std::getline(words >> std::ws, line.text);
      lines.push_back(line);
    }
  }
  return lines;
}

bool is_handshake(const Bytes& bytes) {
  return bytes.size() > 1 && bytes[0] == std::byte{'x'};
}

/// "vector-2" and "invalid-2" are of version 2, and the rest of the last.
std::uint16_t version_of(const Line& line) {
  return line.kind.ends_with("-2") ? 2 : protocol_version_max;
}

WireResult<Frame> decode_as_frame(const Line& line) {
  const auto header =
      decode_header(std::span(line.bytes).first<frame_header_bytes>(), version_of(line));
  if (!header) return header.error();
  EXPECT_EQ(line.bytes.size(), frame_header_bytes + header->payload_bytes);
  return decode_frame(*header, std::span(line.bytes).subspan(frame_header_bytes), version_of(line));
}

WireResult<HandshakeMessage> decode_as_handshake(const Bytes& bytes) {
  const auto size = decode_handshake_size(std::span(bytes).first<handshake_prefix_bytes>());
  if (!size) return size.error();
  EXPECT_EQ(*size, bytes.size());
  return decode_handshake(bytes);
}

std::map<std::string, Frame> expected_frames() {
  return {
      {"open-service",
       OpenFrame{1, EndShape::service, SocketKind::stream, "org.example.files.0", 1000}},
      {"open-port", OpenFrame{2, EndShape::port, SocketKind::stream, "a"}},
      {"open-messages", OpenFrame{3, EndShape::service, SocketKind::seqpacket, "a.b", 0}},
      {"open-service-of-version-2",
       OpenFrame{1, EndShape::service, SocketKind::stream, "org.example.files.0"}},
      {"open-port-of-version-2", OpenFrame{2, EndShape::port, SocketKind::stream, "a"}},
      {"accept", AcceptFrame{1}},
      {"refuse", RefuseFrame{1, 111, "no one listens"}},
      {"refuse-bare", RefuseFrame{1, 2, ""}},
      {"data", DataFrame{1, 5}},
      {"credit-stream", CreditFrame{1, 65536}},
      {"credit-session", CreditFrame{0, 0x123456789ABC}},
      {"finish", FinishFrame{0x80000001, 5}},
      {"stop-sending", StopSendingFrame{1, StreamError::cancelled}},
      {"reset", ResetFrame{1, StreamError::broken}},
      {"ping", PingFrame{0x1122334455667788}},
      {"pong", PongFrame{0x1122334455667788}},
      {"go-away", GoAwayFrame{"restart"}},
      {"go-away-bare", GoAwayFrame{""}},
      {"lane-wish-none", LaneWishFrame{LaneWish::none}},
      {"lane-wish-vchan", LaneWishFrame{LaneWish::vchan}},
      {"lane-wish-console", LaneWishFrame{LaneWish::console}},
      {"leave", LeaveFrame{3}},
      {"goodbye", LeaveFrame{0}},
  };
}

RandomId counting_from(unsigned first) {
  RandomId id{};
  for (std::byte& byte : id) byte = static_cast<std::byte>(first++);
  return id;
}

std::map<std::string, HandshakeMessage> expected_messages() {
  Greeting hello;
  hello.version_min = hello.version_max = 2;
  hello.epoch = 7;
  hello.instance = counting_from(0x10);
  hello.limits.stream_window_bytes_max = hello.limits.stream_window_bytes_min;
  hello.turn = 1;
  Greeting welcome = hello;
  welcome.session = counting_from(0xA0);
  welcome.instance = counting_from(0x20);
  Greeting later = hello;
  later.version_max = 3;
  Greeting old = hello;
  old.version_min = old.version_max = 1;
  old.turn = 0;
  Greeting resuming = hello;
  resuming.epoch = 8;
  resuming.session = welcome.session;
  resuming.consumed = 0x123456;
  resuming.turn = 2;
  Greeting resumed = welcome;
  resumed.epoch = 8;
  resumed.consumed = 0x10000;
  resumed.turn = 2;
  return {{"hello", Hello{hello}},
          {"welcome", Welcome{welcome}},
          {"hello-that-resumes", Hello{resuming}},
          {"welcome-that-resumes", Welcome{resumed}},
          {"hello-of-version-1", Hello{old}},
          {"hello-of-versions-2-and-3", Hello{later}},
          {"reject", Reject{RejectCode::version, 2, 2, "upgrade please"}},
          {"reject-resume", Reject{RejectCode::resume, 2, 2, "no such bytes"}}};
}

TEST(ProtocolVectors, FramesDecodeAndEncodeAsTheDocumentSays) {
  const auto expected = expected_frames();
  std::set<std::size_t> types_seen;
  std::size_t seen = 0;
  for (const Line& line : read_vectors()) {
    if (!line.kind.starts_with("vector") || is_handshake(line.bytes)) continue;
    SCOPED_TRACE(line.name);
    const auto frame = decode_as_frame(line);
    ASSERT_TRUE(frame.has_value()) << frame.error().text;
    ASSERT_TRUE(expected.contains(line.name));
    EXPECT_TRUE(*frame == expected.at(line.name));
    const EncodedFrame encoded = encode_frame(*frame, version_of(line));
    // Of DATA only the header is encoded; the payload is the application's.
    const std::size_t compared =
        std::holds_alternative<DataFrame>(*frame) ? frame_header_bytes : line.bytes.size();
    EXPECT_TRUE(std::ranges::equal(encoded.view(), std::span(line.bytes).first(compared)));
    types_seen.insert(frame->index());
    ++seen;
  }
  EXPECT_EQ(types_seen.size(), std::variant_size_v<Frame>) << "every type has a vector";
  EXPECT_EQ(seen, expected.size());
}

TEST(ProtocolVectors, HandshakeMessagesDecodeAndEncodeAsTheDocumentSays) {
  const auto expected = expected_messages();
  std::size_t seen = 0;
  for (const Line& line : read_vectors()) {
    const bool encodes = line.kind == "vector";
    if (!is_handshake(line.bytes) || (!encodes && line.kind != "same" && line.kind != "decodes")) {
      continue;
    }
    SCOPED_TRACE(line.name);
    const auto message = decode_as_handshake(line.bytes);
    ASSERT_TRUE(message.has_value()) << message.error().text;
    const std::string meant = line.kind == "same" ? line.text : line.name;
    ASSERT_TRUE(expected.contains(meant));
    EXPECT_TRUE(*message == expected.at(meant));
    if (encodes) {
      EXPECT_TRUE(std::ranges::equal(encode_handshake(*message).view(), line.bytes));
    }
    ++seen;
  }
  EXPECT_EQ(seen, expected.size() + 1);
}

TEST(ProtocolVectors, InvalidOnesAreRefusedInTheDocumentsWords) {
  std::size_t seen = 0;
  for (const Line& line : read_vectors()) {
    if (!line.kind.starts_with("invalid")) continue;
    SCOPED_TRACE(line.name);
    std::string_view text;
    if (line.kind != "invalid-handshake") {
      const auto frame = decode_as_frame(line);
      ASSERT_FALSE(frame.has_value());
      text = frame.error().text;
    } else {
      const auto message = decode_as_handshake(line.bytes);
      ASSERT_FALSE(message.has_value());
      text = message.error().text;
    }
    EXPECT_EQ(text, line.text);
    ++seen;
  }
  EXPECT_GE(seen, 20U);
}

}  // namespace
}  // namespace xenlane::bridge

// The console link's frames against docs/protocol.md's vectors, what their encodings may contain,
// and the scanner in every kind of soup.
#include "transport/console/frame.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "transport/console/scanner.hpp"

namespace xenlane::transport::test {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

Bytes line_of(const LinkFrame& frame, LinkEncoding encoding) {
  LinkLine line;
  const std::size_t size = encode_link_line(frame, encoding, line);
  return {line.begin(), line.begin() + static_cast<std::ptrdiff_t>(size)};
}

void append(Bytes& to, const Bytes& more) {
  to.insert(to.end(), more.begin(), more.end());
}

/// Without the newlines around it.
std::span<const std::byte> inside(std::span<const std::byte> line) {
  if (line.front() == link_newline) line = line.subspan(1);
  return line.first(line.size() - 1);
}

bool same(const LinkFrame& one, const LinkFrame& other) {
  return one.type == other.type && one.from_host == other.from_host && one.flags == other.flags &&
         one.from == other.from && one.to == other.to && one.position == other.position &&
         one.got == other.got && one.held == other.held && one.part == other.part &&
         one.hole == other.hole && std::ranges::equal(one.payload, other.payload);
}

class RandomFrames {
 public:
  explicit RandomFrames(std::uint32_t seed) : random_(seed) {}

  LinkFrame next(std::size_t payload_max) {
    LinkFrame frame;
    frame.type = static_cast<LinkFrameType>(1 + random_() % 4);
    frame.from_host = random_() % 2 == 0;
    frame.flags = number<std::uint8_t>();
    frame.from = 1 + number<std::uint32_t>() % 0xFFFF'FFFFU;
    frame.to = number<std::uint32_t>();
    frame.position = number<std::uint32_t>();
    frame.got = number<std::uint32_t>();
    frame.held = number<std::uint16_t>();
    frame.part = number<std::uint16_t>();
    frame.hole = number<std::uint16_t>();
    if (frame.type == LinkFrameType::data) {
      payload_.resize(random_() % (payload_max + 1));
      const bool sparse = random_() % 2 == 0;
      for (std::byte& byte : payload_) {
        byte = sparse && random_() % 300 != 0 ? std::byte{1} : number_byte();
      }
      frame.payload = payload_;
    }
    return frame;
  }
  template <typename T>
  T number() {
    return static_cast<T>(random_());
  }
  std::byte number_byte() { return static_cast<std::byte>(random_() % 256); }

 private:
  std::mt19937 random_;
  Bytes payload_;
};

struct Line {
  std::string kind;
  std::string name;
  std::string value;
  std::string text;  ///< behind the colon
};

/// `KIND NAME = VALUE [: TEXT]` from the fenced blocks labelled "link-vectors".
std::vector<Line> read_vectors() {
  std::ifstream file(PROTOCOL_DOCUMENT);
  EXPECT_TRUE(file) << PROTOCOL_DOCUMENT;
  std::vector<Line> lines;
  bool inside_block = false;
  for (std::string text; std::getline(file, text);) {
    if (text.starts_with("```")) {
      inside_block = text == "```link-vectors";
    } else if (inside_block && !text.starts_with('#') && !text.empty()) {
      std::istringstream words(text);
      Line line;
      std::string word;
      words >> line.kind >> line.name >> word;
      EXPECT_EQ(word, "=") << text;
      while (words >> word && word != ":") line.value += word;
      std::getline(words >> std::ws, line.text);
      lines.push_back(line);
    }
  }
  return lines;
}

Bytes from_hex(const std::string& digits) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    out.push_back(static_cast<std::byte>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return out;
}

std::map<std::string, LinkFrame> expected_frames() {
  static const Bytes hello = bytes_of(std::string_view("\x05\0hello", 7));
  std::map<std::string, LinkFrame> out;
  LinkFrame& ask = out["syn"];
  ask.type = LinkFrameType::syn;
  ask.flags = link_zstd;
  ask.from = 0x11223344;
  LinkFrame& answer = out["syn-answer"];
  answer.type = LinkFrameType::syn;
  answer.from_host = true;
  answer.flags = link_own_device | link_zstd;
  answer.from = 0xAABBCCDD;
  answer.to = 0x11223344;
  LinkFrame& busy = out["syn-busy"] = answer;
  busy.flags |= link_busy;
  LinkFrame& data = out["data"];
  data.flags = link_zstd;
  data.from = 0x11223344;
  data.to = 0xAABBCCDD;
  data.position = 4096;
  data.got = 700;
  data.held = 100;
  data.part = 7;
  data.payload = hello;
  LinkFrame& more = out["data-and-more"] = data;
  more.flags |= link_more;
  more.payload = data.payload.first(4);
  LinkFrame& acknowledgement = out["acknowledgement"] = answer;
  acknowledgement.type = LinkFrameType::data;
  acknowledgement.got = 4096;
  acknowledgement.hole = 737;
  out["probe"] = acknowledgement;
  out["probe"].type = LinkFrameType::probe;
  out["probe"].hole = 0;
  out["close"] = answer;
  out["close"].type = LinkFrameType::close;
  return out;
}

TEST(LinkVectors, FramesAreAsTheDocumentSays) {
  const auto expected = expected_frames();
  std::map<std::string, int> seen;
  for (const Line& line : read_vectors()) {
    SCOPED_TRACE(line.kind + ' ' + line.name);
    LinkBody body;
    if (line.kind == "frame") {
      const Bytes bytes = from_hex(line.value);
      const auto frame = decode_link_body(bytes);
      ASSERT_TRUE(frame.has_value()) << frame.error().text;
      ASSERT_TRUE(expected.contains(line.name));
      EXPECT_TRUE(same(*frame, expected.at(line.name)));
    } else if (line.kind == "text" || line.kind == "binary") {
      const bool text = line.kind == "text";
      Bytes bytes = text ? bytes_of(line.value + '\n') : from_hex(line.value);
      const auto frame = decode_link_line(inside(bytes), body);
      ASSERT_TRUE(frame.has_value()) << frame.error().text;
      ASSERT_TRUE(expected.contains(line.name));
      EXPECT_TRUE(same(*frame, expected.at(line.name)));
      EXPECT_EQ(line_of(*frame, text ? LinkEncoding::text : LinkEncoding::binary), bytes);
    } else {
      ASSERT_EQ(line.kind, "invalid");
      const auto frame = decode_link_body(from_hex(line.value));
      ASSERT_FALSE(frame.has_value());
      EXPECT_EQ(frame.error().text, line.text);
    }
    ++seen[line.kind];
  }
  EXPECT_EQ(seen["frame"], static_cast<int>(expected.size()));
  EXPECT_GE(seen["text"], 2);
  EXPECT_GE(seen["binary"], 2);
  EXPECT_GE(seen["invalid"], 5);
}

TEST(LinkFrame, RoundTripKeepsEveryFieldInBothEncodings) {
  RandomFrames frames(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto encoding = i % 2 == 0 ? LinkEncoding::text : LinkEncoding::binary;
    const LinkFrame frame = frames.next(link_payload_bytes_max(encoding));
    const Bytes line = line_of(frame, encoding);
    LinkBody body;
    const auto decoded = decode_link_line(inside(line), body);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().text;
    ASSERT_TRUE(same(*decoded, frame));
  }
}

// hvc0 takes a control byte for a SysRq, and a tty that is not raw takes several for commands.
TEST(LinkFrame, TextIsPrintableAndALineThatFits) {
  RandomFrames frames(2);
  std::size_t longest = 0;
  for (int i = 0; i < 20'000; ++i) {
    const Bytes line = line_of(frames.next(link_text_payload_bytes_max), LinkEncoding::text);
    longest = std::max(longest, line.size());
    ASSERT_EQ(line.front(), std::byte{'~'});
    ASSERT_EQ(line.back(), std::byte{'\n'});
    for (const std::byte byte : inside(line)) {
      ASSERT_TRUE(byte > std::byte{' '} && byte <= std::byte{'~'});
    }
  }
  LinkFrame full;
  full.from = 1;
  const Bytes payload(link_text_payload_bytes_max);
  full.payload = payload;
  EXPECT_LE(line_of(full, LinkEncoding::text).size(), link_text_line_bytes_max);
  EXPECT_LE(longest, link_text_line_bytes_max);
}

TEST(LinkFrame, BinaryHasNoNewlineWithin) {
  RandomFrames frames(3);
  for (int i = 0; i < 20'000; ++i) {
    const Bytes line = line_of(frames.next(link_binary_payload_bytes_max), LinkEncoding::binary);
    ASSERT_LE(line.size(), link_line_bytes_max);
    ASSERT_EQ(line.front(), link_newline);
    ASSERT_EQ(line[1], link_binary_mark);
    ASSERT_TRUE(std::ranges::find(inside(line), link_newline) == inside(line).end());
  }
}

TEST(LinkFrame, StuffingHoldsAtEveryLengthOfARun) {
  for (std::size_t size = 0; size <= link_binary_payload_bytes_max; ++size) {
    for (const std::byte fill : {std::byte{0}, std::byte{0x0A}, std::byte{0xFF}}) {
      const Bytes payload(size, fill);
      LinkFrame frame;
      frame.from = 1;
      frame.payload = payload;
      const Bytes line = line_of(frame, LinkEncoding::binary);
      LinkBody body;
      const auto decoded = decode_link_line(inside(line), body);
      ASSERT_TRUE(decoded.has_value()) << size;
      ASSERT_TRUE(same(*decoded, frame)) << size;
    }
  }
}

TEST(LinkFrame, OneChangedByteIsNoFrame) {
  RandomFrames frames(4);
  for (int i = 0; i < 20'000; ++i) {
    const auto encoding = i % 2 == 0 ? LinkEncoding::text : LinkEncoding::binary;
    Bytes line = line_of(frames.next(100), encoding);
    std::byte& byte = line[1 + frames.number<std::uint32_t>() % (line.size() - 2)];
    const std::byte before = byte;
    byte = frames.number_byte();
    LinkBody body;
    // A carriage return takes the place of a digit and is ignored: a digit is missing then.
    ASSERT_EQ(decode_link_line(inside(line), body).has_value(), byte == before);
  }
}

TEST(LinkFrame, AnyBytesDoNoHarm) {
  RandomFrames random(5);
  for (int i = 0; i < 200'000; ++i) {
    Bytes line(1 + random.number<std::uint32_t>() % 40);
    for (std::byte& byte : line) byte = random.number_byte();
    line[0] = i % 2 == 0 ? link_text_mark : link_binary_mark;
    LinkBody body;
    ASSERT_FALSE(decode_link_line(line, body).has_value());
  }
}

/// Everything that the scanner finds, bytes arriving in pieces of random sizes.
std::vector<std::uint32_t> scan(FrameScanner& scanner, const Bytes& bytes, RandomFrames& random) {
  std::vector<std::uint32_t> found;
  std::span<const std::byte> left = bytes;
  while (!left.empty()) {
    auto piece =
        left.first(std::min<std::size_t>(left.size(), 1 + random.number<std::uint32_t>() % 3000));
    left = left.subspan(piece.size());
    while (const auto frame = scanner.next(piece)) found.push_back(frame->got);
  }
  return found;
}

struct Soup {
  const char* name;
  Bytes (*make)(RandomFrames& random);
};
void PrintTo(const Soup& soup, std::ostream* out) {
  *out << soup.name;
}

Bytes any_bytes(RandomFrames& random, std::size_t count_max) {
  Bytes out(random.number<std::uint32_t>() % count_max);
  for (std::byte& byte : out) byte = random.number_byte();
  return out;
}

Bytes half_a_frame(RandomFrames& random, LinkEncoding encoding) {
  Bytes line = line_of(random.next(link_payload_bytes_max(encoding)), encoding);
  line.resize(random.number<std::uint32_t>() % (line.size() - 1));  // more lacks than its newline
  return line;
}

const Soup soups[] = {
    {"Nothing", [](RandomFrames&) { return Bytes{}; }},
    {"LogLines", [](RandomFrames&) { return bytes_of("[    1.0] usb ~ 1-1: new {}\r\n"); }},
    {"LogLinesWithoutEnd", [](RandomFrames&) { return bytes_of("Debian login: "); }},
    {"Marks", [](RandomFrames&) { return bytes_of("~~~~~~\x02\x02~~\x02~~~~"); }},
    {"CarriageReturns", [](RandomFrames&) { return bytes_of("\r\r\n\r\n\r"); }},
    {"LongLines", [](RandomFrames&) { return Bytes(5000, std::byte{'x'}); }},
    {"LongLinesOfMarks", [](RandomFrames&) { return Bytes(5000, std::byte{'~'}); }},
    {"Noise", [](RandomFrames& random) { return any_bytes(random, 3000); }},
    {"HalfTextFrames",
     [](RandomFrames& random) { return half_a_frame(random, LinkEncoding::text); }},
    {"HalfBinaryFrames",
     [](RandomFrames& random) { return half_a_frame(random, LinkEncoding::binary); }},
};

class ScannerInSoup : public testing::TestWithParam<Soup> {};

// A text frame is found behind anything. A binary one begins with a newline of its own, which ends
// whatever was before it.
TEST_P(ScannerInSoup, FindsEveryFrameThatIsWhole) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    RandomFrames random(seed);
    FrameScanner scanner;
    Bytes bytes;
    std::vector<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < 100; ++i) {
      append(bytes, GetParam().make(random));
      const bool text = random.number<std::uint32_t>() % 2 == 0;
      const auto encoding = text ? LinkEncoding::text : LinkEncoding::binary;
      LinkFrame frame = random.next(link_payload_bytes_max(encoding));
      frame.got = i;
      const Bytes line = line_of(frame, encoding);
      append(bytes, line);
      expected.push_back(i);
    }
    ASSERT_EQ(scan(scanner, bytes, random), expected) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Soups, ScannerInSoup, testing::ValuesIn(soups),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(Scanner, IgnoresCarriageReturnsInText) {
  RandomFrames random(1);
  FrameScanner scanner;
  for (int i = 0; i < 100; ++i) {
    const LinkFrame frame = random.next(300);
    Bytes bytes;
    for (const std::byte byte : line_of(frame, LinkEncoding::text)) {
      if (random.number<std::uint32_t>() % 40 == 0 || byte == link_newline) {
        bytes.push_back(std::byte{'\r'});
      }
      bytes.push_back(byte);
    }
    EXPECT_EQ(scan(scanner, bytes, random), std::vector{frame.got});
  }
  EXPECT_EQ(scanner.bad_frames(), 0U);
}

// Somebody may send a record of this very console over this very console.
TEST(Scanner, TakesNoFrameOutOfAnothersPayload) {
  RandomFrames random(2);
  FrameScanner scanner;
  for (int i = 0; i < 1000; ++i) {
    Bytes inner = line_of(random.next(300), LinkEncoding::text);
    append(inner, line_of(random.next(300), LinkEncoding::binary));
    LinkFrame frame = random.next(0);
    frame.type = LinkFrameType::data;
    frame.payload = inner;
    for (const auto encoding : {LinkEncoding::text, LinkEncoding::binary}) {
      if (inner.size() > link_payload_bytes_max(encoding)) continue;
      EXPECT_EQ(scan(scanner, line_of(frame, encoding), random), std::vector{frame.got});
    }
  }
  EXPECT_EQ(scanner.bad_frames(), 0U);
}

TEST(Scanner, CountsWhatBeganAsAFrameAndWasNone) {
  RandomFrames random(3);
  FrameScanner scanner;
  scan(scanner, bytes_of("~abc\nhello\n\x02hello\n\n~\n"), random);
  EXPECT_EQ(scanner.bad_frames(), 3U);
}

}  // namespace
}  // namespace xenlane::transport::test

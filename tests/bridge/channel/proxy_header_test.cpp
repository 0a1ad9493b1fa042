// The PROXY header: byte for byte, and as a parser reads it that was written from haproxy's text
// alone.
#include "bridge/channel/proxy_header.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace xenlane::bridge {
namespace {

std::string hex_of(const std::vector<std::byte>& bytes) {
  std::string out;
  for (const std::byte byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", std::to_integer<unsigned>(byte));
    out += digits;
  }
  return out;
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

Caller full() {
  return {"a.b", "web", transport::Domid{258}, "c0ffee", 1000, "ab-7"};
}

TEST(ProxyHeader, IsWrittenAsItsTextSays) {
  const std::string expected =
      "0d0a0d0a000d0a515549540a"  // signature
      "21"
      "31"
      "0102"  // PROXY, Unix stream, 258 bytes
      "78656e6c616e653a776562" +
      repeated("00", 108 - 11) +                             // xenlane:web
      "78656e6c616e653a612e62" + repeated("00", 108 - 11) +  // xenlane:a.b
      "020003612e62"                                         // authority
      "05000461622d37"                                       // unique id
      "e00003776562"                                         // peer
      "e1000400000102"                                       // domid
      "e20004000003e8"                                       // user
      "e30006633066666565";                                  // uuid
  EXPECT_EQ(hex_of(encode_proxy_header(full())), expected);
}

TEST(ProxyHeader, SaysNothingOfWhatIsNotKnown) {
  const std::string header =
      hex_of(encode_proxy_header({"a.b", "host", {}, "", uid_unknown, "x-1"}));
  const std::string tlvs = header.substr(2 * (16 + 216));
  EXPECT_EQ(tlvs,
            "020003612e62"
            "050003782d31"
            "e00004686f7374");
}

TEST(ProxyHeader, LongTextsAreCutToWhatTheFormHasRoomFor) {
  Caller caller = full();
  caller.peer = std::string(300, 'p');
  caller.connection = std::string(300, 'c');
  const auto header = encode_proxy_header(caller);
  const std::size_t length =
      std::to_integer<std::size_t>(header[14]) * 256 + std::to_integer<std::size_t>(header[15]);
  EXPECT_EQ(header.size(), 16 + length);
  EXPECT_EQ(header[16 + 107], std::byte{'p'});
  EXPECT_EQ(header[16 + 108], std::byte{'x'}) << "the next address begins at its place";
}

/// Written from the text of the PROXY protocol, section 2.2, without a look at the encoder.
constexpr const char* parser = R"(
import sys
data = bytes.fromhex(sys.argv[1])
assert data[:12] == b"\r\n\r\n\x00\r\nQUIT\n"
assert data[12] >> 4 == 2, "version"
assert data[12] & 15 == 1, "command PROXY"
family, transport = data[13] >> 4, data[13] & 15
assert (family, transport) == (3, 1), "AF_UNIX, STREAM"
length = int.from_bytes(data[14:16], "big")
body = data[16:16 + length]
assert len(body) == length and len(data) == 16 + length
print(body[:108].rstrip(b"\0").decode(), body[108:216].rstrip(b"\0").decode())
rest = body[216:]
while rest:
    size = int.from_bytes(rest[1:3], "big")
    assert len(rest) >= 3 + size
    print("%02x" % rest[0], rest[3:3 + size].hex())
    rest = rest[3 + size:]
)";

TEST(ProxyHeader, AnotherParserReadsTheSame) {
  const std::string command =
      "python3 -c '" + std::string(parser) + "' " + hex_of(encode_proxy_header(full()));
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string out;
  for (int byte; (byte = std::fgetc(pipe)) != EOF;) out += static_cast<char>(byte);
  ASSERT_EQ(::pclose(pipe), 0);
  EXPECT_EQ(out,
            "xenlane:web xenlane:a.b\n02 612e62\n05 61622d37\ne0 776562\ne1 00000102\n"
            "e2 000003e8\ne3 633066666565\n");
}

}  // namespace
}  // namespace xenlane::bridge

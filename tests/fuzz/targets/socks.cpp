// A SOCKS client: any bytes, in pieces of any size. The outcome does not depend on the pieces.
#include "bridge/forward/socks.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_socks(Bytes input);

namespace {

using bridge::SocksHandshake;

struct Heard {
  SocksHandshake::State state = SocksHandshake::State::reading;
  std::string output;
  std::string rest;
  std::string address;
  bool operator==(const Heard&) const = default;
};

Heard hear(const std::string& said, std::size_t piece) {
  SocksHandshake socks;
  Heard heard;
  for (std::size_t at = 0; at < said.size() && heard.state == SocksHandshake::State::reading;
       at += piece) {
    const std::string part = said.substr(at, piece);
    heard.state = socks.add(part);
    heard.output += socks.take_output();
    if (heard.state == SocksHandshake::State::wanted) {
      heard.rest = socks.take_rest() + said.substr(std::min(said.size(), at + piece));
    }
  }
  if (heard.state == SocksHandshake::State::wanted) {
    heard.address = socks.address().uri();
    FUZZ_CHECK(bridge::ForwardAddress::parse(heard.address).has_value());
    FUZZ_CHECK(socks.reply(0).size() == 10 || socks.reply(0).size() == 8);
  }
  if (heard.state == SocksHandshake::State::failed) FUZZ_CHECK(!socks.failure().empty());
  return heard;
}

}  // namespace

void fuzz_socks(Bytes input) {
  const std::string said = text_of(input);
  // Beyond that a client that says too much in one piece may be heard out.
  if (said.size() > bridge::socks_bytes_max) return;
  const Heard whole = hear(said, said.size() + 1);
  FUZZ_CHECK(hear(said, 1) == whole);
  FUZZ_CHECK(hear(said, 3) == whole);
}

}  // namespace xenlane::fuzz

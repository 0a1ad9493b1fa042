// SOCKS as clients speak it, whole and byte by byte, and as nobody should.
#include "bridge/forward/socks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>

namespace xenlane::bridge {
namespace {

using namespace std::string_literals;
using State = SocksHandshake::State;

const std::string greeting = "\x05\x01\x00"s;

/// Says it in one piece, or in pieces of one byte.
State say(SocksHandshake& socks, const std::string& bytes, bool at_once) {
  if (at_once) return socks.add(bytes);
  State state = State::reading;
  for (const char byte : bytes) state = socks.add({&byte, 1});
  return state;
}

TEST(Socks, FiveWithEachKindOfAddress) {
  const std::pair<std::string, const char*> requests[] = {
      {"\x05\x01\x00\x01\x0a\x00\x00\x07\x00\x50"s, "tcp:10.0.0.7:80"},
      {"\x05\x01\x00\x03\x0b"s + "Example.org"s + "\x01\xbb"s, "tcp:example.org:443"},
      {"\x05\x01\x00\x04"s + std::string(15, '\0') + "\x01\x00\x16"s, "tcp:[::1]:22"},
      // curl hands over an address as a name.
      {"\x05\x01\x00\x03\x09"s + "127.0.0.1"s + "\x00\x16"s, "tcp:127.0.0.1:22"},
  };
  for (const auto& [request, uri] : requests) {
    for (const bool at_once : {true, false}) {
      SocksHandshake socks;
      ASSERT_EQ(say(socks, greeting + request, at_once), State::wanted) << uri;
      EXPECT_EQ(socks.take_output(), "\x05\x00"s);
      EXPECT_EQ(socks.address().uri(), uri);
      EXPECT_EQ(socks.take_rest(), "");
      EXPECT_EQ(socks.reply(0), "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"s);
      EXPECT_EQ(socks.reply(ECONNREFUSED)[1], 5);
      EXPECT_EQ(socks.reply(EACCES)[1], 2);
      EXPECT_EQ(socks.reply(EIO)[1], 1);
    }
  }
}

TEST(Socks, FourAndFourA) {
  const std::pair<std::string, const char*> requests[] = {
      {"\x04\x01\x00\x50\x0a\x00\x00\x07me\x00"s, "tcp:10.0.0.7:80"},
      {"\x04\x01\x00\x50\x00\x00\x00\x01me\x00name.example\x00"s, "tcp:name.example:80"},
  };
  for (const auto& [request, uri] : requests) {
    for (const bool at_once : {true, false}) {
      SocksHandshake socks;
      ASSERT_EQ(say(socks, request, at_once), State::wanted) << uri;
      EXPECT_EQ(socks.address().uri(), uri);
      EXPECT_EQ(socks.reply(0), "\x00\x5a\x00\x00\x00\x00\x00\x00"s);
      EXPECT_EQ(socks.reply(EACCES)[1], 0x5b);
    }
  }
}

TEST(Socks, WhatFollowsTheRequestIsTheConnections) {
  SocksHandshake socks;
  EXPECT_EQ(socks.add("\x04\x01\x00\x50\x0a\x00\x00\x07\x00GET /"s), State::wanted);
  EXPECT_EQ(socks.take_rest(), "GET /");
}

TEST(Socks, RefusesWhatItCannotDo) {
  const std::pair<std::string, int> requests[] = {
      {greeting + "\x05\x02\x00\x01\x0a\x00\x00\x07\x00\x50"s, 7},  // BIND
      {greeting + "\x05\x01\x00\x09\x0a\x00\x00\x07\x00\x50"s, 8},
      {greeting + "\x05\x01\x00\x03\x00\x00\x50"s, 1},  // an empty name
      {greeting + "\x05\x01\x00\x03\x03"
                  "a\nb\x00\x50"s,
       1},
      {greeting + "\x05\x01\x00\x01\x0a\x00\x00\x07\x00\x00"s, 1},  // no port
  };
  for (const auto& [request, code] : requests) {
    SocksHandshake socks;
    ASSERT_EQ(socks.add(request), State::failed);
    EXPECT_EQ(socks.take_output(),
              "\x05\x00\x05"s + static_cast<char>(code) + "\x00\x01\x00\x00\x00\x00\x00\x00"s);
    EXPECT_NE(socks.failure(), "");
  }
  SocksHandshake login;
  EXPECT_EQ(login.add("\x05\x01\x02"s), State::failed);
  EXPECT_EQ(login.take_output(), "\x05\xff"s);
  SocksHandshake http;
  EXPECT_EQ(http.add("GET / HTTP/1.1\r\n"), State::failed);
  SocksHandshake endless;
  EXPECT_EQ(endless.add("\x04\x01\x00\x50\x0a\x00\x00\x07"s + std::string(2000, 'x')),
            State::failed);
}

}  // namespace
}  // namespace xenlane::bridge

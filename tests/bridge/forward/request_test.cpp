// The lines of docs/forward.md: what is written is read, and nothing else is.
#include "bridge/forward/request.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace xenlane::bridge {
namespace {

using ::testing::HasSubstr;

const std::string token = "00112233445566778899aabbccddeeff";

ForwardAddress address_of(const char* uri) {
  return *ForwardAddress::parse(uri, true);
}

std::string without_newline(std::string line) {
  EXPECT_EQ(line.back(), '\n');
  line.pop_back();
  return line;
}

TEST(ForwardRequest, IsReadAsItIsWritten) {
  const ForwardRequest all[] = {ForwardConnect{address_of("tcp:[::1]:22")},
                                ForwardConnect{address_of("unix:/run/a b")}, ForwardTake{token},
                                ForwardControl{}};
  for (const auto& one : all) {
    EXPECT_EQ(*parse_forward_request(without_newline(format_forward(one))), one);
  }
  EXPECT_EQ(format_forward(all[0]), "forward/1 connect tcp:[::1]:22\n");
}

TEST(ForwardRequest, OfAnotherVersionIsToldApart) {
  EXPECT_EQ(parse_forward_request("forward/2 connect tcp:a:1").error().error, EPROTONOSUPPORT);
  EXPECT_EQ(parse_forward_request("GET / HTTP/1.1").error().error, EPROTO);
  EXPECT_EQ(parse_forward_request("forward/1 connect tcp:127.1:1").error().error, EINVAL);
  for (const char* line :
       {"", "forward/1", "forward/1 ", "forward/1 control x", "forward/1 take", "forward/1 take 00",
        "forward/1 Connect tcp:a:1", "forward/1  control"}) {
    EXPECT_FALSE(parse_forward_request(line)) << line;
  }
}

TEST(ForwardAnswer, IsReadAsItIsWritten) {
  const ForwardAnswer all[] = {{}, {token, {}}, {{}, ForwardError{ECONNREFUSED, "tcp:a:1: no"}}};
  for (const auto& one : all) {
    EXPECT_EQ(*parse_forward_answer(without_newline(format_forward(one))), one);
  }
  for (const char* line : {"", "ok ", "ok x", "error", "error x y", "error 0 text", "error 5000 t",
                           "error -1 text", "OK"}) {
    if (std::string(line) == "ok ") continue;  // the same as "ok"
    EXPECT_FALSE(parse_forward_answer(line)) << line;
  }
}

TEST(ForwardAnswer, LongAndStrangeWordsStayOneShortLine) {
  const std::string line =
      format_forward(ForwardAnswer{{}, ForwardError{1, "a\nb" + std::string(1000, '\xff')}});
  EXPECT_LT(line.size(), forward_line_bytes_max);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_TRUE(parse_forward_answer(without_newline(line)));
}

TEST(ForwardOrder, IsReadAsItIsWritten) {
  const ForwardOrder all[] = {ForwardListen{7, address_of("tcp:*:80")}, ForwardUnlisten{7},
                              ForwardReset{token}, ForwardHowEnded{token}};
  for (const auto& one : all) {
    EXPECT_EQ(*parse_forward_order(without_newline(format_forward(one))), one);
  }
  for (const char* line : {"", "listen", "listen x tcp:a:1", "listen 65536 tcp:a:1", "listen 1",
                           "unlisten", "unlisten x", "reset", "reset x", "ended 1"}) {
    EXPECT_FALSE(parse_forward_order(line)) << line;
  }
}

TEST(ForwardNews, IsReadAsItIsWritten) {
  const ForwardNews all[] = {
      ForwardListening{1, {}}, ForwardListening{65535, ForwardError{EACCES, "not allowed"}},
      ForwardAccepted{2, token}, ForwardEnded{token, true}, ForwardEnded{token, false}};
  for (const auto& one : all) {
    EXPECT_EQ(*parse_forward_news(without_newline(format_forward(one))), one);
  }
  for (const char* line : {"", "listening", "listening 1", "listening 1 maybe", "listening 1 error",
                           "accepted 1", "accepted x y", "ended x clean"}) {
    EXPECT_FALSE(parse_forward_news(line)) << line;
  }
}

TEST(LineQueue, GivesWholeLinesHoweverTheyCome) {
  LineQueue lines;
  for (const char byte : std::string("one\ntwo\n")) EXPECT_TRUE(lines.add({&byte, 1}));
  EXPECT_EQ(lines.next(), "one");
  EXPECT_TRUE(lines.add("rest"));
  EXPECT_EQ(lines.next(), "two");
  EXPECT_EQ(lines.next(), std::nullopt);
  EXPECT_EQ(lines.take_rest(), "rest");
}

TEST(LineQueue, EndsAtALineThatIsTooLong) {
  const std::string longest(forward_line_bytes_max - 1, 'x');
  LineQueue lines;
  EXPECT_TRUE(lines.add(longest + "\n"));
  EXPECT_EQ(lines.next(), longest);
  EXPECT_FALSE(lines.add(longest + "x\nshort\n"));
  EXPECT_EQ(lines.next(), std::nullopt);
}

// What follows an answer is the connection's, and may be long and without a newline.
TEST(LineQueue, WhatFollowsTheLastWantedLineMayBeLong) {
  LineQueue lines;
  lines.add("ok\n" + std::string(2000, 'x'));
  EXPECT_EQ(lines.next(), "ok");
  EXPECT_EQ(lines.take_rest().size(), 2000U);
}

}  // namespace
}  // namespace xenlane::bridge

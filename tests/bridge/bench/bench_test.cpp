// The built-in service of `xenlane bench`, what it is asked, and what is measured with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "bridge/bench/arrival_meter.hpp"
#include "bridge/bench/request.hpp"
#include "bridge/bench/service.hpp"
#include "bridge/cli/bench/measure.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;
using Kind = BenchRequest::Kind;
using testing::HasSubstr;

TEST(BenchRequest, WhatIsWrittenIsRead) {
  const BenchRequest requests[] = {{Kind::echo, 0ms, 0ms, 0, 0},
                                   {Kind::sink, 50ms, 200ms, 0, 0},
                                   {Kind::source, 0ms, 0ms, 65536, 4096},
                                   {Kind::usage, 0ms, 0ms, 0, 0}};
  for (const BenchRequest& request : requests) {
    std::string line = format_bench_request(request);
    EXPECT_LE(line.size(), bench_request_bytes_max);
    ASSERT_EQ(line.back(), '\n');
    line.pop_back();
    const auto read = parse_bench_request(line);
    ASSERT_TRUE(read) << line;
    EXPECT_TRUE(*read == request) << line;
  }
}

TEST(BenchRequest, AnythingElseIsRefused) {
  for (const char* line :
       {"", "echo ", "echo 1", "Echo", "sink", "sink 1", "sink 1 0", "sink -1 5", "sink 1 60001",
        "sink 1 2 3", "sink 1  2", "source 0 0", "source 1048577 0", "source 1 4194305", "source 1",
        "source 1 0 0", "source 1x 0", "usage 1", "\xff\x00"}) {
    EXPECT_FALSE(parse_bench_request(line)) << line;
  }
}

constexpr ArrivalMeter::Time start{1000s};

TEST(ArrivalMeter, CountsBetweenTwoArrivalsBehindTheWarmUp) {
  ArrivalMeter meter(100ms, 1s);
  EXPECT_TRUE(meter.add(1'000'000, start)) << "lay in a buffer";
  EXPECT_TRUE(meter.add(50, start + 99ms));
  EXPECT_TRUE(meter.add(70, start + 120ms)) << "the time begins with its arrival, without it";
  EXPECT_TRUE(meter.add(100, start + 620ms));
  EXPECT_FALSE(meter.add(100, start + 1120ms));
  EXPECT_EQ(meter.bytes(), 200U);
  EXPECT_EQ(meter.took(), 1s);
}

TEST(ArrivalMeter, NothingWithinTheTimeIsNoRate) {
  ArrivalMeter meter(100ms, 1s);
  EXPECT_TRUE(meter.add(100, start));
  EXPECT_EQ(meter.bytes(), 0U);
  EXPECT_EQ(meter.took(), 0s);
}

/// A service at the far end of a socket pair, in a process of its own.
class Service {
 public:
  cli::BenchPath path() {
    return {"here", [this] {
              int ends[2] = {-1, -1};
              EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
              const pid_t child = ::fork();
              if (child == 0) {
                ::close(ends[0]);
                ::_exit(serve_bench(ends[1], "{\"cpu_us\":17}"));
              }
              children_.push_back(child);
              ::close(ends[1]);
              return transport::UniqueFd(ends[0]);
            }};
  }
  ~Service() {
    for (const pid_t child : children_) {
      int status = -1;
      ::waitpid(child, &status, 0);
      EXPECT_EQ(status, 0) << "each service ends in good order, with its client";
    }
  }

 private:
  std::vector<pid_t> children_;
};

const cli::BenchTimes quick{5ms, 50ms};

std::vector<char> bytes_of(std::size_t count) {
  std::vector<char> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<char>(i * 7);
  return out;
}

TEST(BenchService, TakesGivesAndEchoesMessagesOfAnySize) {
  Service service;
  const auto path = service.path();
  const auto data = bytes_of(10'000);
  for (const std::size_t size : {std::size_t{1}, std::size_t{1000}, bench_message_bytes_max}) {
    SCOPED_TRACE(size);
    EXPECT_GT(cli::measure_to(path, size, quick, data).per_second(), 0);
    EXPECT_GT(cli::measure_from(path, size, quick, {}).per_second(), 0);
    EXPECT_GT(cli::measure_from(path, size, quick, data).per_second(), 0);
    const auto trips = cli::measure_round_trips(path, size, quick, data);
    EXPECT_GE(trips.size(), 1U);
    for (const auto ns : trips) EXPECT_GT(ns, 0U);
  }
}

TEST(BenchService, SendsTheDataThatItWasGiven) {
  Service service;
  const auto socket = service.path().connect();
  const std::string request = "source 3 5\nabcde";
  ASSERT_EQ(::send(socket.get(), request.data(), request.size(), 0),
            static_cast<ssize_t>(request.size()));
  std::string got(30, '\0');
  for (std::size_t have = 0; have < got.size();) {
    const ssize_t more = ::recv(socket.get(), got.data() + have, got.size() - have, 0);
    ASSERT_GT(more, 0);
    have += static_cast<std::size_t>(more);
  }
  EXPECT_EQ(got, "abcdeabcdeabcdeabcdeabcdeabcde");
}

TEST(BenchService, SaysWhatItsDaemonHasUsed) {
  Service service;
  EXPECT_EQ(cli::ask_usage(service.path()), "{\"cpu_us\":17}");
}

TEST(BenchMeasure, AServiceThatIsNoneIsAFailureThatNamesThePath) {
  const auto answering = [](std::string_view answer) {
    return cli::BenchPath{"elsewhere", [answer] {
                            int ends[2] = {-1, -1};
                            EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
                            EXPECT_EQ(::write(ends[1], answer.data(), answer.size()),
                                      static_cast<ssize_t>(answer.size()));
                            ::close(ends[1]);
                            return transport::UniqueFd(ends[0]);
                          }};
  };
  const auto data = bytes_of(100);
  for (const std::string_view answer : {"", "x", "x\n", "{}\n", "[]\n", "{\"bytes\":5}\n"}) {
    EXPECT_THROW(cli::measure_to(answering(answer), 10, quick, data), cli::BenchFailure) << answer;
  }
  try {
    cli::measure_from(answering(""), 10, quick, data);
    FAIL();
  } catch (const cli::BenchFailure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("elsewhere: "));
  }
}

}  // namespace
}  // namespace xenlane::bridge

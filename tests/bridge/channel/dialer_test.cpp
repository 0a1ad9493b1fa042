// What the dialer decides by itself: in which order addresses are tried, and how many dials there
// may be. That it connects is tried end to end (tests/e2e).
#include "bridge/channel/dialer.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>

#include "bridge/channel/dial_tcp.hpp"
#include "bridge/channel/listener.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/patience.hpp"
#include "transport/base/spawn.hpp"

namespace xenlane::bridge {
namespace {

using boost::asio::ip::make_address;
using boost::asio::ip::tcp;

std::vector<tcp::endpoint> endpoints(const std::vector<const char*>& addresses) {
  std::vector<tcp::endpoint> out;
  for (const char* address : addresses) out.emplace_back(make_address(address), 80);
  return out;
}

TEST(DialOrder, FamiliesTakeTurnsBeginningWithTheFirst) {
  EXPECT_EQ(in_turns(endpoints({"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"})),
            endpoints({"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"}));
  EXPECT_EQ(in_turns(endpoints({"192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"})),
            endpoints({"192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"}));
  EXPECT_EQ(in_turns(endpoints({"192.0.2.1", "192.0.2.2"})), endpoints({"192.0.2.1", "192.0.2.2"}));
  EXPECT_TRUE(in_turns({}).empty());
}

class DialerTest : public testing::Test {
 protected:
  DialResult dial(const std::string& target) {
    std::optional<DialResult> result;
    start(target, [&](DialResult got) { result = std::move(got); });
    io.restart();
    io.run();
    return std::move(*result);
  }
  void start(const std::string& target, std::function<void(DialResult)> done) {
    start(dialer, target, std::move(done));
  }
  void start(const Dialer& by, const std::string& target, std::function<void(DialResult)> done) {
    DialOrder order{*Target::parse(target)};
    order.exec_max = 1;
    boost::asio::co_spawn(
        io, by.dial(std::move(order), [this] { return wanted; }),
        [done = std::move(done)](const std::exception_ptr& exception, DialResult result) {
          transport::or_throw(exception);
          done(std::move(result));
        });
  }

  const TempDir dir;
  boost::asio::io_context io{1};
  Dialer dialer{io.get_executor(), std::chrono::milliseconds(100)};
  bool wanted = true;
};

TEST_F(DialerTest, TargetThatTakesNoMoreIsTriedUntilTheDeadline) {
  const std::string path = dir / "full";
  const auto full = listen_unix(path, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 0);
  ASSERT_TRUE(full.has_value());
  const auto first = dial("unix:" + path);
  ASSERT_TRUE(first.has_value());
  const auto begin = std::chrono::steady_clock::now();
  const auto second = dial("unix:" + path);
  ASSERT_TRUE(second.has_error());
  EXPECT_EQ(second.error().error, EAGAIN);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
  wanted = false;
  const auto again = std::chrono::steady_clock::now();
  EXPECT_TRUE(dial("unix:" + path).has_error());
  EXPECT_LT(std::chrono::steady_clock::now() - again, std::chrono::milliseconds(90))
      << "nobody wants it any more";
}

TEST_F(DialerTest, FailuresNameTheTargetButNotAProgramsArguments) {
  const auto missing = dial("unix:" + dir.path() + "/missing");
  EXPECT_EQ(missing.error().error, ENOENT);
  EXPECT_EQ(missing.error().text, "unix:" + dir.path() + "/missing: No such file or directory");
  const auto program = dial("exec:/no/such/program --password=secret");
  EXPECT_EQ(program.error().error, ENOENT);
  EXPECT_EQ(program.error().text, "exec:/no/such/program: No such file or directory");
  EXPECT_EQ(dial("builtin:bench").error().error, ENOTSUP);
}

TEST_F(DialerTest, NoMoreDialsAreUnderWayThanThereMayBe) {
  const std::string path = dir / "full";
  const auto full = listen_unix(path, 0600, static_cast<uid_t>(-1), static_cast<gid_t>(-1), 0);
  ASSERT_TRUE(full.has_value());
  const auto held = dial("unix:" + path);
  std::size_t ended = 0;
  const Dialer patient(io.get_executor(), test::patience());
  for (std::size_t i = 0; i < dials_max; ++i) {
    start(patient, "unix:" + path, [&](const DialResult&) { ++ended; });
  }
  bool refused = false;
  start(patient, "unix:" + dir.path() + "/missing", [&](const DialResult& result) {
    refused = result.has_error() && result.error().error == EAGAIN;
  });
  io.restart();
  // One by one: on a slow machine some dial is always ready for its next attempt.
  while (!refused && io.run_one() > 0) continue;
  EXPECT_TRUE(refused);
  EXPECT_EQ(ended, 0U);
  wanted = false;
  io.run();
  EXPECT_EQ(ended, dials_max);
  int error = 0;
  start(patient, "unix:" + dir.path() + "/missing",
        [&](const DialResult& result) { error = result.error().error; });
  io.restart();
  io.run();
  EXPECT_EQ(error, ENOENT) << "there is room again";
}

}  // namespace
}  // namespace xenlane::bridge

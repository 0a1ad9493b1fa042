// Services that are reached without xenlane in between.
#include "bridge/cli/bench/address.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "bridge/cli/bench/measure.hpp"

namespace xenlane::bridge::cli {
namespace {

using testing::HasSubstr;

TEST(BenchAddress, IsAUnixSocketOrTcp) {
  EXPECT_EQ(*parse_bench_address("unix:/run/a"), (BenchAddress{"/run/a", "", ""}));
  EXPECT_EQ(*parse_bench_address("tcp:10.0.0.2:9000"), (BenchAddress{"", "10.0.0.2", "9000"}));
  EXPECT_EQ(*parse_bench_address("tcp:[fe80::1]:http"), (BenchAddress{"", "fe80::1", "http"}));
  for (const char* text : {"", "unix:", "unix:a", "tcp:", "tcp:host", "tcp::80",
                           "tcp:host:", "udp:host:80", "/run/a", "host:80"}) {
    EXPECT_FALSE(parse_bench_address(text)) << text;
  }
}

/// A service in a process of its own, until SIGTERM.
class Serving {
 public:
  explicit Serving(const BenchAddress& address) : listener_(listen_at(address)) {
    child_ = ::fork();
    if (child_ == 0) ::_exit(serve_until_signal(listener_));
  }
  ~Serving() {
    ::kill(child_, SIGTERM);
    int status = 0;
    ::waitpid(child_, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), SIGTERM) << "which signal it was";
  }
  int listener() const { return listener_.get(); }

 private:
  transport::UniqueFd listener_;
  pid_t child_ = 0;
};

void measure_at(const BenchAddress& address) {
  const BenchPath path{"there", [&] { return connect_to(address); }};
  const BenchTimes quick{std::chrono::milliseconds(5), std::chrono::milliseconds(30)};
  const std::vector<char> data(1000, 'x');
  EXPECT_GT(measure_to(path, 100, quick, data).per_second(), 0);
  EXPECT_GT(measure_both(path, 100, quick, data, {}), 0);
  EXPECT_GE(measure_round_trips(path, 100, quick, data).size(), 1U);
}

TEST(BenchAddress, ServesOverAUnixSocket) {
  const std::string path = testing::TempDir() + "/bench-" + std::to_string(::getpid());
  const BenchAddress address{path, "", ""};
  {
    const Serving serving(address);
    measure_at(address);
    EXPECT_THROW(listen_at(address), BenchFailure) << "is somebody's already";
  }
  std::filesystem::remove(path);
  try {
    connect_to(address);
    FAIL();
  } catch (const BenchFailure& failure) {
    EXPECT_THAT(failure.what(), HasSubstr("unix:" + path + ": No such file"));
  }
}

TEST(BenchAddress, ServesOverTcp) {
  const Serving serving({"", "127.0.0.1", "0"});
  sockaddr_in name{};
  socklen_t size = sizeof name;
  ASSERT_EQ(::getsockname(serving.listener(), reinterpret_cast<sockaddr*>(&name), &size), 0);
  measure_at({"", "127.0.0.1", std::to_string(ntohs(name.sin_port))});
}

}  // namespace
}  // namespace xenlane::bridge::cli

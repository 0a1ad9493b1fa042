// Waiting for child processes beside everything else that an event loop does.
#include "transport/base/await_exit.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <memory>
#include <optional>

#include "transport/base/spawn.hpp"

namespace xenlane::transport {
namespace {

namespace asio = boost::asio;
using asio::posix::stream_descriptor;

/// A child that ends with `code` when it gets SIGTERM, and not before.
pid_t patient_child(int code) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int number = 0;
    sigwait(&term, &number);
    ::_exit(code);
  }
  sigprocmask(SIG_UNBLOCK, &term, nullptr);
  return child;
}

asio::awaitable<void> keep_status(asio::any_io_executor executor, pid_t child,
                                  std::optional<int>& status) {
  status = co_await await_exit(executor, child);
}

class AwaitExit : public testing::Test {
 protected:
  void await(pid_t child) {
    asio::co_spawn(loop, keep_status(loop.get_executor(), child, status), or_throw);
  }

  asio::io_context loop;
  std::optional<int> status;
};

TEST_F(AwaitExit, TellsHowTheChildEnded) {
  const pid_t child = patient_child(7);
  await(child);
  ::kill(child, SIGTERM);
  loop.run();
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 7);
}

TEST_F(AwaitExit, AChildThatHasEndedLongAgoIsReaped) {
  const pid_t child = patient_child(7);
  ::kill(child, SIGTERM);
  siginfo_t end{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &end, WEXITED | WNOWAIT), 0);
  await(child);
  loop.run();
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), -1) << "nothing is left of it";
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 7);
}

// Found as a daemon that stood still until its child ended: what woke it was news of a descriptor
// that had been closed in the same turn of the loop.
TEST_F(AwaitExit, NewsOfAnotherDescriptorDoNotStopTheLoop) {
  const pid_t child = patient_child(7);
  stream_descriptor first(loop, ::eventfd(1, EFD_CLOEXEC));
  auto second = std::make_unique<stream_descriptor>(loop, ::eventfd(1, EFD_CLOEXEC));
  const auto replace = [&](std::unique_ptr<stream_descriptor>& other) {
    if (other == nullptr || status) return;
    other.reset();
    await(child);
  };
  first.async_wait(stream_descriptor::wait_read, [&](const auto&) { replace(second); });
  second->async_wait(stream_descriptor::wait_read, [](const auto&) {});
  // The loop goes on meanwhile; a watch that fires ends the child if it did not.
  ::alarm(20);
  asio::steady_timer later(loop, std::chrono::milliseconds(20));
  later.async_wait([&](const auto&) {
    EXPECT_FALSE(status);
    ::kill(child, SIGTERM);
  });
  loop.run();
  ::alarm(0);
  ASSERT_TRUE(status);
  EXPECT_EQ(WEXITSTATUS(*status), 7);
}

TEST_F(AwaitExit, WithoutADescriptorLeftItWaitsAllTheSame) {
  rlimit usual{};
  ::getrlimit(RLIMIT_NOFILE, &usual);
  const rlimit none{0, usual.rlim_max};
  // With descriptors first: UBSan needs some to look at a type that it has not seen yet.
  for (const rlimit& limit : {usual, none}) {
    const pid_t child = patient_child(7);
    asio::steady_timer later(loop, std::chrono::milliseconds(20));
    later.async_wait([&](const auto&) { ::kill(child, SIGTERM); });
    ::setrlimit(RLIMIT_NOFILE, &limit);
    await(child);
    loop.run();
    ::setrlimit(RLIMIT_NOFILE, &usual);
    ASSERT_TRUE(status);
    EXPECT_EQ(WEXITSTATUS(*status), 7);
    loop.restart();
  }
}

}  // namespace
}  // namespace xenlane::transport

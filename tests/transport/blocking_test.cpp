// Calls that may block for ever, on threads of their own: the test decides when each returns.
#include "transport/base/blocking.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <future>
#include <vector>

namespace xenlane::transport {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// A call that blocks until it is let go.
class Stuck {
 public:
  std::function<int()> call() {
    return [released = released_] {
      released.wait();
      return 5;
    };
  }
  void let_go() { release_.set_value(); }

 private:
  std::promise<void> release_;
  std::shared_future<void> released_{release_.get_future().share()};
};

class Blocking : public testing::Test {
 protected:
  ~Blocking() override { expect_none_under_way(); }

  /// Starts a call; what became of it is in the future once run_all() has returned.
  template <typename T>
  std::future<std::optional<T>> start(std::function<T()> work, std::chrono::milliseconds deadline) {
    auto promise = std::make_shared<std::promise<std::optional<T>>>();
    auto future = promise->get_future();
    asio::co_spawn(io, run_blocking<T>(std::move(work), deadline),
                   [promise](const std::exception_ptr& error, std::optional<T> result) {
                     EXPECT_FALSE(error);
                     promise->set_value(std::move(result));
                   });
    return future;
  }
  void run_all() {
    io.restart();
    io.run();
  }
  static void expect_none_under_way() {
    EXPECT_TRUE(await_blocking_calls(20s));
  }

  asio::io_context io{1};
};

TEST_F(Blocking, ResultComesFromAThreadOfItsOwn) {
  auto got = start<std::thread::id>([] { return std::this_thread::get_id(); }, 20s);
  run_all();
  const auto thread = got.get();
  ASSERT_TRUE(thread);
  EXPECT_NE(*thread, std::this_thread::get_id());
}

TEST_F(Blocking, EventLoopGoesOnMeanwhile) {
  Stuck stuck;
  auto got = start(stuck.call(), 20s);
  asio::post(io, [&] { stuck.let_go(); });
  run_all();
  EXPECT_EQ(got.get(), 5);
}

/// Tells where it was destroyed; what was moved from tells nothing.
struct Resource {
  explicit Resource(std::promise<std::thread::id>& where) : destroyed(&where) {}
  Resource(Resource&& other) noexcept : destroyed(std::exchange(other.destroyed, nullptr)) {}
  ~Resource() {
    if (destroyed != nullptr) destroyed->set_value(std::this_thread::get_id());
  }
  std::promise<std::thread::id>* destroyed;
};

TEST_F(Blocking, WhatComesAfterTheDeadlineIsDestroyedWhereItWasMade) {
  Stuck stuck;
  std::promise<std::thread::id> destroyed;
  std::promise<std::thread::id> made;
  auto got = start<Resource>(
      [&, wait = stuck.call()] {
        wait();
        made.set_value(std::this_thread::get_id());
        return Resource(destroyed);
      },
      1ms);
  run_all();
  EXPECT_FALSE(got.get().has_value());
  EXPECT_EQ(blocking_calls_under_way(), 1) << "abandoned, not killed";
  stuck.let_go();
  EXPECT_EQ(destroyed.get_future().get(), made.get_future().get());
}

TEST_F(Blocking, WaiterThatIsDestroyedLeavesTheCallBehind) {
  Stuck stuck;
  std::promise<std::thread::id> destroyed;
  {
    asio::io_context passing{1};
    asio::co_spawn(passing,
                   run_blocking<Resource>(
                       [&, wait = stuck.call()] {
                         wait();
                         return Resource(destroyed);
                       },
                       20s),
                   [](const std::exception_ptr&, const std::optional<Resource>&) {
                     ADD_FAILURE() << "nobody is there to hear of it";
                   });
    passing.poll();
    EXPECT_EQ(blocking_calls_under_way(), 1);
  }
  stuck.let_go();
  EXPECT_NE(destroyed.get_future().get(), std::this_thread::get_id());
}

TEST_F(Blocking, WhoEndsTheProcessWaitsForThemOnlySoLong) {
  Stuck stuck;
  start(stuck.call(), 1ms);
  run_all();
  EXPECT_FALSE(await_blocking_calls(5ms));
  stuck.let_go();
  EXPECT_TRUE(await_blocking_calls(20s));
}

TEST_F(Blocking, WhatMustBeDoneIsDoneElsewhereThoughTheOthersAreStuck) {
  std::vector<Stuck> stuck(blocking_calls_max);
  for (Stuck& one : stuck) start(one.call(), 1ms);
  run_all();
  std::thread::id where = std::this_thread::get_id();
  asio::co_spawn(
      io,
      run_blocking<int>(
          [&where] {
            where = std::this_thread::get_id();
            return 1;
          },
          20s, BlockingCall::always),
      [](const std::exception_ptr&, const std::optional<int>& result) { EXPECT_EQ(result, 1); });
  run_all();
  EXPECT_NE(where, std::this_thread::get_id());
  for (Stuck& one : stuck) one.let_go();
}

TEST_F(Blocking, FewAreStuckAtOnceAndTheirPlacesComeBack) {
  std::vector<Stuck> stuck(blocking_calls_max);
  std::vector<std::future<std::optional<int>>> late;
  for (Stuck& one : stuck) late.push_back(start(one.call(), 1ms));
  run_all();
  for (auto& one : late) EXPECT_FALSE(one.get().has_value());
  bool ran = false;
  auto refused = start<int>([&] { return ran = true, 0; }, 20s);
  run_all();
  EXPECT_FALSE(refused.get().has_value());
  EXPECT_FALSE(ran) << "one thread more for each attempt would be the end of it";
  for (Stuck& one : stuck) one.let_go();
  expect_none_under_way();
  auto again = start<int>([] { return 6; }, 20s);
  run_all();
  EXPECT_EQ(again.get(), 6);
}

}  // namespace
}  // namespace xenlane::transport

// Runs a call that may block for ever (libxenvchan asks xenstored, which may be hung) on a thread
// of its own and waits for it with a deadline. A call that misses its deadline is abandoned, not
// killed: when it does return, its result is destroyed on that thread.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "transport/base/signal.hpp"

namespace xenlane::transport {

/// Threads that may be under way or stuck at once; past that a call fails as if timed out.
inline constexpr int blocking_calls_max = 4;

/// The same for looking up hosts' names, which are counted apart: a name server that does not
/// answer must not keep lanes from being made.
inline constexpr int lookups_max = 16;

inline std::atomic<int>& blocking_calls_under_way() {
  static std::atomic<int> count{0};
  return count;
}

inline std::atomic<int>& lookups_under_way() {
  static std::atomic<int> count{0};
  return count;
}

/// For who ends the process: calls that have almost returned are let finish. False when some are
/// still under way after `longest`.
inline bool await_blocking_calls(std::chrono::milliseconds longest) {
  const auto end = std::chrono::steady_clock::now() + longest;
  while (blocking_calls_under_way() != 0) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Whether a call may be turned away because too many are under way or stuck.
enum class BlockingCall : std::uint8_t {
  limited,
  lookup,  ///< limited by lookups_max instead
  always,  ///< for what must be done, and can only come after a limited call that came back
};

/// The result of `work`, or nothing when it took longer than `deadline`.
template <typename T>
boost::asio::awaitable<std::optional<T>> run_blocking(std::function<T()> work,
                                                      std::chrono::milliseconds deadline,
                                                      BlockingCall kind = BlockingCall::limited) {
  struct Shared {
    explicit Shared(const boost::asio::any_io_executor& executor) { done.emplace(executor); }
    std::mutex mutex;
    std::optional<T> result;
    /// None once the waiter has left for whatever reason, its own destruction included. It goes
    /// with the waiter because the event loop that it belongs to may not outlive that by much.
    std::optional<Signal> done;
  };
  struct Abandon {
    std::shared_ptr<Shared> shared;
    ~Abandon() {
      const std::lock_guard lock(shared->mutex);
      shared->done.reset();
    }
  };
  const bool is_lookup = kind == BlockingCall::lookup;
  std::atomic<int>& under_way = is_lookup ? lookups_under_way() : blocking_calls_under_way();
  const int others = under_way.fetch_add(1);
  if (kind != BlockingCall::always && others >= (is_lookup ? lookups_max : blocking_calls_max)) {
    under_way.fetch_sub(1);
    co_return std::nullopt;
  }
  const auto executor = co_await boost::asio::this_coro::executor;
  auto shared = std::make_shared<Shared>(executor);
  const Abandon abandon{shared};
  std::thread([shared, executor, &under_way, work = std::move(work)]() mutable {
    T result = work();
    under_way.fetch_sub(1);
    const std::lock_guard lock(shared->mutex);
    if (!shared->done) return;
    shared->result.emplace(std::move(result));
    boost::asio::post(executor, [shared] {
      if (shared->done) shared->done->raise();
    });
  }).detach();

  co_await shared->done->wait_for(deadline);
  const std::lock_guard lock(shared->mutex);
  co_return std::move(shared->result);
}

}  // namespace xenlane::transport

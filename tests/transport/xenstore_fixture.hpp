// An event loop, the xenstore client in it, and xensim's xenstored in a thread of its own.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/packaged_task.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include "transport/xensim/store/server.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::transport {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// xensim's xenstored in a thread of its own, serving domain 0 and guest 5.
class Xenstored {
 public:
  explicit Xenstored(std::filesystem::path directory) : directory_(std::move(directory)) {}
  ~Xenstored() { stop(); }

  /// Runs `action` in the server's thread and waits for it.
  template <typename Action>
  auto run(Action action) {
    using Task = std::packaged_task<std::invoke_result_t<Action, xensim::StoreServer&>()>;
    return asio::post(io_, Task([this, action] { return action(*server_); })).get();
  }

  void start() {
    io_.restart();
    work_.emplace(io_.get_executor());
    server_.emplace(io_, xensim::Quotas{});
    server_->introduce({5, "five", "uuid-5", 65536});
    for (const auto domid : std::initializer_list<xensim::Domid>{0, 5})
      server_->listen(domid, path(domid));
    thread_ = std::thread([this] { io_.run(); });
  }
  /// Closes every connection.
  void stop() {
    if (!thread_.joinable()) return;
    run([this](xensim::StoreServer&) { server_.reset(); });
    work_.reset();
    thread_.join();
  }
  std::string path(xensim::Domid domid) const {
    return (directory_ / ("domain-" + std::to_string(domid))).string();
  }

 private:
  std::filesystem::path directory_;
  asio::io_context io_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
  std::optional<xensim::StoreServer> server_;
  std::thread thread_;
};

class XenStoreClient : public testing::Test {
 protected:
  void SetUp() override {
    auto name = (std::filesystem::temp_directory_path() / "xenlane-store-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory = name;
    xenstored.emplace(directory);
  }
  void TearDown() override {
    store.reset();
    poll();
    xenstored.reset();
    std::filesystem::remove_all(directory);
  }
  void connect(xensim::Domid domid = 0, std::chrono::milliseconds deadline = 5000ms) {
    xenstored->start();
    store.emplace(io.get_executor(), xenstored->path(domid), deadline);
    ASSERT_EQ(run(store->wait_connected(5000ms)), XenStore::Error{});
  }

  /// Runs one call to its end; fails rather than hangs.
  template <typename T>
  T run(asio::awaitable<T> call) {
    std::optional<T> result;
    asio::co_spawn(io, std::move(call),
                   [&](const std::exception_ptr&, T value) { result.emplace(std::move(value)); });
    run_until([&] { return result.has_value(); });
    return result ? std::move(*result) : throw std::runtime_error("no result");
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      io.restart();
      io.run_one_for(50ms);
    }
    ASSERT_TRUE(done());
  }
  void poll() {
    io.restart();
    io.poll();
  }
  void set_mute(bool mute) {
    xenstored->run([mute](xensim::StoreServer& server) { server.set_mute(mute); });
  }
  std::optional<std::string> stored(const std::string& path) {
    return xenstored->run([&](xensim::StoreServer& server) { return server.read(path); });
  }
  /// Watches a path and counts how often it fired.
  void watch(std::string path) {
    store->watch(std::move(path), changed);
    asio::co_spawn(io, count_changes(), [](const std::exception_ptr&) {});
  }
  asio::awaitable<void> count_changes() {
    for (;;) {
      co_await changed.wait();
      ++changes;
    }
  }

  std::filesystem::path directory;
  std::optional<Xenstored> xenstored;
  asio::io_context io;
  Signal changed{io.get_executor()};
  int changes = 0;
  std::optional<XenStore> store;
};

inline XenStore::Error error(int value) {
  return {value, boost::system::generic_category()};
}

}  // namespace xenlane::transport

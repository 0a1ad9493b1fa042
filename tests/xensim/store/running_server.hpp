// A StoreServer in a thread of its own, with sockets in a directory of its own, for the tests.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/packaged_task.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <optional>
#include <string>
#include <thread>

#include "transport/xensim/store/server.hpp"

namespace xensim::test {

/// Serves domain 0 and guests 5 and 6.
class RunningServer : public testing::Test {
 protected:
  void SetUp() override {
    auto name = (std::filesystem::temp_directory_path() / "xensim-store-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    server.emplace(io_, Quotas{});
    server->introduce({5, "five", "uuid-5", 65536});
    server->introduce({6, "six", "uuid-6", 65536});
    for (const auto domid : std::initializer_list<Domid>{0, 5, 6}) {
      server->listen(domid, socket_path(domid));
    }
    thread_ = std::thread([this] { io_.run(); });
  }

  void TearDown() override {
    if (thread_.joinable()) {
      on_server([this] { server.reset(); });
      work_.reset();
      thread_.join();
    }
    std::filesystem::remove_all(directory_);
  }

  std::string socket_path(Domid domid) const {
    return (directory_ / ("domain-" + std::to_string(domid))).string();
  }

  /// Runs `action` in the server's thread and waits for it.
  template <class Action>
  std::invoke_result_t<Action> on_server(Action action) {
    using Task = std::packaged_task<std::invoke_result_t<Action>()>;
    return boost::asio::post(io_, Task(std::move(action))).get();
  }

  std::optional<StoreServer> server;  ///< only to be touched in on_server()

 private:
  std::filesystem::path directory_;
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      io_.get_executor()};
  std::thread thread_;
};

}  // namespace xensim::test

// The xenstore client against xensim's xenstored, which can fall silent and go away.
#include "transport/xenstore/client.hpp"

#include <gtest/gtest.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>

#include "transport/base/unique_fd.hpp"
#include "transport/xensim/store/server.hpp"

namespace xenlane::transport {
namespace {

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
    std::packaged_task<std::invoke_result_t<Action, xensim::StoreServer&>()> task(
        [this, action] { return action(*server_); });
    auto result = task.get_future();
    asio::post(io_, std::move(task));
    return result.get();
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

XenStore::Error error(int value) {
  return {value, boost::system::generic_category()};
}

TEST_F(XenStoreClient, WritesReadsListsAndRemoves) {
  connect(5);
  EXPECT_EQ(run(store->write("data/a", "one")), XenStore::Error{});
  EXPECT_EQ(run(store->write("data/b", std::string("two\0with zero", 13))), XenStore::Error{});
  EXPECT_EQ(run(store->read("data/a")).value(), "one");
  EXPECT_EQ(run(store->read("data/b")).value(), std::string("two\0with zero", 13));
  EXPECT_EQ(run(store->list("data")).value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(run(store->remove("data/a")), XenStore::Error{});
  EXPECT_EQ(run(store->read("data/a")).error(), error(ENOENT));
  EXPECT_EQ(stored("/local/domain/5/data/b"), std::string("two\0with zero", 13));
}

TEST_F(XenStoreClient, ErrorsAreThoseOfXenstored) {
  connect(5);
  EXPECT_EQ(run(store->read("data/none")).error(), error(ENOENT));
  EXPECT_EQ(run(store->write("/local/domain/0/x", "y")), error(EACCES));
  EXPECT_EQ(run(store->read("not//a path")).error(), error(EINVAL));
}

TEST_F(XenStoreClient, KnowsWhichDomainsLive) {
  connect();
  EXPECT_TRUE(run(store->is_introduced(5)).value());
  EXPECT_FALSE(run(store->is_introduced(77)).value());
  xenstored->run([](xensim::StoreServer& server) { server.remove(5); });
  EXPECT_FALSE(run(store->is_introduced(5)).value());
}

// In a folder of the guest's, where a node without permissions of its own would be the guest's.
TEST_F(XenStoreClient, WriteAllWritesAllWithTheirPermissions) {
  connect();
  EXPECT_EQ(run(store->write_all({{"/local/domain/5/data/a", "1", {"n0", "r5"}},
                                  {"/local/domain/5/data/b", "2", {}}})),
            XenStore::Error{});
  EXPECT_EQ(stored("/local/domain/5/data/a"), "1");
  EXPECT_EQ(stored("/local/domain/5/data/b"), "2");
  XenStore guest(io.get_executor(), xenstored->path(5), 5000ms);
  EXPECT_EQ(run(guest.wait_connected(5000ms)), XenStore::Error{});
  EXPECT_EQ(run(guest.read("data/a")).value(), "1");
  EXPECT_EQ(run(guest.write("data/a", "9")), error(EACCES));
}

TEST_F(XenStoreClient, WriteAllWithoutItsGuardWritesNothing) {
  connect();
  EXPECT_EQ(run(store->write_all({{"/local/domain/77/x", "1", {}}}, "/local/domain/77")),
            error(ENOENT));
  EXPECT_EQ(stored("/local/domain/77/x"), std::nullopt);
  EXPECT_EQ(run(store->write_all({{"/local/domain/5/x", "1", {}}}, "/local/domain/5")),
            XenStore::Error{});
  EXPECT_EQ(stored("/local/domain/5/x"), "1");
}

TEST_F(XenStoreClient, WriteAllThatFailsHalfWayWritesNothing) {
  connect(5);
  EXPECT_EQ(run(store->write_all({{"data/a", "1", {}}, {"/local/domain/0/x", "2", {}}})),
            error(EACCES));
  EXPECT_EQ(stored("/local/domain/5/data/a"), std::nullopt);
}

TEST_F(XenStoreClient, WatchFiresUpFrontAndForWhatIsBelow) {
  connect(5);
  watch("data");
  run_until([&] { return changes == 1; });
  xenstored->run(
      [](xensim::StoreServer& server) { server.write("/local/domain/5/data/deep/er", "x"); });
  run_until([&] { return changes == 2; });
}

TEST_F(XenStoreClient, SilentXenstoredIsGivenUpAtTheDeadline) {
  connect(5, 60ms);
  set_mute(true);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(run(store->read("data")).error(), error(ETIMEDOUT));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 60ms);
  set_mute(false);
  EXPECT_EQ(run(store->write("data/a", "1")), XenStore::Error{}) << "a late answer harms nobody";
}

// Each start that is answered too late leaves a transaction; a guest may have ten.
TEST_F(XenStoreClient, TransactionsThatStartTooLateAreEnded) {
  connect(5, 40ms);
  for (int i = 0; i < 15; ++i) {
    set_mute(true);
    EXPECT_EQ(run(store->write_all({{"data/a", "late", {}}})), error(ETIMEDOUT));
    set_mute(false);
    run_until([&] { return run(store->read("data")).has_value(); });
  }
  EXPECT_EQ(run(store->write_all({{"data/a", "1", {}}})), XenStore::Error{});
}

TEST_F(XenStoreClient, RequestsOfASilentXenstoredAreBounded) {
  connect(5, 300ms);
  set_mute(true);
  int timed_out = 0;
  int busy = 0;
  for (int i = 0; i < 100; ++i) {
    asio::co_spawn(io, store->read("data"),
                   [&](const std::exception_ptr&, XenStore::Result<std::string> result) {
                     timed_out += result.error() == error(ETIMEDOUT) ? 1 : 0;
                     busy += result.error() == error(EBUSY) ? 1 : 0;
                   });
  }
  run_until([&] { return timed_out + busy == 100; });
  EXPECT_EQ(timed_out, 64);
  EXPECT_EQ(busy, 36);
}

TEST_F(XenStoreClient, RequestsThatAreTooLongAreNotSent) {
  connect(5);
  EXPECT_EQ(run(store->write("data/a", std::string(4097, 'x'))), error(E2BIG));
  EXPECT_EQ(run(store->write("data/a", "1")), XenStore::Error{});
}

TEST_F(XenStoreClient, XenstoredThatGoesAndComesBackIsOutlived) {
  connect(5);
  watch("data");
  run_until([&] { return changes == 1; });
  xenstored->stop();
  run_until([&] { return !store->connected(); });
  EXPECT_NE(run(store->read("data")).error(), XenStore::Error{});
  xenstored->start();
  run_until([&] { return changes == 2; });
  EXPECT_EQ(run(store->write("data/a", "1")), XenStore::Error{});
  run_until([&] { return changes == 3; });
}

// It tries for as long as it lives, so one descriptor for each attempt would be the end of it.
TEST_F(XenStoreClient, ConnectingInVainKeepsNoDescriptors) {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const std::string path = (directory / "stale").string();  // what a dead xenstored leaves
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd stale(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(stale.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  stale.reset();
  poll();  // whatever the event loop itself opens is open
  const auto before = descriptors();
  store.emplace(io.get_executor(), path, 5000ms);
  EXPECT_EQ(run(store->wait_connected(1ms)), error(ECONNREFUSED));
  EXPECT_EQ(descriptors(), before);
}

// ENOENT is what tells that a node, and with it a domain, is gone.
TEST_F(XenStoreClient, MissingXenstoredIsNotTakenForAMissingNode) {
  store.emplace(io.get_executor(), "/nonexistent/xenstored", 5000ms);
  EXPECT_EQ(run(store->wait_connected(20ms)), error(ENOENT));
  EXPECT_EQ(run(store->read("data")).error(), error(ENOTCONN));
  EXPECT_FALSE(store->connected());
}

/// A xenstored that says whatever the test wants: answers each request by `answer`.
class FakeXenstored {
 public:
  struct Header {
    std::uint32_t type, request, transaction, size;
  };
  /// The bytes to send back; closes the connection when there are none.
  using Answer = std::function<std::string(const Header&, const std::string&)>;

  FakeXenstored(const std::string& path, Answer answer) : answer_(std::move(answer)) {
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 5), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeXenstored() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  static std::string message(std::uint32_t type, std::uint32_t request, const std::string& body,
                             std::uint32_t claimed_size) {
    const Header header{type, request, 0, claimed_size};
    return std::string(reinterpret_cast<const char*>(&header), sizeof header) + body;
  }
  static std::string message(std::uint32_t type, std::uint32_t request, const std::string& body) {
    return message(type, request, body, static_cast<std::uint32_t>(body.size()));
  }

 private:
  void serve() {
    for (;;) {
      const UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
      if (!client) return;
      Header header{};
      while (::recv(client.get(), &header, sizeof header, MSG_WAITALL) == sizeof header) {
        std::string body(header.size, '\0');
        ::recv(client.get(), body.data(), body.size(), MSG_WAITALL);
        const std::string reply = answer_(header, body);
        if (reply.empty()) break;
        ::send(client.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
      }
    }
  }
  Answer answer_;
  UniqueFd listener_;
  std::thread thread_;
};

// Types of xen/io/xs_wire.h.
constexpr std::uint32_t xs_read = 2;
constexpr std::uint32_t xs_transaction_start = 6;
constexpr std::uint32_t xs_transaction_end = 7;
constexpr std::uint32_t xs_watch_event = 15;
constexpr std::uint32_t xs_error = 16;

class XenStoreFake : public XenStoreClient {
 protected:
  void connect_to(FakeXenstored::Answer answer) {
    const std::string path = (directory / "fake").string();
    fake.emplace(path, std::move(answer));
    store.emplace(io.get_executor(), path, 2000ms);
    ASSERT_EQ(run(store->wait_connected(5000ms)), XenStore::Error{});
  }
  void TearDown() override {
    store.reset();
    poll();
    fake.reset();
    XenStoreClient::TearDown();
  }
  std::optional<FakeXenstored> fake;
};

TEST_F(XenStoreFake, TransactionIsTriedAgainOnConflictButNotForEver) {
  std::atomic<int> ends{0};
  std::atomic<int> conflicts{3};
  connect_to([&](const auto& header, const std::string&) {
    if (header.type == xs_transaction_start) {
      return FakeXenstored::message(header.type, header.request, std::string("9\0", 2));
    }
    if (header.type == xs_transaction_end && ++ends <= conflicts) {
      return FakeXenstored::message(xs_error, header.request, std::string("EAGAIN\0", 7));
    }
    return FakeXenstored::message(header.type, header.request, std::string("OK\0", 3));
  });
  EXPECT_EQ(run(store->write_all({{"a", "1", {}}})), XenStore::Error{});
  EXPECT_EQ(ends, 4);
  conflicts = 1'000'000;
  ends = 0;
  EXPECT_EQ(run(store->write_all({{"a", "1", {}}})), error(EAGAIN));
  EXPECT_EQ(ends, 20);
}

TEST_F(XenStoreFake, ReplyThatClaimsTooMuchEndsTheConnection) {
  connect_to([](const auto& header, const std::string&) {
    return FakeXenstored::message(header.type, header.request, "x", 4097);
  });
  EXPECT_EQ(run(store->read("a")).error(), error(ENOTCONN));
}

TEST_F(XenStoreFake, ConnectionThatClosesFailsWhatWaits) {
  connect_to([](const auto&, const std::string&) { return std::string(); });
  EXPECT_EQ(run(store->read("a")).error(), error(ENOTCONN));
}

TEST_F(XenStoreFake, ReplyInPiecesAndJunkAroundItDoNoHarm) {
  connect_to([](const auto& header, const std::string&) {
    using Fake = FakeXenstored;
    return Fake::message(xs_watch_event, 0, "") + Fake::message(xs_watch_event, 0, "path") +
           Fake::message(xs_watch_event, 0, std::string("path\0junk\0", 10)) +
           Fake::message(xs_watch_event, 0, std::string("path\00099999999999999999999\0", 26)) +
           Fake::message(xs_read, header.request + 1000, "for nobody") +
           Fake::message(xs_error, 0, "") + Fake::message(header.type, header.request, "value");
  });
  EXPECT_EQ(run(store->read("a")).value(), "value");
  EXPECT_EQ(run(store->read("b")).value(), "value");
}

TEST_F(XenStoreFake, UnknownErrorsAreErrorsToo) {
  connect_to([](const auto& header, const std::string& body) {
    const std::string text = body.starts_with("none") ? "" : "EWHATEVER";
    return FakeXenstored::message(xs_error, header.request, text);
  });
  EXPECT_EQ(run(store->read("a")).error(), error(EINVAL));
  EXPECT_EQ(run(store->read("none")).error(), error(EINVAL));
}

}  // namespace
}  // namespace xenlane::transport

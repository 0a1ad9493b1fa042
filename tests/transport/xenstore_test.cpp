// The xenstore client against xensim's xenstored, which can fall silent and go away.
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/support/no_descriptors.hpp"
#include "tests/transport/xenstore_fixture.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::transport {
namespace {

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

TEST_F(XenStoreClient, TellsWhoMayDoWhatWithANode) {
  connect();
  EXPECT_EQ(run(store->write_all({{"/local/domain/5/x", "1", {"n0", "r5"}}})), XenStore::Error{});
  EXPECT_EQ(run(store->permissions("/local/domain/5/x")).value(),
            (std::vector<std::string>{"n0", "r5"}));
  EXPECT_EQ(run(store->permissions("/local/domain/5/y")).error(), error(ENOENT));
}

TEST_F(XenStoreClient, ATrialOfWritesLeavesNothingAndEndsItsTransaction) {
  connect(5);
  // More often than a guest may have transactions.
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(run(store->try_writes({{"data/t/a", "1", {}}, {"data/t/b", "2", {}}})),
              XenStore::Error{});
  }
  EXPECT_EQ(stored("/local/domain/5/data/t"), std::nullopt);
  EXPECT_EQ(run(store->try_writes({{"/local/domain/0/x", "1", {}}})), error(EACCES));
}

TEST_F(XenStoreClient, ATrialMeetsTheQuotaOfNodes) {
  connect(5);
  int made = 0;
  while (run(store->write("data/n" + std::to_string(made), "")) == XenStore::Error{}) ++made;
  EXPECT_GT(made, 100);
  EXPECT_EQ(run(store->try_writes({{"data/t", "1", {}}})), error(ENOSPC));
  EXPECT_EQ(run(store->remove("data/n0")), XenStore::Error{});
  EXPECT_EQ(run(store->try_writes({{"data/t", "1", {}}})), XenStore::Error{});
}

TEST_F(XenStoreClient, ATrialMeetsTheQuotaOfWatchesAndLeavesNone) {
  connect(5);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(run(store->try_watch("data")), XenStore::Error{});
  for (int i = 0; i < 200; ++i) store->watch("data/w" + std::to_string(i), changed);
  EXPECT_EQ(run(store->try_watch("data")), error(E2BIG));
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

// What a transaction's late answer would have to be remembered for is bounded too.
TEST_F(XenStoreClient, XenstoredThatAnswersNoTransactionIsConnectedToAnew) {
  connect(5, 1ms);
  set_mute(true);
  int refused = 0;
  while (store->connected() && refused < 1000) {
    EXPECT_EQ(run(store->write_all({{"data/a", "1", {}}})), error(ETIMEDOUT));
    ++refused;
  }
  EXPECT_EQ(refused, 65);
  set_mute(false);
  EXPECT_EQ(run(store->wait_connected(5000ms)), XenStore::Error{});
  // A millisecond may be too short at times.
  bool written = false;
  run_until([&] {
    written = written || run(store->write_all({{"data/a", "1", {}}})) == XenStore::Error{};
    return written;
  });
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

}  // namespace
}  // namespace xenlane::transport

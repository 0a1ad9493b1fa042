// Transactions: what they see, when they are refused, when their events fire.
#include "tests/xensim/store/world.hpp"

namespace xensim::test {
namespace {

class StoreTransaction : public World {
 protected:
  using World::World;
};

TEST_F(StoreTransaction, KeepsItsChangesToItselfUntilCommit) {
  const auto tx = begin(five);
  EXPECT_EQ(write(five, "data/key", "v", tx), ok());
  EXPECT_EQ(read(five, "data/key", tx), success("v"));
  EXPECT_EQ(list(five, "data", tx), success(strings({"key"})));
  EXPECT_EQ(read(five, "data/key"), failure("ENOENT"));
  EXPECT_EQ(list(five, "data"), success(""));
  EXPECT_EQ(commit(five, tx), ok());
  EXPECT_EQ(read(five, "data/key"), success("v"));
  EXPECT_EQ(list(five, "data"), success(strings({"key"})));
}

TEST_F(StoreTransaction, LeavesNothingWhenAborted) {
  const auto nodes = store.usage(5).nodes;
  const auto tx = begin(five);
  write(five, "data/a/b", "v", tx);
  rm(five, "error", tx);
  EXPECT_EQ(abort(five, tx), ok());
  EXPECT_EQ(read(five, "data/a"), failure("ENOENT"));
  EXPECT_EQ(read(five, "error"), success(""));
  EXPECT_EQ(store.usage(5).nodes, nodes);
  EXPECT_EQ(store.usage(5).transactions, 0U);
}

TEST_F(StoreTransaction, SeesANodeAsItFirstSawIt) {
  write(five, "data/key", "old");
  const auto tx = begin(host);
  EXPECT_EQ(read(host, "/local/domain/5/data/key", tx), success("old"));
  write(five, "data/key", "new");
  EXPECT_EQ(read(host, "/local/domain/5/data/key", tx), success("old"));
  EXPECT_EQ(abort(host, tx), ok());
}

TEST_F(StoreTransaction, IsRefusedWhenANodeItReadHasChanged) {
  write(five, "data/key", "old");
  const auto tx = begin(five);
  read(five, "data/key", tx);
  write(five, "data/other", "v", tx);
  write(five, "data/key", "new");
  EXPECT_EQ(commit(five, tx), failure("EAGAIN"));
  EXPECT_EQ(read(five, "data/other"), failure("ENOENT"));
  EXPECT_EQ(commit(five, tx), failure("ENOENT"));
}

TEST_F(StoreTransaction, IsRefusedWhenANodeItReadWasRemoved) {
  write(five, "data/key", "v");
  const auto tx = begin(five);
  read(five, "data/key", tx);
  rm(five, "data/key");
  EXPECT_EQ(commit(five, tx), failure("EAGAIN"));
}

TEST_F(StoreTransaction, IsRefusedWhenANodeItMissedWasMade) {
  const auto tx = begin(five);
  EXPECT_EQ(read(five, "data/key", tx), failure("ENOENT"));
  write(five, "data/key", "v");
  EXPECT_EQ(commit(five, tx), failure("EAGAIN"));
}

TEST_F(StoreTransaction, IsRefusedWhenANodeWasRemovedAndMadeAgain) {
  write(five, "data/key", "v");
  const auto tx = begin(five);
  read(five, "data/key", tx);
  rm(five, "data/key");
  write(five, "data/key", "v");
  EXPECT_EQ(commit(five, tx), failure("EAGAIN"));
}

TEST_F(StoreTransaction, OfTwoThatWriteTheSameNodeTheSecondIsRefused) {
  write(five, "data/key", "old");
  const auto first = begin(five);
  const auto second = begin(host);
  EXPECT_EQ(write(five, "data/key", "1", first), ok());
  EXPECT_EQ(write(host, "/local/domain/5/data/key", "2", second), ok());
  EXPECT_EQ(commit(host, second), ok());
  EXPECT_EQ(commit(five, first), failure("EAGAIN"));
  EXPECT_EQ(read(five, "data/key"), success("2"));
}

TEST_F(StoreTransaction, OfTwoThatTouchDifferentNodesBothCommit) {
  write(five, "data/a", "old");
  write(five, "error/b", "old");
  const auto first = begin(five);
  const auto second = begin(five);
  write(five, "data/a", "1", first);
  write(five, "error/b", "2", second);
  EXPECT_EQ(commit(five, first), ok());
  EXPECT_EQ(commit(five, second), ok());
  EXPECT_EQ(read(five, "data/a"), success("1"));
  EXPECT_EQ(read(five, "error/b"), success("2"));
}

TEST_F(StoreTransaction, FiresItsEventsAtCommit) {
  write(five, "data/old/leaf", "v");
  watch(host, "/local/domain/5/data", "t");
  watch(host, "/local/domain/5/data/old/leaf", "leaf");
  new_events(host);
  const auto tx = begin(five);
  write(five, "data/new", "v", tx);
  write(five, "data/new", "w", tx);
  rm(five, "data/old", tx);
  EXPECT_THAT(new_events(host), IsEmpty());
  EXPECT_EQ(commit(five, tx), ok());
  EXPECT_THAT(new_events(host),
              ElementsAre("/local/domain/5/data/new t", "/local/domain/5/data/old t",
                          "/local/domain/5/data/old/leaf leaf"));
}

TEST_F(StoreTransaction, FiresNothingWhenItIsAbortedOrRefused) {
  watch(host, "/local/domain/5/data", "t");
  new_events(host);
  const auto aborted = begin(five);
  write(five, "data/a", "v", aborted);
  abort(five, aborted);
  EXPECT_THAT(new_events(host), IsEmpty());
  const auto refused = begin(five);
  read(five, "data/b", refused);
  write(five, "data/a", "v", refused);
  write(five, "data/b", "v");
  new_events(host);
  EXPECT_EQ(commit(five, refused), failure("EAGAIN"));
  EXPECT_THAT(new_events(host), IsEmpty());
}

TEST_F(StoreTransaction, CountsNodesOnlyAtCommit) {
  const auto nodes = store.usage(5).nodes;
  const auto tx = begin(five);
  write(five, "data/a/b", "v", tx);
  rm(five, "error", tx);
  EXPECT_EQ(store.usage(5).nodes, nodes);
  EXPECT_EQ(commit(five, tx), ok());
  EXPECT_EQ(store.usage(5).nodes, nodes + 1);
}

TEST_F(StoreTransaction, KeepsAnOwnersCountRightAcrossSetPerms) {
  const auto tx = begin(host);
  write(host, "/local/domain/5/x", "v", tx);
  set_perms(host, "/local/domain/5/x", {"n5"}, tx);
  EXPECT_EQ(commit(host, tx), ok());
  EXPECT_EQ(store.usage(5).nodes, 12U);
  EXPECT_EQ(get_perms(five, "x"), success(strings({"n5"})));
}

TEST_F(StoreTransaction, MayMakeAndRemoveTheSameNode) {
  const auto nodes = store.usage(5).nodes;
  const auto tx = begin(five);
  write(five, "data/key", "v", tx);
  rm(five, "data/key", tx);
  EXPECT_EQ(commit(five, tx), ok());
  EXPECT_EQ(read(five, "data/key"), failure("ENOENT"));
  EXPECT_EQ(store.usage(5).nodes, nodes);
}

TEST_F(StoreTransaction, IsNotNestedAndKnownOnlyToItsConnection) {
  const auto tx = begin(five);
  EXPECT_EQ(ask(five, XS_TRANSACTION_START, strings({""}), tx), failure("EBUSY"));
  EXPECT_EQ(read(store.connect(5), "name", tx), failure("ENOENT"));
  EXPECT_EQ(read(five, "name", tx + 1), failure("ENOENT"));
  EXPECT_EQ(commit(five, 0), failure("ENOENT"));
  EXPECT_EQ(ask(five, XS_TRANSACTION_END, strings({"X"}), tx), failure("EINVAL"));
  EXPECT_EQ(commit(five, tx), ok());
}

TEST_F(StoreTransaction, IsLimitedInNumberOverAllConnectionsOfAGuest) {
  const auto other = store.connect(5);
  for (int i = 0; i < 11; ++i) begin(i % 2 == 0 ? five : other);  // one above the quota, as in C
  EXPECT_EQ(ask(five, XS_TRANSACTION_START, strings({""})), failure("ENOSPC"));
  EXPECT_EQ(ask(other, XS_TRANSACTION_START, strings({""})), failure("ENOSPC"));
  store.disconnect(other);
  begin(five);
  for (int i = 0; i < 50; ++i) begin(host);
}

TEST_F(StoreTransaction, IsRefusedAfterAQuotaWasMetInIt) {
  const auto tx = begin(five);
  EXPECT_EQ(write(five, "data/key", std::string(2100, 'x'), tx), failure("ENOSPC"));
  EXPECT_EQ(commit(five, tx), failure("ENOMEM"));
  EXPECT_EQ(read(five, "data/key"), failure("ENOENT"));
}

TEST_F(StoreTransaction, IsRefusedWhenItsNodesWouldPassTheQuota) {
  for (int i = 0; store.usage(5).nodes < 998; ++i) {
    mkdir(five, "data/d" + std::to_string(i / 50) + "/n" + std::to_string(i % 50));
  }
  const auto missing = 1000 - store.usage(5).nodes;
  const auto tx = begin(five);
  for (std::size_t i = 0; i < missing; ++i) {
    EXPECT_EQ(mkdir(five, "error/n" + std::to_string(i), tx), ok());
  }
  EXPECT_EQ(commit(five, tx), failure("ENOSPC"));
  EXPECT_EQ(list(five, "error"), success(""));
}

class SmallTransaction : public StoreTransaction {
 protected:
  SmallTransaction() : StoreTransaction(Quotas{.nodes_per_transaction = 4}) {}
};

TEST_F(SmallTransaction, IsLimitedInTheNodesItTouches) {
  const auto tx = begin(five);
  EXPECT_EQ(read(five, "name", tx).error, "");
  EXPECT_EQ(read(five, "domid", tx).error, "");
  EXPECT_EQ(read(five, "data", tx).error, "");
  EXPECT_EQ(read(five, "error", tx).error, "");
  EXPECT_EQ(read(five, "name", tx).error, "");
  EXPECT_EQ(read(five, "vm", tx), failure("ENOSPC"));
  EXPECT_EQ(commit(five, tx), failure("ENOMEM"));
}

TEST_F(SmallTransaction, IsNotLimitedForTheHost) {
  const auto tx = begin(host);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(mkdir(host, "/n" + std::to_string(i), tx), ok());
  EXPECT_EQ(commit(host, tx), ok());
}

}  // namespace
}  // namespace xensim::test

// Nodes and permissions as a request sees them.
#include "tests/xensim/store/world.hpp"

namespace xensim::test {
namespace {

using Store = World;

std::string x(std::size_t count) {
  return std::string(count, 'x');
}

TEST_F(Store, HasTheNodesOfAFreshDaemon) {
  EXPECT_EQ(list(host, "/tool"), success(strings({"xenstored"})));
  EXPECT_EQ(read(host, "/local/domain/0/name"), success("Domain-0"));
  EXPECT_EQ(read(host, "/local/domain/0/domid"), success("0"));
  EXPECT_EQ(get_perms(host, "/"), success(strings({"n0"})));
}

TEST_F(Store, ResolvesRelativePathsToTheDomainsHome) {
  EXPECT_EQ(write(five, "data/key", "v"), ok());
  EXPECT_EQ(read(five, "/local/domain/5/data/key"), success("v"));
  EXPECT_EQ(read(five, "data/key"), success("v"));
  EXPECT_EQ(read(host, "name"), success("Domain-0"));
}

TEST_F(Store, KeepsBinaryValuesWhole) {
  const std::string value("a\0b\0", 4);
  EXPECT_EQ(write(five, "data/key", value), ok());
  EXPECT_EQ(read(five, "data/key"), success(value));
}

TEST_F(Store, RefusesMalformedPaths) {
  for (const auto* path : {"", "data/", "data//key", "data/a.b", "/", "@releaseDomain"}) {
    const auto expected = std::string_view(path) == "/" ? failure("EACCES") : failure("EINVAL");
    EXPECT_EQ(write(five, path, "v"), expected) << path;
  }
  EXPECT_EQ(read(host, "@releaseDomain"), failure("EINVAL"));
  EXPECT_EQ(write(host, "/" + x(2048), "v"), failure("EINVAL"));
  EXPECT_EQ(write(host, "/" + x(2047), "v"), ok());
  EXPECT_EQ(mkdir(five, "data/" + x(2044)), failure("EINVAL"));
}

TEST_F(Store, RefusesPayloadsOfTheWrongShape) {
  EXPECT_EQ(ask(host, XS_READ, "/tool"), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_READ, strings({"/tool", "more"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_WRITE, "/tool"), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_SET_PERMS, strings({"/tool"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_WATCH, strings({"/tool"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_UNWATCH, strings({"/tool"})), failure("EINVAL"));
}

TEST_F(Store, DoesNotKnowOtherRequests) {
  EXPECT_EQ(ask(host, XS_WATCH_EVENT, strings({"/"})), failure("ENOSYS"));
  EXPECT_EQ(ask(host, XS_ERROR, strings({"/"})), failure("ENOSYS"));
  EXPECT_EQ(ask(five, 4711, ""), failure("ENOSYS"));
}

TEST_F(Store, EchoesIdsInReplies) {
  const auto outcome = store.handle(host, {XS_READ, 77, 0, strings({"/tool"})});
  ASSERT_EQ(outcome.messages.size(), 1U);
  EXPECT_EQ(outcome.messages[0].to, host);
  EXPECT_EQ(outcome.messages[0].message, (Message{XS_READ, 77, 0, ""}));
  const auto refused = store.handle(host, {XS_READ, 78, 9, strings({"/tool"})});
  EXPECT_EQ(refused.messages[0].message, (Message{XS_ERROR, 78, 9, strings({"ENOENT"})}));
}

TEST_F(Store, MakesMissingParentsEmpty) {
  EXPECT_EQ(write(five, "data/a/b/c", "v"), ok());
  EXPECT_EQ(read(five, "data/a/b"), success(""));
  EXPECT_EQ(list(five, "data/a"), success(strings({"b"})));
}

TEST_F(Store, MkdirLeavesAnExistingValueAlone) {
  write(five, "data/key", "v");
  EXPECT_EQ(mkdir(five, "data/key"), ok());
  EXPECT_EQ(read(five, "data/key"), success("v"));
}

TEST_F(Store, TellsAGuestNothingOfNodesOutsideItsReach) {
  write(host, "/secret/key", "v");
  EXPECT_EQ(read(five, "/secret/key"), failure("EACCES"));
  EXPECT_EQ(read(five, "/secret/none"), failure("EACCES"));
  EXPECT_EQ(read(five, "/local/domain/6/data"), failure("EACCES"));
  EXPECT_EQ(read(five, "/local/domain/6/data/none"), failure("EACCES"));
  EXPECT_EQ(write(five, "/local/domain/6/data/key", "v"), failure("EACCES"));
  EXPECT_EQ(rm(five, "/local/domain/6/data"), failure("EACCES"));
  EXPECT_EQ(list(five, "/"), failure("EACCES"));
  EXPECT_EQ(list(five, "/libxl/5"), failure("EACCES"));
}

TEST_F(Store, SaysNoSuchNodeWhereTheNodeAboveGrantsTheRight) {
  EXPECT_EQ(read(five, "none"), failure("ENOENT"));
  EXPECT_EQ(read(five, "none/below/it"), failure("ENOENT"));
  EXPECT_EQ(read(five, "data/none"), failure("ENOENT"));
  EXPECT_EQ(read(host, "/none"), failure("ENOENT"));
  EXPECT_EQ(rm(five, "none"), failure("EACCES"));  // may read its home, not write there
}

TEST_F(Store, GivesANodeToWhomItNamesThoughTheParentIsClosed) {
  write(host, "/secret/key", "v");
  set_perms(host, "/secret/key", {"n0", "r5"});
  EXPECT_EQ(read(five, "/secret/key"), success("v"));
  EXPECT_EQ(read(six, "/secret/key"), failure("EACCES"));
  EXPECT_EQ(write(five, "/secret/key", "w"), failure("EACCES"));
}

TEST_F(Store, LetsAGuestWriteOnlyItsOwnFolders) {
  for (const auto* path :
       {"data/x", "drivers/x", "feature/x", "attr/x", "error/x", "control/shutdown",
        "control/sysrq", "control/feature-suspend", "device/suspend/event-channel"}) {
    EXPECT_EQ(write(five, path, "v"), ok()) << path;
  }
  for (const auto* path : {"name", "domid", "vm", "memory/target", "cpu/0/availability",
                           "control/x", "device/x", "x", "/vm/uuid-5/name", "/tool/x"}) {
    EXPECT_EQ(write(five, path, "v"), failure("EACCES")) << path;
  }
  for (const auto* path : {"name", "domid", "vm", "memory/target", "/vm/uuid-5/name"}) {
    EXPECT_EQ(read(five, path).error, "") << path;
  }
}

TEST_F(Store, GivesAGuestWhatItMakes) {
  set_perms(five, "data", {"n5", "r6"});
  EXPECT_EQ(write(five, "data/a/b", "v"), ok());
  EXPECT_EQ(get_perms(five, "data/a"), success(strings({"n5", "r6"})));
  EXPECT_EQ(get_perms(six, "/local/domain/5/data/a/b"), success(strings({"n5", "r6"})));
  set_perms(host, "/tool", {"b0"});
  EXPECT_EQ(write(five, "/tool/mine", "v"), ok());
  EXPECT_EQ(get_perms(five, "/tool/mine"), success(strings({"b5"})));
}

TEST_F(Store, GivesWhatTheHostMakesToTheOwnerOfTheParent) {
  write(host, "/local/domain/5/data/host", "v");
  EXPECT_EQ(get_perms(host, "/local/domain/5/data/host"), success(strings({"n5"})));
  write(host, "/local/domain/5/host", "v");
  EXPECT_EQ(get_perms(host, "/local/domain/5/host"), success(strings({"n0", "r5"})));
}

TEST_F(Store, LetsOnlyTheOwnerSetPermissionsAndOnlyTheHostTheOwner) {
  write(five, "data/key", "v");
  EXPECT_EQ(set_perms(five, "data/key", {"n5", "b6"}), ok());
  EXPECT_EQ(set_perms(six, "/local/domain/5/data/key", {"n5", "b6"}), failure("EACCES"));
  EXPECT_EQ(set_perms(five, "data/key", {"n6"}), failure("EPERM"));
  EXPECT_EQ(set_perms(five, "name", {"b0"}), failure("EACCES"));
  EXPECT_EQ(set_perms(host, "/local/domain/5/data/key", {"n6", "r5"}), ok());
  EXPECT_EQ(write(five, "data/key", "w"), failure("EACCES"));
  EXPECT_EQ(write(six, "/local/domain/5/data/key", "w"), ok());
}

TEST_F(Store, RefusesPermissionsThatMeanNothing) {
  write(five, "data/key", "v");
  EXPECT_EQ(set_perms(five, "data/key", {"q5"}), failure("EINVAL"));
  EXPECT_EQ(set_perms(five, "data/key", {"n5", "r"}), failure("EINVAL"));
  EXPECT_EQ(set_perms(host, "/local/domain/5/data/key", {"n4711"}), failure("ENOENT"));
  EXPECT_EQ(set_perms(host, "/local/domain/5/data/key", {"n65541"}), failure("ENOENT"));
  EXPECT_EQ(set_perms(five, "data/key", {"n5", "r0", "r6", "r1", "r2", "r3"}), failure("ENOSPC"));
  EXPECT_EQ(set_perms(host, "/local/domain/5/data/key", {"n5", "r0", "r6", "r1", "r2", "r3"}),
            ok());
}

TEST_F(Store, RmTakesTheWholeSubtreeWhateverItsOwners) {
  write(five, "data/a/b", "v");
  write(host, "/local/domain/5/data/a/host", "v");
  set_perms(host, "/local/domain/5/data/a/host", {"n0"});
  EXPECT_EQ(rm(five, "data/a/host"), failure("EACCES"));
  EXPECT_EQ(rm(five, "data/a"), ok());
  EXPECT_EQ(list(host, "/local/domain/5/data"), success(""));
  EXPECT_EQ(store.read("/local/domain/5/data/a/host"), std::nullopt);
  EXPECT_EQ(store.read("/local/domain/5/data/a/b"), std::nullopt);
}

TEST_F(Store, RmOfNothingSucceedsWhereTheParentExists) {
  EXPECT_EQ(rm(five, "data/none"), ok());
  EXPECT_EQ(rm(five, "data/none/none"), failure("ENOENT"));
  EXPECT_EQ(rm(host, "/none"), ok());
  EXPECT_EQ(rm(host, "/none/none"), failure("ENOENT"));
  EXPECT_EQ(rm(host, "/"), failure("EINVAL"));
}

TEST_F(Store, ListsChildrenInTheOrderOfTheirMaking) {
  for (const auto* name : {"data/z", "data/a", "data/m"}) mkdir(five, name);
  EXPECT_EQ(list(five, "data"), success(strings({"z", "a", "m"})));
  EXPECT_EQ(list(five, "data/a"), success(""));
  rm(five, "data/a");
  EXPECT_EQ(list(five, "data"), success(strings({"z", "m"})));
}

TEST_F(Store, HandsOutALongDirectoryInParts) {
  std::string all;
  for (int i = 0; i < 100; ++i) {
    const auto name = x(60) + std::to_string(i);
    mkdir(host, "/big/" + name);
    all += strings({name});
  }
  EXPECT_EQ(list(host, "/big"), failure("E2BIG"));
  std::string names;
  std::string generation;
  while (!names.ends_with(strings({"", ""}))) {
    const auto part = ask(host, XS_DIRECTORY_PART, strings({"/big", std::to_string(names.size())}));
    ASSERT_EQ(part.error, "");
    ASSERT_LE(part.payload.size(), payload_bytes_max);
    const auto seen = part.payload.substr(0, part.payload.find('\0'));
    EXPECT_TRUE(generation.empty() || generation == seen);
    generation = seen;
    names += part.payload.substr(seen.size() + 1);
    ASSERT_LE(names.size(), all.size() + 1);
  }
  EXPECT_EQ(names, all + strings({""}));
  mkdir(host, "/big/more");
  const auto past = ask(host, XS_DIRECTORY_PART, strings({"/big", "100000"}));
  EXPECT_NE(past.payload, strings({generation, ""}));
  EXPECT_EQ(split_strings(past.payload).size(), 2U);
  EXPECT_EQ(ask(host, XS_DIRECTORY_PART, strings({"/big"})), failure("EINVAL"));
}

class StoreQuota : public World {};

TEST_F(StoreQuota, BoundsTheNodesAGuestOwns) {
  const auto before = store.usage(5).nodes;
  EXPECT_EQ(before, 11U);
  Reply last = ok();
  std::size_t made = 0;
  for (std::size_t i = 0; last == ok(); ++i) {
    // Spread over folders, because one node holds only about 2 KiB of names.
    last = mkdir(five, "data/d" + std::to_string(i / 50) + "/n" + std::to_string(i % 50));
    if (last == ok()) ++made;
  }
  EXPECT_EQ(last, failure("ENOSPC"));
  EXPECT_EQ(store.usage(5).nodes, 1000U);
  EXPECT_EQ(write(five, "data/d0/n0", "still writable"), ok());
  EXPECT_EQ(mkdir(host, "/local/domain/5/data/host"), ok());
  EXPECT_EQ(mkdir(six, "data/x"), ok());
  EXPECT_EQ(rm(five, "data/d0"), ok());
  EXPECT_EQ(store.usage(5).nodes, 1001U - 51U);
  EXPECT_EQ(mkdir(five, "data/again"), ok());
  EXPECT_GT(made, 900U);
}

TEST_F(StoreQuota, LeavesNothingBehindWhenItIsMetHalfWay) {
  for (int i = 0; store.usage(5).nodes < 998; ++i) {
    mkdir(five, "data/d" + std::to_string(i / 50) + "/n" + std::to_string(i % 50));
  }
  EXPECT_EQ(mkdir(five, "error/a/b/c/d"), failure("ENOSPC"));
  EXPECT_LE(store.usage(5).nodes, 999U);
  EXPECT_EQ(list(five, "error"), success(""));
  EXPECT_EQ(read(five, "error/a"), failure("ENOENT"));
}

TEST_F(StoreQuota, BoundsTheSizeOfANode) {
  // 24 bytes of record header and 8 of its one permission count too; 2048 is too many.
  EXPECT_EQ(write(five, "data/key", x(2048 - 32)), failure("ENOSPC"));
  EXPECT_EQ(write(five, "data/key", x(2048 - 33)), ok());
  EXPECT_EQ(write(five, "data/key", x(2048 - 32)), failure("ENOSPC"));
  EXPECT_EQ(read(five, "data/key"), success(x(2048 - 33)));
  EXPECT_EQ(set_perms(five, "data/key", {"n5", "r6"}), failure("ENOSPC"));
  EXPECT_EQ(write(host, "/local/domain/5/data/key", x(4000)), ok());
}

TEST_F(StoreQuota, CountsChildNamesInTheParentsSize) {
  mkdir(five, "data/" + x(1000));
  EXPECT_EQ(mkdir(five, "data/y" + x(1020)), failure("ENOSPC"));
  EXPECT_EQ(list(five, "data"), success(strings({x(1000)})));
  EXPECT_EQ(store.usage(5).nodes, 12U);
}

TEST_F(StoreQuota, CountsANodeForItsOwner) {
  write(five, "data/key", "v");
  EXPECT_EQ(store.usage(5).nodes, 12U);
  set_perms(host, "/local/domain/5/data/key", {"n6"});
  EXPECT_EQ(store.usage(5).nodes, 11U);
  EXPECT_EQ(store.usage(6).nodes, 12U);
  rm(five, "data");
  EXPECT_EQ(store.usage(5).nodes, 10U);
  EXPECT_EQ(store.usage(6).nodes, 11U);
}

}  // namespace
}  // namespace xensim::test

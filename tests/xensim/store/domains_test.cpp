// Domains come, are asked about, and go without a trace.
#include "tests/xensim/store/world.hpp"

namespace xensim::test {
namespace {

class StoreDomain : public World {};

TEST_F(StoreDomain, IsLaidOutAsLibxlDoes) {
  const std::map<std::string, std::string> expected{
      {"/local/domain/5", strings({"n0", "r5"})},
      {"/local/domain/5/name", strings({"n0", "r5"})},
      {"/local/domain/5/domid", strings({"n0", "r5"})},
      {"/local/domain/5/vm", strings({"n0", "r5"})},
      {"/local/domain/5/cpu", strings({"n0", "r5"})},
      {"/local/domain/5/memory", strings({"n0", "r5"})},
      {"/local/domain/5/memory/target", strings({"n0", "r5"})},
      {"/local/domain/5/device", strings({"n0", "r5"})},
      {"/local/domain/5/device/suspend/event-channel", strings({"n5"})},
      {"/local/domain/5/control", strings({"n0", "r5"})},
      {"/local/domain/5/control/shutdown", strings({"n5"})},
      {"/local/domain/5/control/feature-poweroff", strings({"n5"})},
      {"/local/domain/5/control/feature-reboot", strings({"n5"})},
      {"/local/domain/5/control/feature-suspend", strings({"n5"})},
      {"/local/domain/5/control/sysrq", strings({"n5"})},
      {"/local/domain/5/data", strings({"n5"})},
      {"/local/domain/5/drivers", strings({"n5"})},
      {"/local/domain/5/feature", strings({"n5"})},
      {"/local/domain/5/attr", strings({"n5"})},
      {"/local/domain/5/error", strings({"n5"})},
      {"/vm/uuid-5", strings({"n0", "r5"})},
      {"/libxl/5", strings({"n0"})},
      {"/local/domain", strings({"n0"})},
  };
  for (const auto& [path, permissions] : expected) {
    EXPECT_EQ(get_perms(host, path), success(permissions)) << path;
  }
  EXPECT_EQ(read(five, "name"), success("five"));
  EXPECT_EQ(read(five, "domid"), success("5"));
  EXPECT_EQ(read(five, "vm"), success("/vm/uuid-5"));
  EXPECT_EQ(read(five, "/vm/uuid-5/uuid"), success("uuid-5"));
  EXPECT_EQ(read(five, "/vm/uuid-5/name"), success("five"));
  EXPECT_EQ(read(five, "memory/static-max"), success("65536"));
}

TEST_F(StoreDomain, RenamesTheHostWhenThatIsIntroduced) {
  watch(host, "@introduceDomain", "i");
  new_events(host);
  take(store.introduce({0, "the-host", "", 0}));
  EXPECT_EQ(read(host, "/local/domain/0/name"), success("the-host"));
  EXPECT_THAT(new_events(host), ElementsAre("@introduceDomain i"));
}

TEST_F(StoreDomain, StartsAfreshWhenIntroducedAgain) {
  write(five, "data/key", "v");
  take(store.introduce({5, "five", "uuid-5", 1024}));
  EXPECT_EQ(read(five, "data/key"), failure("ENOENT"));
  EXPECT_EQ(store.usage(5).nodes, 11U);
}

TEST_F(StoreDomain, GoesWithAllItsNodesWhereverTheyAre) {
  write(five, "data/key", "v");
  set_perms(host, "/tool", {"b0"});
  write(five, "/tool/mine/below", "v");
  write(host, "/tool/mine/host", "v");
  set_perms(host, "/tool/mine/host", {"n0"});
  take(store.remove(5));
  for (const auto* path : {"/local/domain/5", "/local/domain/5/data/key", "/vm/uuid-5", "/libxl/5",
                           "/tool/mine", "/tool/mine/below", "/tool/mine/host"}) {
    EXPECT_EQ(store.read(path), std::nullopt) << path;
  }
  EXPECT_EQ(list(host, "/tool"), success(strings({"xenstored"})));
  EXPECT_NE(store.read("/local/domain/6/name"), std::nullopt);
  EXPECT_EQ(store.usage(5).nodes, 0U);
}

TEST_F(StoreDomain, LosesItsConnectionsAndWatches) {
  const auto other = store.connect(5);
  watch(five, "/local/domain/5", "t");
  new_events(five);
  take(store.remove(5));
  EXPECT_THAT(new_events(five), IsEmpty());
  EXPECT_THAT(closed, ElementsAre(five, other));
  EXPECT_EQ(store.usage(5).watches, 0U);
  for (const auto id : closed) store.disconnect(id);
  EXPECT_EQ(store.usage(5).watches, 0U);
  EXPECT_TRUE(store.handle(five, {XS_READ, 1, 0, strings({"name"})}).messages.empty());
}

TEST_F(StoreDomain, IsToldOfAsGoneAfterItsNodesWent) {
  watch(host, "/local/domain/5", "home");
  watch(host, "@releaseDomain", "r");
  new_events(host);
  take(store.remove(5));
  EXPECT_THAT(new_events(host), ElementsAre("/local/domain/5 home", "@releaseDomain r"));
}

TEST_F(StoreDomain, LeavesNoPermissionsToALaterDomainOfItsNumber) {
  write(six, "data/key", "v");
  set_perms(six, "data/key", {"n6", "r5"});
  set_perms(host, "@releaseDomain", {"n0", "r5"});
  take(store.remove(5));
  EXPECT_EQ(get_perms(six, "data/key"), success(strings({"n6"})));
  take(store.introduce({5, "later", "uuid-5b", 1024}));
  const auto later = store.connect(5);
  EXPECT_EQ(read(later, "/local/domain/6/data/key"), failure("EACCES"));
  watch(later, "@releaseDomain", "r");
  new_events(later);
  take(store.announce_release());
  EXPECT_THAT(new_events(later), IsEmpty());
}

TEST_F(StoreDomain, LeavesNoPermissionsInOpenTransactions) {
  write(six, "data/key", "v");
  set_perms(six, "data/key", {"n6", "r5"});
  const auto tx = begin(six);
  EXPECT_EQ(write(six, "data/key", "w", tx), ok());
  take(store.remove(5));
  EXPECT_EQ(commit(six, tx), ok());
  EXPECT_EQ(get_perms(six, "data/key"), success(strings({"n6"})));
}

TEST_F(StoreDomain, LeavesNoNodesInOpenTransactions) {
  const auto tx = begin(host);
  write(host, "/local/domain/5/data/key", "v", tx);
  take(store.remove(5));
  take(store.introduce({5, "later", "uuid-5b", 1024}));
  EXPECT_EQ(commit(host, tx), failure("ENOMEM"));
  EXPECT_EQ(store.read("/local/domain/5/data/key"), std::nullopt);
}

TEST_F(StoreDomain, GainsNothingFromBeingNamedBeforeItExisted) {
  write(five, "data/key", "v");
  EXPECT_EQ(set_perms(five, "data/key", {"n5", "r7"}), ok());
  EXPECT_EQ(get_perms(five, "data/key"), success(strings({"n5", "r7"})));
  take(store.introduce({7, "seven", "uuid-7", 1024}));
  EXPECT_EQ(read(store.connect(7), "/local/domain/5/data/key"), failure("EACCES"));
}

TEST_F(StoreDomain, IsIgnoredWhenItIsUnknownOrTheHost) {
  take(store.remove(0));
  take(store.remove(4711));
  EXPECT_EQ(read(host, "/local/domain/0/name"), success("Domain-0"));
  EXPECT_THAT(closed, IsEmpty());
}

TEST_F(StoreDomain, HasAPathThatAnybodyMayAskFor) {
  EXPECT_EQ(ask(five, XS_GET_DOMAIN_PATH, strings({"17"})), success(strings({"/local/domain/17"})));
  EXPECT_EQ(ask(five, XS_GET_DOMAIN_PATH, "17"), failure("EINVAL"));
}

TEST_F(StoreDomain, RequestsOfTheToolstackAreRefusedToGuests) {
  for (const auto type :
       {XS_IS_DOMAIN_INTRODUCED, XS_INTRODUCE, XS_RELEASE, XS_RESUME, XS_SET_TARGET, XS_CONTROL}) {
    EXPECT_EQ(ask(five, type, strings({"6", "5", "1"})), failure("EACCES")) << type;
  }
}

TEST_F(StoreDomain, IsAskedForByTheHost) {
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"5"})), success(strings({"T"})));
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"7"})), success(strings({"F"})));
  store.connect(7);
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"7"})), success(strings({"F"})));
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"32752"})), success(strings({"T"})));
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"65541"})), success(strings({"F"})));
}

TEST_F(StoreDomain, IsIntroducedByTheHost) {
  const auto seven = store.connect(7);
  watch(host, "@introduceDomain", "i");
  new_events(host);
  EXPECT_EQ(ask(host, XS_INTRODUCE, strings({"7", "1", "0"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_INTRODUCE, strings({"8", "1", "2"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_INTRODUCE, strings({"7", "1", "2"})), ok());
  EXPECT_THAT(new_events(host), ElementsAre("@introduceDomain i"));
  EXPECT_EQ(ask(host, XS_IS_DOMAIN_INTRODUCED, strings({"7"})), success(strings({"T"})));
  watch(seven, "@x", "t");
  EXPECT_EQ(ask(host, XS_INTRODUCE, strings({"7", "1", "2"})), ok());
  EXPECT_THAT(new_events(host), IsEmpty());
  EXPECT_EQ(store.usage(7).watches, 0U);
}

TEST_F(StoreDomain, IsReleasedByTheHost) {
  write(five, "data/key", "v");
  watch(host, "@releaseDomain", "r");
  new_events(host);
  EXPECT_EQ(ask(host, XS_RESUME, strings({"5"})), ok());
  EXPECT_EQ(ask(host, XS_RELEASE, strings({"5"})), ok());
  EXPECT_THAT(new_events(host), ElementsAre("@releaseDomain r"));
  EXPECT_THAT(closed, ElementsAre(five));
  EXPECT_EQ(store.read("/local/domain/5/data"), std::nullopt);
  EXPECT_NE(store.read("/local/domain/5/name"), std::nullopt);  // the host's; libxl removes it
  EXPECT_EQ(ask(host, XS_RELEASE, strings({"5"})), failure("ENOENT"));
  EXPECT_EQ(ask(host, XS_RESUME, strings({"5"})), failure("ENOENT"));
  EXPECT_EQ(ask(host, XS_RELEASE, strings({"0"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_RESUME, strings({"0"})), failure("EINVAL"));
}

TEST_F(StoreDomain, MayActForItsTarget) {
  write(six, "data/key", "v");
  EXPECT_EQ(ask(host, XS_SET_TARGET, strings({"5", "6"})), ok());
  EXPECT_EQ(read(five, "/local/domain/6/data/key"), success("v"));
  EXPECT_EQ(read(six, "/local/domain/5/data"), failure("EACCES"));
  take(store.remove(6));
  take(store.introduce({6, "later", "uuid-6b", 1024}));
  EXPECT_EQ(read(five, "/local/domain/6/data"), failure("EACCES"));
  EXPECT_EQ(ask(host, XS_SET_TARGET, strings({"5", "4711"})), failure("ENOENT"));
}

TEST_F(StoreDomain, ControlKnowsFewCommands) {
  EXPECT_THAT(ask(host, XS_CONTROL, strings({"help"})).payload, testing::HasSubstr("check"));
  EXPECT_EQ(ask(host, XS_CONTROL, strings({"check"})), ok());
  EXPECT_EQ(ask(host, XS_CONTROL, strings({"print", "text"})), ok());
  EXPECT_EQ(ask(host, XS_CONTROL, strings({"live-update", "-s"})), failure("EINVAL"));
  EXPECT_EQ(ask(host, XS_CONTROL, ""), failure("EINVAL"));
}

}  // namespace
}  // namespace xensim::test

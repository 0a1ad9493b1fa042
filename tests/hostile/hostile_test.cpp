// A guest that misbehaves in every way of ways.hpp, one after another, against the real
// xenlane-host. One gtest case for each group of ways; every message names its way. The program
// ends with a line that counts them.
#include <gtest/gtest.h>

#include <ostream>

#include "tests/hostile/scene.hpp"

namespace xenlane::hostile {

/// ctest lists groups by what this prints.
void PrintTo(const Group& group, std::ostream* out) {
  *out << group.name;
}

namespace {

class HostileGuest : public ::testing::TestWithParam<Group> {
 protected:
  static void SetUpTestSuite() { scene_ = std::make_unique<Scene>(); }
  static void TearDownTestSuite() {
    scene_->finish();
    scene_.reset();
  }

  static std::unique_ptr<Scene> scene_;
};

std::unique_ptr<Scene> HostileGuest::scene_;

TEST_P(HostileGuest, IsContained) {
  for (const Way& way : GetParam().ways) scene_->try_way(way);
  scene_->check_host();
}

INSTANTIATE_TEST_SUITE_P(AllWays, HostileGuest, ::testing::ValuesIn(groups()),
                         [](const auto& group) { return std::string(group.param.name); });

// The one thing a guest can do to itself that only a new domain mends: docs/xenstore.md says why
// there is a highest epoch.
TEST(HostileGuestAlone, UsesUpItsEpochsAndIsServedAgainOnceStartedAnew) {
  using namespace tests;  // NOLINT(google-build-using-namespace): the world and its parts
  World world({"evil"});
  write_file(world.host_config_path(),
             "[timeouts]\nretry_ms_min = 1\nretry_ms_max = 1\n" + channels_of(world.host_config()));
  LogTail log(world.dir() + "/log.host");
  world.start_host();
  ASSERT_TRUE(eventually([&] { return world.worker_pid("evil") > 0; }));
  const Watched worker(world.worker_pid("evil"));
  const auto write = [&](const std::string& epoch) {
    return world.run_in("evil", {"xenstore-write", "data/xenlane/ring", epoch}).code;
  };
  ASSERT_EQ(write("999999999999"), 0);
  EXPECT_TRUE(eventually([&] { return log.count("error: evil: its epochs are used up") == 1; }))
      << log.text();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(write("999999999999"), 0);
  EXPECT_EQ(log.count("warning: evil: no vchan at "), 1U) << "tried again in vain\n" << log.text();
  EXPECT_TRUE(worker.lives());

  ASSERT_EQ(world.xensim({"destroy", "evil"}).code, 0);
  ASSERT_TRUE(eventually([&] { return !worker.lives(); }));
  ASSERT_EQ(world.xensim({"create", "evil"}).code, 0);
  world.start_guest("evil");
  EXPECT_TRUE(world.echo_works(world.host_socket("evil", "org.guest.echo"), 2 * recovery_within));
}

}  // namespace
}  // namespace xenlane::hostile

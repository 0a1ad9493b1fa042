// A guest that misbehaves in every way of ways.hpp, one after another, against the real
// xenlane-host. One gtest case for each group of ways; every message names its way. The program
// ends with a line that counts them.
#include <gtest/gtest.h>

#include "tests/hostile/scene.hpp"

namespace xenlane::hostile {
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

}  // namespace
}  // namespace xenlane::hostile

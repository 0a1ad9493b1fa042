// The memory lane in both roles.
#include "tests/conformance/lane_conformance.hpp"
#include "transport/memory/memory_lane.hpp"

namespace xenlane::transport::test {
namespace {

LaneKind memory(const std::string& name, std::size_t end) {
  const auto ends = [end](std::uint32_t ring_bytes) {
    auto [first, second] = MemoryLane::make_pair(ring_bytes);
    if (end == 1) std::swap(first, second);
    return std::pair(std::move(first), std::move(second));
  };
  return {name,
          [ends](std::uint32_t ring_bytes) {
            auto [ours, theirs] = ends(ring_bytes);
            return LanePair{std::move(ours), std::move(theirs)};
          },
          [ends, end](std::uint32_t ring_bytes) {
            auto [ours, theirs] = ends(ring_bytes);
            MemoryLaneShared& shared = ours->shared();
            return ExposedLane{std::move(ours), &shared.rings[end].producer,
                               &shared.rings[1 - end].consumer, &shared.live[1 - end],
                               std::shared_ptr<MemoryLane>(std::move(theirs))};
          }};
}

const auto kinds = testing::Values(memory("first", 0), memory("second", 1));
std::string name_of(const testing::TestParamInfo<LaneKind>& row) {
  return row.param.name;
}
INSTANTIATE_TEST_SUITE_P(Memory, LaneConformance, kinds, name_of);
INSTANTIATE_TEST_SUITE_P(Memory, LaneAgainstHostility, kinds, name_of);

TEST(MemoryLane, CountsTheWakeUpsItSends) {
  auto [ours, theirs] = MemoryLane::make_pair(small_ring);
  EXPECT_FALSE(theirs->arm(true, false));
  for (std::uint32_t i = 0; i < 10; ++i) write(*ours, pattern(1, i));
  EXPECT_EQ(ours->shared().wake_ups[1], 1U) << "one request, one wake-up";
}

}  // namespace
}  // namespace xenlane::transport::test

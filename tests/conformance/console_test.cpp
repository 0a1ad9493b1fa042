// The console lane at both ends, in text and in binary, over a socket pair in the console's place.
#include <sys/socket.h>

#include "tests/conformance/lane_conformance.hpp"
#include "transport/console/console_lane.hpp"

namespace xenlane::transport::test {
namespace {

LaneKind console(const std::string& name, ConsoleEnd our_end, bool own_device) {
  LaneKind kind;
  kind.name = name;
  kind.ring_bytes = console_ring_bytes;
  kind.carries_messages = true;
  kind.make_pair = [our_end, own_device](std::uint32_t) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    const auto their_end = our_end == ConsoleEnd::guest ? ConsoleEnd::host : ConsoleEnd::guest;
    ConsoleOptions options;
    options.own_device = own_device;
    LanePair pair;
    pair.ours = make_console_lane(*ConsolePort::make(UniqueFd(ends[0])), our_end, options);
    pair.theirs = make_console_lane(*ConsolePort::make(UniqueFd(ends[1])), their_end, options);
    // arm() tells of the opening until somebody has seen it.
    while (pair.ours->state() != LaneState::open || pair.theirs->state() != LaneState::open) {
      pair.ours->arm(false, false);
      pair.theirs->arm(false, false);
    }
    exchange(*pair.ours, *pair.theirs);
    return pair;
  };
  return kind;
}

const auto kinds = testing::Values(
    console("GuestText", ConsoleEnd::guest, false), console("HostText", ConsoleEnd::host, false),
    console("GuestBinary", ConsoleEnd::guest, true), console("HostBinary", ConsoleEnd::host, true));
INSTANTIATE_TEST_SUITE_P(Console, LaneConformance, kinds,
                         [](const auto& row) { return row.param.name; });
// It is about shared indices. tests/transport/console has the console's own.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LaneAgainstHostility);

}  // namespace
}  // namespace xenlane::transport::test

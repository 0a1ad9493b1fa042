// Lanes that cannot be had: without Xen, grants, event channels or a xenstored that answers. Each
// failure is one of its kind, names the thing, and leaves nothing spent.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>
#include <vector>

#include "tests/conformance/vchan_ends.hpp"
#include "transport/base/blocking.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::transport::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

template <typename Result>
void expect_failure(const Result& result, LaneFailureKind kind, const std::string& says) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, kind) << result.error().text;
  EXPECT_THAT(result.error().text, HasSubstr(says));
}

TEST(VchanFailure, WithoutXenTheDeviceAndItsModuleAreNamed) {
  Xen::enter(guest_domid);
  ASSERT_TRUE(probe_vchan(0, 4096).has_value());
  ASSERT_TRUE(probe_vchan_client().has_value());
  ::setenv("XENSIM_HV", "/nonexistent/hv", 1);
  const std::string says = "/dev/xen/evtchn: No such file or directory; is this a Xen domain";
  expect_failure(probe_vchan(0, 4096), LaneFailureKind::no_xen, says);
  expect_failure(probe_vchan_client(), LaneFailureKind::no_xen, says);
  expect_failure(offer_vchan({0, guest_path}), LaneFailureKind::no_xen, says);
}

/// The guest's limit of granted pages, for as long as this lives.
class GrantLimit {
 public:
  explicit GrantLimit(int pages) { set(pages); }
  ~GrantLimit() { set(1024); }
  GrantLimit(const GrantLimit&) = delete;
  GrantLimit& operator=(const GrantLimit&) = delete;

 private:
  static void set(int pages) {
    const auto done = Xen::simulator->xensim("set web gntalloc-limit " + std::to_string(pages));
    EXPECT_EQ(done.code, 0) << done.output;
  }
};

TEST(VchanFailure, FewGrantsHalveTheRingsUntilTheyFit) {
  const GrantLimit limit(2 * 4 + 1);  // two rings of 16 KiB and the page of the control words
  Xen::enter(guest_domid);
  const auto lane = offer_vchan({0, guest_path, 65536, 4096});
  ASSERT_TRUE(lane.has_value()) << lane.error().text;
  EXPECT_EQ((*lane)->send_ring_bytes(), 16384U);
  EXPECT_EQ((*lane)->receive_ring_bytes(), 16384U);
}

TEST(VchanFailure, TooFewGrantsForTheSmallestRingSaySoAndSpendNothing) {
  const GrantLimit limit(8);
  Xen::enter(guest_domid);
  const std::string says = "raise /sys/module/xen_gntalloc/parameters/limit";
  expect_failure(probe_vchan(0, 16384), LaneFailureKind::no_grants, says);
  expect_failure(offer_vchan({0, guest_path, 65536, 16384}), LaneFailureKind::no_grants, says);
  EXPECT_TRUE(probe_vchan(0, 4096).has_value());
  EXPECT_EQ(Xen::simulator->listed(guest_domid, "grants"), 0);
}

/// All event channel ports that the guest can still have.
class AllPorts {
 public:
  AllPorts() : events_(xenevtchn_open(nullptr, 0)) {
    while (events_ != nullptr && xenevtchn_bind_unbound_port(events_, 0) >= 0) ++count_;
  }
  ~AllPorts() { xenevtchn_close(events_); }
  AllPorts(const AllPorts&) = delete;
  AllPorts& operator=(const AllPorts&) = delete;
  int count() const { return count_; }

 private:
  xenevtchn_handle* events_;
  int count_ = 0;
};

TEST(VchanFailure, WithoutAnEventChannelNoSmallerRingIsTried) {
  Xen::enter(guest_domid);
  {
    const AllPorts taken;
    ASSERT_GT(taken.count(), 0);
    const std::string says = "no event channel port for domain 0: ";
    expect_failure(probe_vchan(0, 4096), LaneFailureKind::no_event_channel, says);
    expect_failure(offer_vchan({0, guest_path}), LaneFailureKind::no_event_channel, says);
  }
  EXPECT_TRUE(probe_vchan(0, 4096).has_value());
}

TEST(VchanFailure, OfferThatXenstoreDoesNotTakeNamesItsPath) {
  Xen::enter(guest_domid);
  const std::string path = "/local/domain/0/not-ours";
  expect_failure(offer_vchan({0, path, 4096, 4096}), LaneFailureKind::no_ring, path);
  EXPECT_EQ(Xen::simulator->listed(guest_domid, "grants"), 0);
}

/// A xenstored that takes connections and never says a word.
class SilentXenstored {
 public:
  SilentXenstored() : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const std::string path = Xen::simulator->dir() + "/silent";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    ::setenv("XENSTORED_PATH", path.c_str(), 1);
  }
  /// Closes all connections, those not accepted included: whoever waits is told.
  ~SilentXenstored() {
    listener_.reset();
    EXPECT_TRUE(await_blocking_calls(20s));
    ::unlink((Xen::simulator->dir() + "/silent").c_str());
  }
  SilentXenstored(const SilentXenstored&) = delete;
  SilentXenstored& operator=(const SilentXenstored&) = delete;

 private:
  UniqueFd listener_;
};

std::optional<LaneResult> result_of(boost::asio::awaitable<LaneResult> opening) {
  boost::asio::io_context io{1};
  std::optional<LaneResult> result;
  boost::asio::co_spawn(io, std::move(opening), [&](const std::exception_ptr& error, LaneResult r) {
    EXPECT_FALSE(error);
    result.emplace(std::move(r));
  });
  io.run();
  return result;
}

TEST(VchanFailure, SilentXenstoredIsGivenUpAtTheDeadline) {
  Xen::enter(0);
  const SilentXenstored silent;
  const auto attached = result_of(async_attach_vchan(guest_domid, host_path, 50ms));
  ASSERT_TRUE(attached.has_value());
  expect_failure(*attached, LaneFailureKind::timed_out,
                 std::string("attaching to the vchan at ") + host_path +
                     ": no answer within 50 ms; does xenstored answer?");
  Xen::simulator->enter(guest_domid);
  const auto offered = result_of(async_offer_vchan({0, guest_path, 4096, 4096}, 50ms));
  ASSERT_TRUE(offered.has_value());
  expect_failure(*offered, LaneFailureKind::timed_out, "offering a vchan at data/conformance: no");
}

TEST(VchanFailure, LaneIsOpenedAndClosedOnAnotherThread) {
  Xen::enter(guest_domid);
  auto offered = result_of(async_offer_vchan({0, guest_path, 4096, 4096}, 20s));
  ASSERT_TRUE(offered && offered->has_value());
  boost::asio::io_context io{1};
  boost::asio::co_spawn(io, async_close_lane(std::move(**offered), 20s),
                        [](const std::exception_ptr& error) { EXPECT_FALSE(error); });
  io.run();
  EXPECT_EQ(Xen::simulator->listed(guest_domid, "grants"), 0);
  EXPECT_EQ(Xen::simulator->listed(guest_domid, "ports"), 0);
}

}  // namespace
}  // namespace xenlane::transport::test

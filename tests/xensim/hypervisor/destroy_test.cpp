// What is left, and who is told, when a domain is destroyed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include "tests/xensim/hypervisor/handles.hpp"
#include "tests/xensim/hypervisor/simulator.hpp"

namespace xensim_test {
namespace {

TEST(Destroy, ThePeerSeesNothingAndTheDomainStaysUntilItsPagesAreUnmapped) {
  const Simulator sim("--guest a");
  const Helper guest(sim, "a", "share");
  const auto numbers = guest.read_numbers();
  ASSERT_EQ(numbers.size(), 2U);
  const Events events(sim, 0);
  const Mapper host(sim, 0);
  const std::uint32_t port = events.interdomain(1, numbers[1]);
  EXPECT_EQ(events.next(), port);
  void* mapped = xengnttab_map_grant_ref(host.get(), 1, numbers[0], PROT_READ);
  ASSERT_NE(mapped, nullptr);

  ASSERT_EQ(sim.xensim("destroy a").code, 0);
  EXPECT_EQ(static_cast<volatile char*>(mapped)[0], 1) << "no unmap notification";
  EXPECT_FALSE(events.readable()) << "no event";
  EXPECT_EQ(xenevtchn_notify(events.get(), port), 0) << "the port is unbound, notifies vanish";
  EXPECT_EQ(sim.xensim("exec 0 -- xenstore-exists /local/domain/1").code, 1);
  EXPECT_EQ(sim.listed_name(1), "(null)");
  EXPECT_EQ(xengnttab_map_grant_ref(host.get(), 1, numbers[0], PROT_READ), nullptr);

  ASSERT_EQ(xengnttab_unmap(host.get(), mapped, 1), 0);
  EXPECT_EQ(sim.listed(1, "domid"), -1) << "gone";
}

TEST(Destroy, EndsEveryProcessOfTheDomainAndOfNoOther) {
  const Simulator sim("--guest a --guest b");
  const Helper launcher(sim, "a", "share-daemon");
  ASSERT_EQ(launcher.read_numbers().size(), 2U);
  const Helper other(sim, "b", "share");
  ASSERT_EQ(other.read_numbers().size(), 2U);
  EXPECT_EQ(sim.listed(1, "grants"), 1);
  ASSERT_EQ(sim.xensim("destroy 1").code, 0);
  EXPECT_TRUE(launcher.read_numbers().empty()) << "the daemon held the pipe open";
  EXPECT_EQ(sim.listed(1, "domid"), -1);
  EXPECT_EQ(::kill(other.pid(), 0), 0);
  EXPECT_EQ(sim.listed(2, "grants"), 1);
}

TEST(Destroy, AMapperThatIsDestroyedGivesItsPagesBackInSilence) {
  const Simulator sim("--guest a");
  const Events events(sim, 0);
  const Sharer host(sim, 0);
  const std::uint32_t port = events.unbound(1);
  std::uint32_t ref = 0;
  char* shared = host.share(1, 1, &ref, true);
  ASSERT_NE(shared, nullptr);
  const Helper guest(sim, "a", "map " + std::to_string(ref) + " " + std::to_string(port));
  ASSERT_EQ(guest.read_numbers().size(), 1U);
  ASSERT_EQ(sim.xensim("destroy a").code, 0);
  EXPECT_EQ(static_cast<volatile char*>(shared)[1], 1);
  EXPECT_FALSE(events.readable());
  EXPECT_EQ(sim.listed(1, "domid"), -1);
  ASSERT_EQ(xengntshr_unshare(host.get(), shared, 1), 0);
  EXPECT_EQ(sim.listed(0, "grants"), 0);
}

TEST(Destroy, FiresReleaseDomain) {
  const Simulator sim("--guest a");
  const Outcome watched =
      shell("XENSIM_DIR=" + sim.dir() +
            " timeout 20 " XENSIM_PROGRAM
            " exec 0 -- sh -c 'xenstore-watch -n 2 @releaseDomain | { read first; " XENSIM_PROGRAM
            " destroy a; read second; echo got $second; }'");
  EXPECT_EQ(watched.output, "got @releaseDomain\n");
}

TEST(Destroy, DomidsAreNotUsedTwiceUnlessAskedFor) {
  const Simulator sim("--guest a");
  ASSERT_EQ(sim.xensim("destroy a").code, 0);
  EXPECT_EQ(sim.xensim("create a").output, "2\n");
  EXPECT_EQ(sim.xensim("create b:1").output, "1\n");
  EXPECT_EQ(sim.xensim("create c").output, "3\n");
  EXPECT_EQ(sim.xensim("create d:1").code, 1);
}

}  // namespace
}  // namespace xensim_test

// Grants through the public API of libxengnttab, across domains.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "tests/xensim/hypervisor/handles.hpp"
#include "tests/xensim/hypervisor/simulator.hpp"

namespace xensim_test {
namespace {

constexpr int read_write = PROT_READ | PROT_WRITE;

TEST(Grants, WithoutXensimEveryOpenFailsAsWithoutXen) {
  ::unsetenv("XENSIM_HV");
  errno = 0;
  EXPECT_EQ(xengntshr_open(nullptr, 0), nullptr);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(xengnttab_open(nullptr, 0), nullptr);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(xenevtchn_open(nullptr, 0), nullptr);
  EXPECT_EQ(errno, ENOENT);
}

TEST(Grants, WhatOneDomainWritesTheOtherReads) {
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  const Mapper host(sim, 0);
  std::uint32_t refs[3] = {};
  char* shared = guest.share(0, 3, refs, true);
  ASSERT_NE(shared, nullptr);
  EXPECT_EQ(shared[4096], 0) << "fresh pages are zero";
  std::strcpy(shared + 4096, "from the guest");
  auto* mapped =
      static_cast<char*>(xengnttab_map_domain_grant_refs(host.get(), 3, 1, refs, read_write));
  ASSERT_NE(mapped, nullptr);
  EXPECT_STREQ(mapped + 4096, "from the guest");
  std::strcpy(mapped + 8192, "from the host");
  EXPECT_STREQ(shared + 8192, "from the host");
  EXPECT_EQ(sim.listed(1, "grants"), 3);
  EXPECT_EQ(sim.listed(0, "mapped"), 3);
  EXPECT_EQ(xengnttab_unmap(host.get(), mapped, 3), 0);
  EXPECT_EQ(xengntshr_unshare(guest.get(), shared, 3), 0);
  EXPECT_EQ(sim.listed(1, "grants"), 0);
  EXPECT_EQ(sim.listed(0, "mapped"), 0);
}

TEST(Grants, ReferencesBelowEightAreXensOwn) {
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  std::uint32_t refs[20] = {};
  ASSERT_NE(guest.share(0, 20, refs, true), nullptr);
  for (const std::uint32_t ref : refs) EXPECT_GE(ref, 8U);
}

TEST(Grants, OnlyTheDomainAPageIsGrantedToMayMapIt) {
  const Simulator sim("--guest a --guest b");
  const Sharer guest(sim, 1);
  const Mapper other(sim, 2);
  std::uint32_t ref = 0;
  ASSERT_NE(guest.share(0, 1, &ref, true), nullptr);
  EXPECT_EQ(xengnttab_map_grant_ref(other.get(), 1, ref, PROT_READ), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(xengnttab_map_grant_ref(other.get(), 1, ref + 1, PROT_READ), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(xengnttab_map_grant_ref(other.get(), 9, ref, PROT_READ), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Grants, AReadOnlyGrantStaysReadOnly) {
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  const Mapper host(sim, 0);
  std::uint32_t ref = 0;
  char* shared = guest.share(0, 1, &ref, false);
  ASSERT_NE(shared, nullptr);
  EXPECT_EQ(xengnttab_map_grant_ref(host.get(), 1, ref, read_write), nullptr);
  EXPECT_EQ(errno, EINVAL);
  void* mapped = xengnttab_map_grant_ref(host.get(), 1, ref, PROT_READ);
  ASSERT_NE(mapped, nullptr);
  shared[7] = 'x';
  EXPECT_EQ(static_cast<char*>(mapped)[7], 'x');
  EXPECT_NE(::mprotect(mapped, 4096, read_write), 0) << "the mapper made it writable";
}

TEST(Grants, PagesOfManySharesMapSideBySideInTheOrderAsked) {
  constexpr std::uint32_t count = 300;
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  const Mapper host(sim, 0);
  std::uint32_t refs[count] = {};
  for (std::uint32_t i = 0; i < count; i += 3) {
    char* shared = guest.share(0, 3, refs + i, true);
    ASSERT_NE(shared, nullptr);
    for (std::uint32_t j = 0; j < 3; ++j) {
      const std::uint32_t number = i + j;
      std::memcpy(shared + j * 4096, &number, sizeof number);
    }
  }
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  std::reverse(order.begin(), order.end());
  std::vector<std::uint32_t> domids(count, 1);
  std::vector<std::uint32_t> wanted;
  for (const std::uint32_t i : order) wanted.push_back(refs[i]);
  auto* mapped = static_cast<char*>(
      xengnttab_map_grant_refs(host.get(), count, domids.data(), wanted.data(), PROT_READ));
  ASSERT_NE(mapped, nullptr);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint32_t number = 0;
    std::memcpy(&number, mapped + i * 4096, sizeof number);
    EXPECT_EQ(number, order[i]);
  }
  EXPECT_NE(xengnttab_unmap(host.get(), mapped, count - 1), 0) << "gntdev unmaps whole maps only";
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(xengnttab_unmap(host.get(), mapped, count), 0);
  EXPECT_EQ(sim.listed(0, "mapped"), 0);
}

TEST(Grants, AMapThatFailsHalfwayLeavesNothingMapped) {
  constexpr std::uint32_t count = 200;
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  const Mapper host(sim, 0);
  std::uint32_t refs[count] = {};
  ASSERT_NE(guest.share(0, count, refs, true), nullptr);
  refs[count - 1] = 4000;
  EXPECT_EQ(xengnttab_map_domain_grant_refs(host.get(), count, 1, refs, PROT_READ), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(sim.listed(0, "mapped"), 0);
}

TEST(Grants, SharingBeyondTheGntallocLimitFailsWithEnospc) {
  const Simulator sim("--guest a --guest b --gntalloc-limit 4");
  const Sharer guest(sim, 1);
  std::uint32_t refs[5] = {};
  EXPECT_EQ(guest.share(0, 5, refs, true), nullptr);
  EXPECT_EQ(errno, ENOSPC);
  char* three = guest.share(0, 3, refs, true);
  ASSERT_NE(three, nullptr);
  EXPECT_EQ(guest.share(0, 2, refs, true), nullptr);
  EXPECT_EQ(errno, ENOSPC);
  ASSERT_EQ(sim.xensim("set a gntalloc-limit 5").code, 0);
  EXPECT_NE(guest.share(0, 2, refs, true), nullptr);
  const Sharer other(sim, 2);
  EXPECT_NE(other.share(0, 4, refs, true), nullptr) << "each domain has a limit of its own";
}

TEST(Grants, APageThePeerStillMapsCountsUntilItIsUnmapped) {
  const Simulator sim("--guest a --gntalloc-limit 1");
  const Sharer guest(sim, 1);
  const Mapper host(sim, 0);
  std::uint32_t ref = 0;
  char* shared = guest.share(0, 1, &ref, true);
  ASSERT_NE(shared, nullptr);
  void* mapped = xengnttab_map_grant_ref(host.get(), 1, ref, PROT_READ);
  ASSERT_NE(mapped, nullptr);
  ASSERT_EQ(xengntshr_unshare(guest.get(), shared, 1), 0);
  EXPECT_EQ(guest.share(0, 1, &ref, true), nullptr);
  EXPECT_EQ(errno, ENOSPC);
  ASSERT_EQ(xengnttab_unmap(host.get(), mapped, 1), 0);
  EXPECT_NE(guest.share(0, 1, &ref, true), nullptr);
}

/// A page shared by guest 1 and mapped by domain 0, with a bound port each and both unmap
/// notifications set: byte 0 by the sharer, byte 1 by the mapper.
struct Connected {
  explicit Connected(const Simulator& sim)
      : guest_events(sim, 1), host_events(sim, 0), guest(sim, 1), host(sim, 0) {
    guest_port = guest_events.unbound(0);
    host_port = host_events.interdomain(1, guest_port);
    EXPECT_EQ(host_events.next(), host_port) << "the binder is told once";
    shared =
        static_cast<char*>(xengntshr_share_page_notify(guest.get(), 0, &ref, 1, 0, guest_port));
    mapped = static_cast<char*>(
        xengnttab_map_grant_ref_notify(host.get(), 1, ref, read_write, 1, host_port));
    shared[0] = shared[1] = 1;
  }
  Events guest_events;
  Events host_events;
  Sharer guest;
  Mapper host;
  std::uint32_t guest_port = 0;
  std::uint32_t host_port = 0;
  std::uint32_t ref = 0;
  char* shared = nullptr;
  char* mapped = nullptr;
};

TEST(UnmapNotify, UnsharingClearsTheByteAndNotifiesThePeer) {
  const Simulator sim("--guest a");
  Connected both(sim);
  ASSERT_EQ(xengntshr_unshare(both.guest.get(), both.shared, 1), 0);
  EXPECT_EQ(both.mapped[0], 0);
  EXPECT_EQ(both.mapped[1], 1);
  EXPECT_EQ(both.host_events.next(), both.host_port);
}

TEST(UnmapNotify, UnmappingClearsTheByteAndNotifiesThePeer) {
  const Simulator sim("--guest a");
  Connected both(sim);
  ASSERT_EQ(xengnttab_unmap(both.host.get(), both.mapped, 1), 0);
  EXPECT_EQ(both.shared[0], 1);
  EXPECT_EQ(both.shared[1], 0);
  EXPECT_EQ(both.guest_events.next(), both.guest_port);
}

TEST(UnmapNotify, TheEventArrivesEvenIfTheEventHandleIsClosedFirst) {
  const Simulator sim("--guest a");
  Connected both(sim);
  both.guest_events.close();
  EXPECT_FALSE(both.host_events.readable());
  both.guest.close();
  EXPECT_EQ(both.mapped[0], 0);
  EXPECT_EQ(both.host_events.next(), both.host_port);
}

TEST(UnmapNotify, IsRefusedForAPortThatDoesNotExist) {
  const Simulator sim("--guest a");
  const Sharer guest(sim, 1);
  std::uint32_t ref = 0;
  EXPECT_EQ(xengntshr_share_page_notify(guest.get(), 0, &ref, 1, 0, 77), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(sim.listed(1, "grants"), 0);
}

TEST(UnmapNotify, AKilledSharerClearsItsByteAndNotifies) {
  const Simulator sim("--guest a");
  Helper guest(sim, "a", "share");
  const auto numbers = guest.read_numbers();
  ASSERT_EQ(numbers.size(), 2U);
  const Events events(sim, 0);
  const Mapper host(sim, 0);
  const std::uint32_t port = events.interdomain(1, numbers[1]);
  EXPECT_EQ(events.next(), port);
  auto* mapped =
      static_cast<volatile char*>(xengnttab_map_grant_ref(host.get(), 1, numbers[0], PROT_READ));
  ASSERT_NE(mapped, nullptr);
  EXPECT_EQ(mapped[0], 1);
  guest.kill();
  EXPECT_EQ(events.next(), port);
  EXPECT_EQ(mapped[0], 0);
}

TEST(UnmapNotify, AKilledMapperClearsItsByteAndNotifies) {
  const Simulator sim("--guest a");
  const Events events(sim, 0);
  const Sharer host(sim, 0);
  const std::uint32_t port = events.unbound(1);
  std::uint32_t ref = 0;
  char* shared = host.share(1, 1, &ref, true);
  ASSERT_NE(shared, nullptr);
  Helper guest(sim, "a", "map " + std::to_string(ref) + " " + std::to_string(port));
  ASSERT_EQ(guest.read_numbers().size(), 1U);
  EXPECT_EQ(static_cast<volatile char*>(shared)[1], 1);
  EXPECT_EQ(sim.listed(1, "mapped"), 1);
  guest.kill();
  EXPECT_EQ(events.next(), port);
  EXPECT_EQ(static_cast<volatile char*>(shared)[1], 0);
  EXPECT_TRUE(eventually([&] { return sim.listed(1, "mapped") == 0; }));
}

}  // namespace
}  // namespace xensim_test

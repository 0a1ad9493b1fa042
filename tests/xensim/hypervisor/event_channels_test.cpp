// Event channels through the public API of libxenevtchn, across domains and processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <vector>

#include "tests/xensim/hypervisor/handles.hpp"
#include "tests/xensim/hypervisor/simulator.hpp"
#include "transport/xensim/hypervisor/port_area.hpp"

namespace xensim_test {
namespace {

struct Pair {
  explicit Pair(const Simulator& sim) : guest(sim, 1), host(sim, 0) {
    guest_port = guest.unbound(0);
    host_port = host.interdomain(1, guest_port);
    EXPECT_EQ(host.next(), host_port);
  }
  Events guest;
  Events host;
  std::uint32_t guest_port = 0;
  std::uint32_t host_port = 0;
};

TEST(EventChannels, ANotifyReachesThePeerBothWays) {
  const Simulator sim("--guest a");
  const Pair pair(sim);
  EXPECT_FALSE(pair.guest.readable());
  ASSERT_EQ(xenevtchn_notify(pair.host.get(), pair.host_port), 0);
  EXPECT_EQ(pair.guest.next(), pair.guest_port);
  ASSERT_EQ(xenevtchn_notify(pair.guest.get(), pair.guest_port), 0);
  EXPECT_EQ(pair.host.next(), pair.host_port);
  EXPECT_FALSE(pair.guest.readable());
  EXPECT_FALSE(pair.host.readable());
}

TEST(EventChannels, TheBinderIsToldOnceForNotifiesItMayHaveMissed) {
  const Simulator sim("--guest a");
  const Events guest(sim, 1);
  const Events host(sim, 0);
  const std::uint32_t guest_port = guest.unbound(0);
  EXPECT_EQ(xenevtchn_notify(guest.get(), guest_port), 0) << "lost, as nobody is bound";
  const std::uint32_t host_port = host.interdomain(1, guest_port);
  EXPECT_EQ(host.next(), host_port);
  EXPECT_FALSE(host.readable());
  EXPECT_FALSE(guest.readable());
}

TEST(EventChannels, NotifiesOfAMaskedPortWaitForItsUnmask) {
  const Simulator sim("--guest a");
  const Pair pair(sim);
  for (int i = 0; i < 5; ++i) xenevtchn_notify(pair.host.get(), pair.host_port);
  ASSERT_EQ(xenevtchn_pending(pair.guest.get()), static_cast<int>(pair.guest_port));
  EXPECT_FALSE(pair.guest.readable()) << "five notifies are one event";
  xenevtchn_notify(pair.host.get(), pair.host_port);
  EXPECT_FALSE(pair.guest.readable()) << "the port is masked";
  xenevtchn_unmask(pair.guest.get(), pair.guest_port);
  EXPECT_EQ(pair.guest.next(), pair.guest_port);
  EXPECT_FALSE(pair.guest.readable());
}

TEST(EventChannels, EveryPendingPortIsDeliveredOnce) {
  constexpr std::uint32_t count = 200;
  const Simulator sim("--guest a");
  const Events guest(sim, 1);
  const Events host(sim, 0);
  std::vector<std::uint32_t> host_ports;
  for (std::uint32_t i = 0; i < count; ++i) {
    host_ports.push_back(host.interdomain(1, guest.unbound(0)));
  }
  for (std::uint32_t i = 0; i < count; ++i) ASSERT_NE(host.next(), 0U);
  EXPECT_FALSE(host.readable());
  for (const std::uint32_t port : host_ports) xenevtchn_notify(host.get(), port);
  std::vector<bool> seen(xensim::port_limit);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t port = guest.next();
    ASSERT_NE(port, 0U);
    EXPECT_FALSE(seen[port]) << port;
    seen[port] = true;
  }
  EXPECT_FALSE(guest.readable());
}

TEST(EventChannels, ANonBlockingHandleSaysThatNothingIsPending) {
  const Simulator sim("--guest a");
  const Pair pair(sim);
  const int fd = xenevtchn_fd(pair.guest.get());
  ASSERT_EQ(::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
  EXPECT_EQ(xenevtchn_pending(pair.guest.get()), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(EventChannels, APortOfSomebodyElseCannotBeNotifiedOrUnbound) {
  const Simulator sim("--guest a");
  const Pair pair(sim);
  const Events other(sim, 1);
  EXPECT_EQ(xenevtchn_notify(other.get(), pair.guest_port), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(xenevtchn_unbind(other.get(), pair.guest_port), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(xenevtchn_notify(other.get(), xensim::port_limit), -1);
  EXPECT_EQ(errno, EINVAL);
}

TEST(EventChannels, OnlyTheDomainAPortWaitsForMayBindIt) {
  const Simulator sim("--guest a --guest b");
  const Events guest(sim, 1);
  const Events other(sim, 2);
  const Events host(sim, 0);
  const std::uint32_t port = guest.unbound(0);
  EXPECT_EQ(xenevtchn_bind_interdomain(other.get(), 1, port), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(xenevtchn_bind_interdomain(host.get(), 9, port), -1);
  EXPECT_EQ(errno, ESRCH);
  host.interdomain(1, port);
  EXPECT_EQ(xenevtchn_bind_interdomain(host.get(), 1, port), -1) << "it is bound already";
  EXPECT_EQ(errno, EINVAL);
}

TEST(EventChannels, AnEndThatLosesItsPeerHearsNothingAndMayBeBoundAgain) {
  const Simulator sim("--guest a");
  Pair pair(sim);
  ASSERT_EQ(xenevtchn_notify(pair.guest.get(), pair.guest_port), 0);
  EXPECT_EQ(pair.host.next(), pair.host_port);
  pair.host.close();
  EXPECT_FALSE(pair.guest.readable());
  EXPECT_EQ(xenevtchn_notify(pair.guest.get(), pair.guest_port), 0) << "dropped in silence";

  const Events again(sim, 0);
  const std::uint32_t new_port = again.interdomain(1, pair.guest_port);
  EXPECT_EQ(again.next(), new_port);
  ASSERT_EQ(xenevtchn_notify(pair.guest.get(), pair.guest_port), 0);
  EXPECT_EQ(again.next(), new_port) << "the notify found the new peer";
}

TEST(EventChannels, UnboundPortsAreReused) {
  const Simulator sim("--guest a");
  const Events guest(sim, 1);
  const std::uint32_t port = guest.unbound(0);
  ASSERT_EQ(xenevtchn_unbind(guest.get(), port), 0);
  EXPECT_EQ(xenevtchn_notify(guest.get(), port), -1);
  EXPECT_EQ(guest.unbound(0), port);
}

TEST(EventChannels, ADomainRunsOutOfPorts) {
  const Simulator sim("--guest a");
  const Events guest(sim, 1);
  for (std::uint32_t i = 1; i < xensim::port_limit; ++i) ASSERT_EQ(guest.unbound(0), i);
  EXPECT_EQ(xenevtchn_bind_unbound_port(guest.get(), 0), -1);
  EXPECT_EQ(errno, ENOSPC);
}

TEST(EventChannels, ARestrictedHandleBindsToItsDomainOnly) {
  const Simulator sim("--guest a --guest b");
  const Events a(sim, 1);
  const Events b(sim, 2);
  const std::uint32_t a_port = a.unbound(0);
  const std::uint32_t b_port = b.unbound(0);
  const Events host(sim, 0);
  ASSERT_EQ(xenevtchn_restrict(host.get(), 2), 0);
  EXPECT_EQ(xenevtchn_bind_interdomain(host.get(), 1, a_port), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(xenevtchn_bind_unbound_port(host.get(), 1), -1);
  EXPECT_EQ(errno, EACCES);
  EXPECT_EQ(xenevtchn_restrict(host.get(), 1), -1) << "it cannot be widened";
  EXPECT_EQ(errno, EACCES);
  EXPECT_NE(host.interdomain(2, b_port), 0U);
}

TEST(EventChannels, WhatNoKernelWithoutThemHasFailsWithEnosys) {
  const Simulator sim("--guest a");
  const Events guest(sim, 1);
  EXPECT_EQ(xenevtchn_bind_virq(guest.get(), 0), -1);
  EXPECT_EQ(errno, ENOSYS);
  EXPECT_EQ(xenevtchn_fdopen(nullptr, 0, 0), nullptr);
  EXPECT_EQ(errno, ENOSYS);
}

TEST(EventChannels, ACountWithoutAnEventDoesNotBlockItsReader) {
  const Simulator sim("--guest a");
  const Pair pair(sim);
  xensim::add_to_eventfd(xenevtchn_fd(pair.guest.get()));
  EXPECT_EQ(pair.guest.next(), pair.guest_port) << "a spurious event, as Xen has them";
  ASSERT_EQ(xenevtchn_notify(pair.host.get(), pair.host_port), 0);
  EXPECT_EQ(pair.guest.next(), pair.guest_port);
}

/// A handle's memory and eventfd without a broker, to stop a notify between its steps.
struct LonePort {
  static constexpr std::uint32_t port = 70;
  LonePort() { xensim::open_port(*area, port); }
  ~LonePort() { ::close(event_fd); }
  bool readable() const {
    pollfd waiting{event_fd, POLLIN, 0};
    return ::poll(&waiting, 1, 0) == 1;
  }
  std::unique_ptr<xensim::PortArea> area = std::make_unique<xensim::PortArea>();
  int event_fd = ::eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
};

TEST(PortArea, ANotifierKilledAfterSettingPendingIsMadeGood) {
  LonePort lone;
  lone.area->state[LonePort::port].fetch_or(xensim::port_pending);
  ASSERT_FALSE(lone.readable());
  xensim::rescue_port(*lone.area, lone.event_fd, LonePort::port);
  EXPECT_TRUE(lone.readable());
  EXPECT_EQ(xensim::take_port(*lone.area, 1), LonePort::port);
}

TEST(PortArea, ANotifierKilledAfterSettingTheReadyBitIsMadeGood) {
  LonePort lone;
  lone.area->state[LonePort::port].fetch_or(xensim::port_pending);
  lone.area->ready[LonePort::port / 64].fetch_or(std::uint64_t{1} << (LonePort::port % 64));
  ASSERT_FALSE(lone.readable());
  xensim::rescue_port(*lone.area, lone.event_fd, LonePort::port);
  EXPECT_TRUE(lone.readable());
  EXPECT_EQ(xensim::take_port(*lone.area, 1), LonePort::port);
}

TEST(PortArea, APortThatNeedsNoRescueGetsNoEventOfIt) {
  LonePort lone;
  xensim::rescue_port(*lone.area, lone.event_fd, LonePort::port);
  EXPECT_FALSE(lone.readable()) << "nothing was pending";
  xensim::notify_port(*lone.area, lone.event_fd, LonePort::port);
  xensim::rescue_port(*lone.area, lone.event_fd, LonePort::port);
  std::uint64_t count = 0;
  ASSERT_EQ(::read(lone.event_fd, &count, sizeof count), ssize_t{sizeof count});
  EXPECT_FALSE(lone.readable()) << "it was on its way already";
}

/// Runs `body` in a process of its own; it fails the test by not returning true.
class Process {
 public:
  template <typename Body>
  explicit Process(const Body& body) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(body() ? 0 : 1);
  }
  ~Process() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

 private:
  pid_t pid_;
};

/// Memory that a process and its children share.
template <typename T>
T& shared_memory() {
  void* memory =
      ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return *new (memory) T;
}

struct Counters {
  std::atomic<std::uint64_t> sent[3];
  std::atomic<std::uint32_t> port[3];
};

// Each notifier counts up, then notifies. The reader sleeps until there is an event and then reads
// the counts. A lost wake-up, or data that a wake-up does not show, leaves it short of the end with
// nothing to come.
TEST(EventChannelStress, MillionsOfNotifiesOverThreePortsLoseNoWakeUp) {
  constexpr std::uint64_t rounds = 1'000'000;
  const Simulator sim("--guest a");
  auto& counters = shared_memory<Counters>();
  const Events host(sim, 0);
  for (auto& port : counters.port) port = host.unbound(1);
  const auto notifier = [&](std::size_t which) {
    return [&, which] {
      const Events guest(sim, 1);
      const std::uint32_t port = guest.interdomain(0, counters.port[which]);
      for (std::uint64_t i = 0; i < rounds; ++i) {
        counters.sent[which].fetch_add(1, std::memory_order_relaxed);
        if (xenevtchn_notify(guest.get(), port) != 0) return false;
      }
      return true;
    };
  };
  const Process first(notifier(0));
  const Process second(notifier(1));
  const Process third(notifier(2));
  std::uint64_t seen[3] = {};
  std::uint64_t events = 0;
  while (seen[0] + seen[1] + seen[2] < 3 * rounds) {
    const std::uint32_t port = host.next();
    ASSERT_NE(port, 0U) << "a wake-up was lost after " << events << " events, at " << seen[0]
                        << ", " << seen[1] << ", " << seen[2];
    ++events;
    for (std::size_t i = 0; i < 3; ++i) {
      if (counters.port[i] == port) seen[i] = counters.sent[i].load(std::memory_order_relaxed);
    }
  }
}

// Strict turns: each side waits for the other, so the first lost wake-up stops both.
TEST(EventChannelStress, PingPongNeverStalls) {
  constexpr int rounds = 30'000;
  const Simulator sim("--guest a");
  auto& counters = shared_memory<Counters>();
  const Events host(sim, 0);
  counters.port[0] = host.unbound(1);
  const Process guest_process([&] {
    const Events guest(sim, 1);
    const std::uint32_t port = guest.interdomain(0, counters.port[0]);
    guest.next();
    for (int i = 0; i < rounds; ++i) {
      if (xenevtchn_notify(guest.get(), port) != 0 || guest.next() != port) return false;
    }
    return true;
  });
  for (int i = 0; i < rounds; ++i) {
    ASSERT_EQ(host.next(), counters.port[0]) << "round " << i;
    ASSERT_EQ(xenevtchn_notify(host.get(), counters.port[0]), 0);
  }
}

// A notifier killed between two steps of a notify must not silence the port for good.
TEST(EventChannelStress, KillingNotifiersAtRandomMomentsNeverSilencesAPort) {
  const Simulator sim("--guest a");
  const Events host(sim, 0);
  const std::uint32_t host_port = host.unbound(1);
  for (int round = 0; round < 60; ++round) {
    const pid_t victim = ::fork();
    if (victim == 0) {
      const Events guest(sim, 1);
      const std::uint32_t port = guest.interdomain(0, host_port);
      for (;;) xenevtchn_notify(guest.get(), port);
    }
    for (int i = 0; i < 20 + round; ++i) ASSERT_EQ(host.next(), host_port);
    ::kill(victim, SIGKILL);
    ::waitpid(victim, nullptr, 0);
    // Once the broker has let go of the victim's end, the port can be bound again.
    const Events guest(sim, 1);
    int port = -1;
    ASSERT_TRUE(eventually([&] {
      port = xenevtchn_bind_interdomain(guest.get(), 0, host_port);
      return port > 0;
    }));
    while (host.readable()) ASSERT_EQ(host.next(), host_port);
    ASSERT_EQ(xenevtchn_notify(guest.get(), static_cast<evtchn_port_t>(port)), 0);
    ASSERT_EQ(host.next(), host_port) << "round " << round;
  }
}

}  // namespace
}  // namespace xensim_test

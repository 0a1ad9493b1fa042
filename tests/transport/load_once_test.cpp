// How often the lane touches each shared word, and in which order, told by the processor: the
// control page is protected, so every access to it faults; the fault is noted with its address and
// direction, the page is opened for that one instruction (the trap flag), and closed again.
//
// A double fetch (XSA-155) is a property of the compiled program and not of its text, so it is
// looked for there: in each build, at its own level of optimisation, with its own sanitizer. A
// check of the disassembly would see one build only, and a type that allows a single load would
// not see a function that loads twice. x86-64 only, as the trap flag is; other processors do not
// build this program.
#include <gtest/gtest.h>
#include <signal.h>
#include <ucontext.h>

#include <optional>

#include "tests/support/mapped_lane.hpp"

namespace xenlane::transport::test {
namespace {

constexpr std::uint32_t ring_bytes = 4096;
constexpr greg_t trap_flag = 0x100;
constexpr greg_t fault_was_a_write = 2;

struct Accesses {
  int loads = 0;
  int stores = 0;
  bool operator==(const Accesses&) const = default;
};

/// Where an access comes in the order of all; zero if it did not happen.
struct Order {
  int first_load = 0;
  int first = 0;
  int last_store = 0;
};

void PrintTo(const Accesses& accesses, std::ostream* out) {
  *out << accesses.loads << " loads, " << accesses.stores << " stores";
}

/// What the handlers work on: one watched page at a time.
struct Watched {
  std::byte* page = nullptr;
  Accesses bytes[page_bytes];
  Order order[page_bytes];
  int accesses = 0;
};
Watched watched;

void handle_access(int, siginfo_t* info, void* untyped) {
  auto* const context = static_cast<ucontext_t*>(untyped);
  auto* const at = static_cast<std::byte*>(info->si_addr);
  if (at < watched.page || at >= watched.page + page_bytes) {
    ::signal(SIGSEGV, SIG_DFL);  // a real fault: again, and fatally
    return;
  }
  Accesses& accesses = watched.bytes[at - watched.page];
  Order& order = watched.order[at - watched.page];
  const bool write = (context->uc_mcontext.gregs[REG_ERR] & fault_was_a_write) != 0;
  ++(write ? accesses.stores : accesses.loads);
  const int now = ++watched.accesses;
  if (order.first == 0) order.first = now;
  if (!write && order.first_load == 0) order.first_load = now;
  if (write) order.last_store = now;
  ::mprotect(watched.page, page_bytes, PROT_READ | PROT_WRITE);
  context->uc_mcontext.gregs[REG_EFL] |= trap_flag;
}

void handle_step(int, siginfo_t*, void* untyped) {
  auto* const context = static_cast<ucontext_t*>(untyped);
  context->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
  ::mprotect(watched.page, page_bytes, PROT_NONE);
}

struct sigaction handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = handler;
  EXPECT_EQ(::sigaction(signal, &action, &before), 0);
  return before;
}

class LoadOnce : public testing::Test {
 protected:
  LoadOnce() {
    segv_before = handle(SIGSEGV, handle_access);
    trap_before = handle(SIGTRAP, handle_step);
    control = rings.control();
    lane.emplace(rings, event.get());
  }
  ~LoadOnce() override {
    ::sigaction(SIGSEGV, &segv_before, nullptr);
    ::sigaction(SIGTRAP, &trap_before, nullptr);
  }

  /// Does `work` with every access to the control page counted.
  template <typename Work>
  void watch(Work work) {
    watched = {};
    watched.page = rings.control_page();
    ASSERT_EQ(::mprotect(watched.page, page_bytes, PROT_NONE), 0);
    work();
    ASSERT_EQ(::mprotect(watched.page, page_bytes, PROT_READ | PROT_WRITE), 0);
  }
  Accesses of(const void* word) const {
    return watched.bytes[static_cast<const std::byte*>(word) - rings.control_page()];
  }
  Order order_of(const void* word) const {
    return watched.order[static_cast<const std::byte*>(word) - rings.control_page()];
  }
  int touched() const {
    int count = 0;
    for (const Accesses& accesses : watched.bytes) count += accesses != Accesses{};
    return count;
  }
  /// Something to read, something unread, room, and both cursors moved but not shown.
  void get_under_way() {
    control->receive_producer = 100;
    (void)lane->readable();
    lane->consume(10);
    (void)lane->writable();
    lane->commit(20);
  }

  MappedRings rings{ring_bytes};
  UniqueFd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::optional<MappedLane> lane;
  ControlPage* control = nullptr;
  struct sigaction segv_before {};
  struct sigaction trap_before {};
};

constexpr Accesses none{};
constexpr Accesses one_load{1, 0};
constexpr Accesses one_store{0, 1};

// The watch itself: it must see what is there.
TEST_F(LoadOnce, WatchCountsEveryLoadAndStore) {
  watch([this] {
    auto* const word = static_cast<volatile std::uint32_t*>(&control->send_consumer);
    const std::uint32_t first = *word;
    const std::uint32_t second = *word;
    *word = first + second;
  });
  EXPECT_EQ(of(&control->send_consumer), (Accesses{2, 1}));
  EXPECT_EQ(touched(), 1);
}

TEST_F(LoadOnce, ReadableLoadsThePeersProducerOnceAndNothingElse) {
  get_under_way();
  std::size_t size = 0;
  watch([&] { size = lane->readable().size(); });
  EXPECT_EQ(size, 90U);
  EXPECT_EQ(of(&control->receive_producer), one_load);
  EXPECT_EQ(touched(), 1);
}

TEST_F(LoadOnce, WritableLoadsThePeersConsumerOnceAndNothingElse) {
  get_under_way();
  std::size_t size = 0;
  watch([&] { size = lane->writable().size(); });
  EXPECT_EQ(size, ring_bytes - 20U);
  EXPECT_EQ(of(&control->send_consumer), one_load);
  EXPECT_EQ(touched(), 1);
}

TEST_F(LoadOnce, CountingLoadsThePeersConsumerOnceAndNothingElse) {
  get_under_way();
  std::size_t count = 0;
  watch([&] { count = lane->unconsumed_bytes(); });
  EXPECT_EQ(count, 20U);
  EXPECT_EQ(of(&control->send_consumer), one_load);
  EXPECT_EQ(touched(), 1);
}

TEST_F(LoadOnce, ConsumeAndCommitTouchNothing) {
  get_under_way();
  watch([this] {
    lane->consume(5);
    lane->commit(5);
  });
  EXPECT_EQ(touched(), 0);
}

// Our own indexes are never read back: the peer can write them too.
TEST_F(LoadOnce, PublishStoresOurIndexesOnceAndLoadsNone) {
  get_under_way();
  watch([this] { lane->publish(); });
  EXPECT_EQ(of(&control->receive_consumer), one_store);
  EXPECT_EQ(of(&control->send_producer), one_store);
  EXPECT_EQ(of(&control->receive_producer), none);
  EXPECT_EQ(of(&control->send_consumer), none);
  EXPECT_EQ(touched(), 3) << "and the peer's requests";
  EXPECT_EQ(control->receive_consumer, 10U);
  EXPECT_EQ(control->send_producer, 20U);
}

TEST_F(LoadOnce, PublishOfNothingTouchesNothing) {
  get_under_way();
  lane->publish();
  watch([this] { lane->publish(); });
  EXPECT_EQ(touched(), 0);
}

TEST_F(LoadOnce, ArmLoadsEachOfThePeersIndexesOnce) {
  get_under_way();
  bool awake = true;
  watch([&] { awake = lane->arm(true, true); });
  EXPECT_FALSE(awake);
  EXPECT_EQ(of(&control->receive_producer), one_load);
  EXPECT_EQ(of(&control->send_consumer), one_load);
  EXPECT_EQ(of(&control->receive_consumer), none);
  EXPECT_EQ(of(&control->send_producer), none);
  EXPECT_EQ(of(&control->peer_requests), none);
  EXPECT_EQ(touched(), 4) << "and our requests, and the peer's liveness";
  EXPECT_EQ(control->our_requests, notify_on_write | notify_on_read);
}

// The two orders between which no wake-up can be lost: one side asks and then looks again, the
// other shows and then looks who asked. Turned round, both could miss, and only once in a long
// while.
TEST_F(LoadOnce, ArmAsksBeforeItLooksAgain) {
  get_under_way();
  watch([this] { (void)lane->arm(true, true); });
  const int asked = order_of(&control->our_requests).last_store;
  ASSERT_GT(asked, 0);
  EXPECT_LT(asked, order_of(&control->receive_producer).first_load);
  EXPECT_LT(asked, order_of(&control->send_consumer).first_load);
}

TEST_F(LoadOnce, PublishShowsBeforeItLooksWhoAsked) {
  get_under_way();
  watch([this] { lane->publish(); });
  const int looked = order_of(&control->peer_requests).first;
  ASSERT_GT(looked, 0);
  EXPECT_LT(order_of(&control->receive_consumer).last_store, looked);
  EXPECT_LT(order_of(&control->send_producer).last_store, looked);
}

// After a violation there is nothing on the page that could change the lane's mind.
TEST_F(LoadOnce, StateOfAViolatedLaneIsNotAskedOfThePage) {
  control->receive_producer = ring_bytes + 1;
  (void)lane->readable();
  LaneState state{};
  watch([&] { state = lane->state(); });
  EXPECT_EQ(state, LaneState::violated);
  EXPECT_EQ(touched(), 0);
}

}  // namespace
}  // namespace xenlane::transport::test

// Misbehaviour in the shared page and the rings themselves: indexes, orders, live and notify bytes,
// grants, event channel. Protocol section 2, and what docs/architecture.md says of rings in place.
#include <atomic>
#include <thread>

#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

/// A change to the page in a session that is otherwise fine, which the host must end.
template <typename Change>
void change_page(Store& store, Change change) {
  Talk talk(store);
  talk.shake_hands();
  talk.expect_pong();
  talk.expect_pong();  // now the host has seen that this side read the first one
  change(talk.lane());
  talk.lane().wake();
  talk.lane().await_end();
}

void producer_back(Store& store) {
  change_page(store, [](Lane& lane) { lane.page().right.prod = lane.page().right.prod - 1; });
}
void producer_past_the_ring(Store& store) {
  change_page(store, [](Lane& lane) { lane.page().right.prod = lane.page().right.cons + 65537; });
}
void producer_far_away(Store& store) {
  change_page(store,
              [](Lane& lane) { lane.page().right.prod = lane.page().right.prod + (1U << 31); });
}
void consumer_back(Store& store) {
  change_page(store, [](Lane& lane) { lane.page().left.cons = 0; });
}
void consumer_past_producer(Store& store) {
  change_page(store, [](Lane& lane) { lane.page().left.cons = lane.page().left.prod + 1; });
}

/// The host keeps its own indexes; what it reads of them here it must not believe.
void hosts_indexes_changed(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  talk.expect_pong();
  talk.lane().page().right.cons = 0xdeadbeef;
  talk.lane().page().left.prod = 0x0badcafe;
  talk.lane().wake();
  // This side's own reckoning is gone with them: a frame that the host must object to ends it.
  talk.lane().put(raw_frame(15, 0, 0));
  talk.lane().show();
  talk.lane().await_end();
}

void indexes_not_at_zero(Store& store) {
  Lane lane(store);
  lane.page().right.prod = 0x80000000;
  lane.page().right.cons = 0x80000000;
  lane.open();
  lane.await_end();
}

void orders_changed(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  for (const unsigned order : {0U, 10U, 12U, 20U, 31U, 0xffffU}) {
    talk.lane().page().left_order = static_cast<std::uint16_t>(order);
    talk.lane().page().right_order = static_cast<std::uint16_t>(~order);
    talk.expect_pong();
  }
  for (std::uint32_t& grant : talk.lane().listed_grants()) grant = 0xffffffff;
  talk.expect_pong();
}

/// Another thread of the guest's writes to the page or the ring while frames go by. What comes back
/// is nobody's concern here.
template <typename Meddle>
void meddle(Talk& talk, Meddle with) {
  constexpr int frames = 2000;
  std::atomic<bool> stop{false};
  std::thread meddler([&] {
    for (std::uint32_t round = 0; !stop; ++round) with(round);
  });
  for (std::uint64_t i = 0; i < frames && !talk.lane().ended(); ++i) {
    talk.send(PingFrame{i});
    talk.lane().take();
  }
  stop = true;
  meddler.join();
}

void bytes_flipped(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, sink_channel) != 0) throw Stuck("no sink");
  volatile std::byte* const ring = talk.lane().right_ring().data();
  const std::size_t size = talk.lane().right_ring().size();
  meddle(talk, [&](std::uint32_t round) {
    ring[round * 7 % size] = std::byte{0xff} ^ ring[round % size];
  });
  // Wherever the host is by now: zeros are no frame, and too long for the rest of one.
  talk.send(Bytes(std::size_t{1} << 17));
  talk.lane().await_end();
}

void live_flaps(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  meddle(talk, [&](std::uint32_t round) {
    talk.lane().page().srv_live = static_cast<std::uint8_t>(round % 3);
  });
  talk.lane().page().srv_live = 0;
  talk.lane().wake();
  talk.lane().await_end();
}

void notify_bits_flap(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  volatile vchan_interface& page = talk.lane().page();
  meddle(talk, [&](std::uint32_t round) {
    page.srv_notify = static_cast<std::uint8_t>(round);
    page.cli_notify = static_cast<std::uint8_t>(~round);
  });
}

void event_storm(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  for (int i = 0; i < 100'000; ++i) talk.lane().wake();
  talk.expect_pong();
}

/// The host sends what it has for the guest into the page with the indexes.
void rings_in_the_page(Store& store) {
  Lane lane(store, {.left_bytes = 4096, .right_bytes = 4096});
  for (std::uint32_t& grant : lane.listed_grants()) grant = lane.page_grant();
  const Bytes message = hello(modest_greeting(lane.epoch()));
  lane.open();
  lane.send(message);
  for (std::uint32_t i = 0; i < 64 && !lane.ended(); ++i) {
    lane.page().right.prod = i * 64;
    lane.wake();
    lane.rest();
  }
  lane.page().right.prod = 0x80000000;
  lane.wake();
  lane.await_end();
}

void one_page_for_all(Store& store) {
  Lane lane(store);
  for (std::uint32_t& grant : lane.listed_grants()) grant = lane.listed_grants().front();
  lane.open();
  lane.send(hello(modest_greeting(lane.epoch())));
  lane.await_consumed();
  Bytes frames;
  for (int i = 0; i < 100; ++i) frames += encoded(PingFrame{1});
  lane.send(frames);
  lane.send(raw_frame(15, 0, 0));
  lane.await_end();
}

/// Rings that fit into the page: libxenvchan takes them, sessions need more.
void small_rings(Store& store) {
  Lane lane(store);
  lane.page().left_order = 10;
  lane.page().right_order = 11;
  lane.open();
  lane.await_end();
}

/// A lane that cannot be attached to.
template <typename Change>
void offer_unusable(Store& store, const LaneMaking& making, Change change) {
  Lane lane(store, making);
  change(lane);
  lane.offer();
  lane.await_rejected();
}

template <std::uint16_t left, std::uint16_t right>
void orders(Store& store) {
  offer_unusable(store, {}, [](Lane& lane) {
    lane.page().left_order = left;
    lane.page().right_order = right;
  });
}

void grants_of_nothing(Store& store) {
  offer_unusable(store, {}, [](Lane& lane) {
    for (std::uint32_t& grant : lane.listed_grants()) grant = 0x7fffffff;
  });
}
void last_grant_missing(Store& store) {
  offer_unusable(store, {}, [](Lane& lane) { lane.listed_grants().back() = 0; });
}
void pages_read_only(Store& store) {
  offer_unusable(store, {.writable = false}, [](Lane&) {});
}

void pages_taken_away(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  talk.expect_pong();
  talk.lane().take_pages_away();
}

void event_channel_closed(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  if (talk.open(1, source_channel) != 0) throw Stuck("no source");
  talk.give_credit(1);
  talk.send(data_frame(1, "1 100000000\n"));
  talk.lane().close_event_channel();
}

constexpr std::string_view impossible = "the peer wrote an impossible ring index";
constexpr std::string_view closed = "the peer closed the lane";
constexpr std::string_view no_vchan = "no vchan at /local/domain/";

constexpr Way ways[] = {
    {"producer-back", "its producer index moved back", producer_back, Verdict::ends, impossible},
    {"producer-past-ring", "its producer index further than the ring is long",
     producer_past_the_ring, Verdict::ends, impossible},
    {"producer-far-away", "its producer index half the circle on", producer_far_away, Verdict::ends,
     impossible},
    {"consumer-back", "its consumer index back at the beginning", consumer_back, Verdict::ends,
     impossible},
    {"consumer-past-producer", "its consumer index past the host's producer index",
     consumer_past_producer, Verdict::ends, impossible},
    {"hosts-indexes-changed", "the host's own indexes overwritten", hosts_indexes_changed,
     Verdict::ends, "the peer"},
    {"indexes-not-at-zero", "a lane whose indexes do not begin at zero", indexes_not_at_zero,
     Verdict::ends, impossible},
    {"orders-changed", "ring orders and grants overwritten after the set-up", orders_changed,
     Verdict::lives, closed},
    {"bytes-flipped", "bytes of the ring altered while the host reads them", bytes_flipped,
     Verdict::any},
    {"live-flaps", "its live byte through 0, 1 and 2 without end", live_flaps, Verdict::any},
    {"notify-bits-flap", "both notify bytes through all values without end", notify_bits_flap,
     Verdict::lives, closed},
    {"event-storm", "100000 events", event_storm, Verdict::lives, closed},
    {"rings-in-the-page", "grants that lay both rings over the page of the indexes",
     rings_in_the_page, Verdict::any},
    {"one-page-for-all", "grants that name one page 32 times", one_page_for_all, Verdict::any},
    {"small-rings", "rings of 1024 and 2048 bytes", small_rings, Verdict::ends,
     "are smaller than 4096"},
    {"order-0", "ring orders of 0", orders<0, 0>, Verdict::fails, no_vchan},
    {"order-9-and-12", "a ring smaller than any", orders<9, 12>, Verdict::fails, no_vchan},
    {"order-12-and-21", "a ring larger than any", orders<12, 21>, Verdict::fails, no_vchan},
    {"order-65535", "ring orders of all ones", orders<0xffff, 0xffff>, Verdict::fails, no_vchan},
    {"orders-10-and-10", "two rings in one place of the page", orders<10, 10>, Verdict::fails,
     no_vchan},
    {"order-20-unlisted", "1 MiB rings with grants for 64 KiB, the rest zeros", orders<20, 20>,
     Verdict::fails, no_vchan},
    {"grants-of-nothing", "references of no page", grants_of_nothing, Verdict::fails, no_vchan},
    {"last-grant-missing", "all references but one", last_grant_missing, Verdict::fails, no_vchan},
    {"pages-read-only", "rings that the host may not write", pages_read_only, Verdict::fails,
     no_vchan},
    {"pages-taken-away", "all grants given up in mid-session", pages_taken_away, Verdict::lives,
     closed},
    {"event-channel-closed", "its event channel closed in mid-transfer", event_channel_closed,
     Verdict::lives, closed},
};

}  // namespace

std::span<const Way> ring_ways() {
  return ways;
}

}  // namespace xenlane::hostile

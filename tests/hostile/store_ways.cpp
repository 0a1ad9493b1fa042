// Misbehaviour in xenstore: the pointer to the ring, the ring's keys, the whole folder; and lanes
// that come and go. docs/xenstore.md.
#include <string>

#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

namespace {

constexpr std::string_view no_epoch = "is not an epoch";
constexpr std::string_view no_vchan = "no vchan at /local/domain/";
constexpr std::string_view closed = "the peer closed the lane";

void pointer_is_text(Store& store) {
  store.point_at("\x1b[31mnonsense\n\x07");
}
void pointer_negative(Store& store) {
  store.point_at("-1");
}
void pointer_huge(Store& store) {
  store.point_at("1000000000000");
}
void pointer_beyond_64_bits(Store& store) {
  store.point_at("99999999999999999999999999");
}
void pointer_is_a_path(Store& store) {
  store.point_at("../../../0/backend");
}
void pointer_empty(Store& store) {
  store.point_at("");
}
void pointer_long(Store& store) {
  // As long as xenstored lets a node's value be, or near it.
  std::size_t size = 4000;
  while (size > 100 && !store.write("data/xenlane/ring", std::string(size, '9'))) size -= 100;
}

void pointer_old(Store& store) {
  store.point_at(std::to_string(store.wanted() - 1));
  store.point_at("0");
}

void pointer_toggled(Store& store) {
  for (int i = 0; i < 2000; ++i) store.point_at(i % 2 == 0 ? "7x" : "0");
}

void pointer_deleted(Store& store) {
  Lane lane(store);
  lane.write_keys();
  for (int i = 0; i < 200; ++i) {
    store.point_at("0");
    store.remove("data/xenlane/ring");
  }
}

void pointer_deleted_in_session(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  store.remove("data/xenlane/ring");
  for (int i = 0; i < 100; ++i) store.point_at("nonsense");
  talk.expect_pong();
}

/// Keys that lead to no lane: the host has to say so and to ask for another.
template <typename Keys>
void offer_keys(Store& store, Keys keys) {
  Lane lane(store);
  keys(lane);
  lane.point();
  lane.await_rejected();
}

void no_keys(Store& store) {
  offer_keys(store, [](Lane&) {});
}
void only_ring_ref(Store& store) {
  offer_keys(store, [](Lane& lane) { lane.write_key("ring-ref", "8"); });
}
void keys_are_text(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_key("ring-ref", "\xff\x1b[2J%n%s");
    lane.write_key("event-channel", "\n\n\n");
  });
}
void keys_negative(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_key("ring-ref", "-8");
    lane.write_key("event-channel", "-1");
  });
}
void ring_ref_of_a_data_page(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_keys();
    lane.write_key("ring-ref", std::to_string(lane.listed_grants().front()));
  });
}
void event_channel_of_nobody(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_keys();
    lane.write_key("event-channel", std::to_string(lane.port() + 1000));
  });
}
void event_channel_huge(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_keys();
    lane.write_key("event-channel", std::to_string((std::uint64_t{1} << 32) + lane.port()));
  });
}
void keys_long(Store& store) {
  offer_keys(store, [](Lane& lane) {
    lane.write_key("ring-ref", std::string(1500, '8'));
    lane.write_key("event-channel", std::string(1500, '9'));
  });
}

/// Whether the host gets there first is not known: it attaches or it does not.
void keys_removed_meanwhile(Store& store) {
  for (int i = 0; i < 20; ++i) {
    Lane lane(store);
    lane.offer();
    store.remove(lane.key("event-channel"));
    store.remove(lane.key("ring-ref"));
    lane.await_attached_or_rejected();
  }
}

void folder_removed(Store& store) {
  Talk talk(store);
  talk.shake_hands();
  store.remove("data/xenlane");
  talk.expect_pong();
}

void watch_storm(Store& store) {
  for (int i = 0; i < 200; ++i) store.watch("data/xenlane/ring", std::to_string(i));
  store.watch("xenlane", "wish");
  for (int i = 0; i < 500; ++i) store.point_at("0");
}

void quota_filled(Store& store) {
  for (int i = 0; i < 1500; ++i) {
    // Not all in one folder: a node's size is limited too, and the names below it count.
    const std::string path = "data/xenlane/" + std::to_string(i / 50) + "/" + std::to_string(i);
    if (!store.write(path, std::string(500, 'j'))) break;
  }
  if (store.write("data/more", "")) throw Stuck("xenstored has no quota of nodes");
  store.point_at("0");
  store.remove("data/xenlane");
}

void hosts_keys_written(Store& store) {
  for (const char* key : {"xenlane/wanted", "xenlane/host", "xenlane/x", "domid", "name", "vm"}) {
    if (store.write(key, "4")) throw Stuck(std::string("a guest may write ") + key);
  }
  store.remove("xenlane");
  if (!store.read("xenlane/host")) throw Stuck("a guest may remove xenlane");
}

void stale_ring_again(Store& store) {
  Lane lane(store);
  lane.open();
  lane.send(hello(modest_greeting(lane.epoch())));
  lane.page().srv_live = 0;
  lane.wake();
  lane.await_end();
  // The same pages under a later epoch, indexes and all.
  lane.page().srv_live = 1;
  lane.page().cli_live = 2;
  const std::string later = "data/xenlane/" + std::to_string(store.next_epoch());
  store.write(later + "/ring-ref", std::to_string(lane.page_grant()));
  store.write(later + "/event-channel", std::to_string(lane.port()));
  store.point(store.next_epoch());
  lane.await_attached();
  lane.await_end();
  store.remove(later);
}

constexpr std::uint32_t restarts = 50;

void restarts_its_lane(Store& store) {
  for (std::uint32_t i = 0; i < restarts; ++i) {
    Talk talk(store);
    talk.shake_hands();
  }
}

constexpr Way ways[] = {
    {"pointer-text", "terminal codes for an epoch", pointer_is_text, Verdict::ignored, no_epoch},
    {"pointer-negative", "epoch -1", pointer_negative, Verdict::ignored, no_epoch},
    {"pointer-huge", "the first epoch that is too high", pointer_huge, Verdict::ignored, no_epoch},
    {"pointer-beyond-64-bits", "an epoch of 26 digits", pointer_beyond_64_bits, Verdict::ignored,
     no_epoch},
    {"pointer-path", "a path for an epoch", pointer_is_a_path, Verdict::ignored, no_epoch},
    {"pointer-empty", "nothing for an epoch", pointer_empty, Verdict::ignored, no_epoch},
    {"pointer-long", "the longest value that xenstored takes", pointer_long, Verdict::ignored,
     no_epoch},
    {"pointer-old", "epochs of lanes long gone", pointer_old, Verdict::ignored},
    {"pointer-toggled", "2000 changes between two wrong epochs", pointer_toggled, Verdict::ignored,
     no_epoch},
    {"pointer-deleted", "the pointer made and deleted 200 times", pointer_deleted,
     Verdict::ignored},
    {"pointer-deleted-in-session", "the same while a session is up", pointer_deleted_in_session,
     Verdict::lives, closed},
    {"no-keys", "a pointer to a folder that is not there", no_keys, Verdict::fails, no_vchan},
    {"only-ring-ref", "a ring-ref and no event-channel", only_ring_ref, Verdict::fails, no_vchan},
    {"keys-text", "terminal codes for both keys", keys_are_text, Verdict::fails, no_vchan},
    {"keys-negative", "negative numbers for both keys", keys_negative, Verdict::fails, no_vchan},
    {"keys-long", "1500 digits for both keys", keys_long, Verdict::fails, no_vchan},
    {"ring-ref-of-data", "the reference of a page of zeros", ring_ref_of_a_data_page,
     Verdict::fails, no_vchan},
    {"event-channel-of-nobody", "a port that is not there", event_channel_of_nobody, Verdict::fails,
     no_vchan},
    {"event-channel-huge", "a port of 33 bits, which libxenvchan cuts to the right one",
     event_channel_huge, Verdict::ends, "no handshake within"},
    {"keys-removed-meanwhile",
     "keys gone while the host attaches, 20 times",
     keys_removed_meanwhile,
     Verdict::any,
     {},
     20},
    {"folder-removed", "its whole folder gone in mid-session", folder_removed, Verdict::lives,
     closed},
    {"watch-storm", "200 watches on a pointer that changes 500 times", watch_storm,
     Verdict::ignored},
    {"quota-filled", "as many nodes as xenstored lets a guest have", quota_filled,
     Verdict::ignored},
    {"hosts-keys", "writes to the host's keys and its own identity", hosts_keys_written,
     Verdict::ignored},
    {"stale-ring", "an old ring under a new epoch", stale_ring_again, Verdict::any, {}, 2},
    {"restarts", "50 sessions in quick succession", restarts_its_lane, Verdict::lives, closed,
     restarts},
};

}  // namespace

std::span<const Way> store_ways() {
  return ways;
}

std::vector<Group> groups() {
  return {{"handshake", handshake_ways()}, {"frames", frame_ways()}, {"streams", stream_ways()},
          {"floods", flood_ways()},        {"rings", ring_ways()},   {"xenstore", store_ways()},
          {"resuming", resume_ways()}};
}

}  // namespace xenlane::hostile

// Two honest muxes under random operations, with a model that knows what each stream may look like:
// its bytes arrive as a prefix (checked byte by byte as they come), then all of them and an end, or
// an explicit reset or refusal. The limits are small, so that they are met all the time.
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "tests/support/two_peers.hpp"

namespace xenlane::bridge {
namespace {

using test::End;
using test::no_limit;
using test::Peer;
using test::TwoPeers;

MuxLimits tight_limits(std::uint32_t streams, std::uint32_t backlog) {
  MuxLimits limits;
  limits.streams_max = streams;
  limits.open_backlog_max = backlog;
  limits.stream_window_bytes_min = 3000;
  limits.stream_window_bytes_max = 24'000;
  limits.session_window_bytes = 2 * streams * 3000 + 40'000;
  return limits;
}

class RandomLoad {
 public:
  explicit RandomLoad(std::uint32_t seed)
      : random_(seed), peers_(tight_limits(5, 3), tight_limits(7, 2), 4096) {
    if (seed % 2 == 0) peers_.chunking = test::random_chunks(seed);
    for (Peer* peer : {&peers_.host, &peers_.guest}) {
      peer->on_open = [this, peer](const OpenRequested& open) {
        undecided_.insert({peer, open.id});
      };
    }
  }

  void run() {
    for (int i = 0; i < 2500 && !testing::Test::HasFatalFailure(); ++i) {
      Peer& peer = random_() % 2 == 0 ? peers_.host : peers_.guest;
      operate(peer);
      if (random_() % 3 != 0)
        peers_.drive_bounded([&, steps = 0]() mutable { return ++steps > 1; });
      check();
    }
    settle();
  }

 private:
  End random_end() {
    End end;
    end.to_send = random_() % 5 == 0 ? 0 : random_() % 60'000;
    end.finishes = random_() % 4 != 0;
    if (random_() % 4 == 0) end.read_per_step = random_() % 500;
    if (random_() % 4 == 0) end.read_chunk_max = 1 + static_cast<std::uint32_t>(random_() % 100);
    return end;
  }

  void operate(Peer& peer) {
    switch (random_() % 8) {
      case 0:
      case 1:
        if (peer.mux.can_open()) peer.open(random_end());
        break;
      case 2:
      case 3:
        answer();
        break;
      case 4:
        with_random_end(peer, [&](StreamId id, End&) { peer.reset(id); });
        break;
      case 5:
        with_random_end(peer, [&](StreamId id, End& end) {
          peer.stop(id);
          stopped_.insert({&peer, id});
          end.finishes = true;
        });
        break;
      case 6:
        with_random_end(peer, [&](StreamId, End& end) { end.finishes = true; });
        break;
      default:
        peer.mux.ping(random_());
    }
  }

  void with_random_end(Peer& peer, const std::function<void(StreamId, End&)>& act) {
    std::vector<StreamId> alive;
    for (auto& [id, end] : peer.ends) {
      if (peer.mux.has_stream(id) && !end.over()) alive.push_back(id);
    }
    if (alive.empty()) return;
    const StreamId id = alive[random_() % alive.size()];
    act(id, peer.ends.at(id));
  }

  void answer() {
    if (undecided_.empty()) return;
    const auto [peer, id] = *undecided_.begin();
    undecided_.erase(undecided_.begin());
    if (!peer->mux.has_stream(id)) return;  // its opener gave up
    if (random_() % 4 == 0) {
      peer->refuse(id, ECONNREFUSED);
    } else {
      peer->accept(id, random_end());
    }
  }

  void check() {
    // What the peers' limits allow, by the side that opened.
    EXPECT_LE(peers_.host.mux.stream_count(), 5U + 5U);
    EXPECT_LE(peers_.guest.mux.stream_count(), 5U + 5U);
    EXPECT_LE(peers_.host.mux.queued(), 3 * (10U + 64U));
    for (const Peer* peer : {&peers_.host, &peers_.guest}) {
      const Peer* other = peer == &peers_.host ? &peers_.guest : &peers_.host;
      for (const auto& [id, end] : peer->ends) {
        if (!other->ends.contains(id)) continue;
        const End& sender = other->ends.at(id);
        ASSERT_LE(end.received, sender.sent);
        if (end.peer_finished && !stopped_.contains({peer, id})) {
          ASSERT_EQ(end.received, sender.sent) << "an end before all bytes on stream " << id;
        }
      }
    }
  }

  /// Everybody reads, finishes and answers: nothing may be left.
  void settle() {
    for (int round = 0; round < 3; ++round) {
      while (!undecided_.empty()) answer();
      for (Peer* peer : {&peers_.host, &peers_.guest}) {
        for (auto& [id, end] : peer->ends) {
          end.finishes = true;
          end.read_per_step = no_limit;
        }
      }
      peers_.drive_until_quiet();
      if (testing::Test::HasFatalFailure()) return;
    }
    check();
    peers_.expect_all_gone();
    for (const Peer* peer : {&peers_.host, &peers_.guest}) {
      for (const auto& [id, end] : peer->ends) {
        EXPECT_TRUE(end.over() || stopped_.contains({peer, id}))
            << "stream " << id << " ended in silence";
      }
    }
    EXPECT_GE(peers_.host.mux.session_credit(), tight_limits(7, 2).session_window_bytes / 2);
    EXPECT_GE(peers_.guest.mux.session_credit(), tight_limits(5, 3).session_window_bytes / 2);
  }

  std::mt19937 random_;
  TwoPeers peers_;
  std::set<std::pair<Peer*, StreamId>> undecided_;
  std::set<std::pair<const Peer*, StreamId>> stopped_;
};

class MuxRandom : public testing::TestWithParam<std::uint32_t> {};

TEST_P(MuxRandom, StreamsEndCompleteOrInAnExplicitError) {
  RandomLoad(GetParam()).run();
}
INSTANTIATE_TEST_SUITE_P(Seeds, MuxRandom, testing::Range(1U, 41U));

}  // namespace
}  // namespace xenlane::bridge

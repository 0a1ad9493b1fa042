// A simulated vchan: two ends with rings, joined by a link that is as late, as piecemeal and as
// forgetful as the seed has it. The ends are the product's own ring code over the memory here.
//
// Some links are direct: both ends see the same memory at once, as on real hardware, and only
// wake-ups suffer. On the others each end has its own copy of everything and the link carries the
// bytes and the counters across, a few at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/environment.hpp"
#include "transport/base/unique_fd.hpp"
#include "transport/shared_ring.hpp"

namespace xenlane::sim {

/// One ring's memory as one end sees it.
struct RingMemory {
  std::vector<std::byte> bytes;
  std::uint32_t producer = 0;
  std::uint32_t consumer = 0;
};

class Link {
 public:
  enum End : std::size_t { server = 0, client = 1 };

  /// Offered by that domain, rings of `ring_bytes` each way (a power of two). A spared one is late
  /// and piecemeal, but loses nothing and is never cut.
  Link(std::uint16_t domid, std::uint32_t ring_bytes, bool spared);

  /// The lane of one end; made once for each. The link must outlive it, so the lane shares it.
  static std::unique_ptr<transport::Lane> make_lane(std::shared_ptr<Link> link, End end);

  /// Carries bytes and wake-ups. True when anything moved.
  bool step();
  bool attached() const { return ends_[client].used; }
  bool offered() const { return ends_[server].live; }
  bool open() const { return attached() && ends_[server].live && ends_[client].live; }
  /// Whether one end has bytes that the other cannot see yet.
  bool carries_bytes() const;
  std::uint16_t domid() const { return domid_; }
  bool spared() const { return spared_; }

  /// The lane ends as if one side had vanished: what is on its way stops where it is, and each end
  /// is told unless `unheard`.
  void cut(bool unheard);
  /// Ends the stalls that are under way.
  void mend() { stalled_until_[0] = stalled_until_[1] = 0; }
  /// A wake-up for nothing.
  void disturb();

 private:
  friend class SimulatedLane;

  struct EndState {
    bool used = false;        ///< its lane was made
    bool live = true;         ///< its lane is still there
    bool sees_peer = true;    ///< what its lane reports: false is "the peer closed"
    std::uint8_t wishes = 0;  ///< what it asked to be woken for
    std::uint8_t peer_wishes = 0;
    bool nudged = false;         ///< the other end sent a wake-up that has not arrived
    std::uint64_t wake_due = 0;  ///< when a late wake-up arrives; 0: none is on its way
    transport::UniqueFd event;
  };

  bool strikes(Fault fault) { return !spared_ && environment()->strikes(fault); }
  bool carry(End from);
  bool deliver_wake_ups(EndState& end);
  void wake(EndState& end);
  std::size_t chunk(std::size_t pending);
  void close(End end);

  std::uint16_t domid_;
  bool spared_;
  bool direct_;
  bool cut_ = false;
  EndState ends_[2];
  /// Of the ring that end i sends into: [i][0] as end i sees it, [i][1] as the other end does.
  RingMemory rings_[2][2];
  std::uint64_t stalled_until_[2] = {0, 0};
};

}  // namespace xenlane::sim

// A peer that writes to the shared pages whatever it likes, whenever it likes, from a process of
// its own and as fast as the memory takes it; and a victim that uses a lane over these pages as a
// driver would and holds everything the lane tells it against a model of its own.
//
// The model is what makes it bite: a lane that believed the page would still stay inside the ring
// most of the time, but it would lose its place, shrink, or show more than a ring.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "transport/shared_ring.hpp"

namespace xenlane::transport::test {

/// What the flipper writes to; its words and rings as the victim names them.
struct FlipperTarget {
  std::span<std::byte> control;           ///< the whole page
  SharedRing receive;                     ///< the victim reads it
  SharedRing send;                        ///< the victim writes it
  std::uint8_t* victim_asked = nullptr;   ///< the victim's requests
  std::uint8_t* flipper_asked = nullptr;  ///< requests to the victim
  /// What is laid over 16 bytes of the receive ring at a time; random bytes if there are none.
  std::vector<std::array<std::uint64_t, 2>> cells;
  std::function<void()> wake_victim;  ///< called from the flipper's process, now and then
};

enum class Temper : std::uint32_t {
  polite,  ///< indexes as an honest peer moves them; only the bytes change under the reader
  sly,     ///< polite, but now and then something wild, at best just past what is allowed
  wild,    ///< anything anywhere on the control page
};

/// The process. It begins asleep and is killed with the object.
class Flipper {
 public:
  explicit Flipper(FlipperTarget target);
  ~Flipper();
  Flipper(const Flipper&) = delete;
  Flipper& operator=(const Flipper&) = delete;

  /// Returns when it no longer writes.
  void pause();
  void resume(Temper temper);
  /// Lets it run while the test has nothing to do: with one processor it would not otherwise.
  /// Throws when it has died.
  void give_way();
  /// How often it has written so far.
  std::uint64_t flips() const { return board_->flips.load(std::memory_order_relaxed); }

 private:
  struct Board {
    std::atomic<std::uint32_t> temper;
    std::atomic<bool> wanted;
    std::atomic<bool> running;
    std::atomic<std::uint64_t> flips;
  };
  void wait_until_running(bool running);
  [[noreturn]] static void run(const FlipperTarget& target, Board& board);

  Board* board_ = nullptr;
  pid_t pid_ = -1;
};

/// How long a test of one lane goes on if nothing is violated: counts and not a time, so that a
/// slow machine looks as often. Bytes move only if both processes have had their turns.
struct Effort {
  std::uint64_t operations = 0;
  std::uint64_t flips = 0;
  std::uint64_t bytes = 0;  ///< in, and as many out
};

/// What a victim did on all its lanes.
struct VictimCounts {
  std::uint64_t operations = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t violations = 0;
};

/// The user of one lane.
class Victim {
 public:
  /// The lane is fresh; the spans are where its rings lie.
  Victim(Lane& lane, std::span<const std::byte> receive, std::span<std::byte> send,
         std::uint32_t seed, VictimCounts& counts);

  /// Until the lane is violated or the effort made. Empty, or what the lane did that it never may.
  std::string run(Flipper& flipper, const Effort& effort);
  /// One random operation. Empty, or what the lane did that it never may.
  std::string step();
  bool violated() const { return violated_; }
  /// What must hold on a violated lane whatever is tried. Empty, or what does not.
  std::string check_sticky();

 private:
  std::string read();
  std::string write();
  std::string look();

  Lane& lane_;
  std::span<const std::byte> receive_;
  std::span<std::byte> send_;
  std::mt19937 random_;
  VictimCounts& counts_;
  std::vector<std::byte> scratch_;
  std::uint64_t consumed_ = 0;   ///< since the lane began
  std::uint64_t committed_ = 0;  ///< since the lane began
  std::size_t ready_min_ = 0;    ///< shown before and not consumed since
  std::size_t room_min_ = 0;     ///< shown before and not committed since
  bool violated_ = false;
};

}  // namespace xenlane::transport::test

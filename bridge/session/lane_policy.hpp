// Which lane should carry the session, as a machine without I/O or clock. Each side comes to a wish
// from its configuration, from what it was told by hand, and from how much moves; the guest, who
// offers vchans, acts on both sides' wishes.
//
// Bulk is what the console is too slow for: a stream that moves much within a second, or much that
// waits for the peer. A lane that was opened for bulk stays until none has been seen for a while.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bridge/wire/frame.hpp"

namespace xenlane::bridge {

enum class LaneMode : std::uint8_t {
  on_demand,  ///< a vchan while there is bulk
  always,     ///< a vchan whenever one can be had
  never,      ///< the console only
};

/// What `xenlane lane` has set; lasts as long as the process.
enum class LaneForce : std::uint8_t { automatic, vchan, console };

std::string_view to_string(LaneForce force);
std::optional<LaneForce> parse_lane_force(std::string_view word);

struct LanePolicySettings {
  LaneMode mode = LaneMode::on_demand;
  /// Bytes that wait for the peer on the console.
  std::uint64_t backlog_bytes = 8 * 1024;
  /// Payload that one stream moves within a second, either way.
  std::uint64_t volume_bytes = 64 * 1024;
  /// Without bulk for so long, the vchan is given up.
  std::chrono::milliseconds idle{30000};
};

class LanePolicy {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// How long a console may take to answer before a vchan is asked for in its place.
  static constexpr std::chrono::milliseconds console_grace{1000};
  /// Volume is counted anew this often.
  static constexpr std::chrono::milliseconds period{1000};

  explicit LanePolicy(const LanePolicySettings& settings) : settings_(settings) {}

  void force(LaneForce force) { force_ = force; }
  /// For as long as somebody holds it, the lane is what the last of them wants, whatever else is
  /// set. `number` is the caller's, for release().
  void hold(std::uint64_t number, LaneForce force) { holds_.push_back({number, force}); }
  void release(std::uint64_t number);
  std::size_t holds() const { return holds_.size(); }
  LaneForce forced() const { return holds_.empty() ? force_ : holds_.back().force; }
  /// A connection is open whose channel is configured for the vchan.
  void set_eager(bool eager) { eager_ = eager; }

  /// What a pass of the carrying lane has seen. `volume` is the largest stream's in this period,
  /// `backlog` what waits for the peer; on a vchan, where waiting is short, it does not count.
  void observe(Time now, bool on_vchan, std::uint64_t volume, std::uint64_t backlog);

  /// There is a console to use, whether it answers or not.
  void set_console_present(bool present, Time now);
  /// The console's far end answers.
  void set_console_open(bool open, Time now);
  bool console_open() const { return console_open_; }
  /// There is one, and it has not answered for a while.
  bool console_silent(Time now) const { return console_present_ && console_missed(now); }

  LaneWish wish(Time now) const;
  /// Whether a vchan should be there, given what the peer wishes.
  bool wants_vchan(Time now, LaneWish peer) const;
  /// Why, in a few words for people.
  std::string why(Time now, LaneWish peer) const;
  /// When the answers may change though nothing happens; none when they will not.
  std::optional<Time> next_review(Time now) const;

 private:
  struct Hold {
    std::uint64_t number = 0;
    LaneForce force = LaneForce::automatic;
  };

  bool bulk_lately(Time now) const { return bulk_until_ && now < *bulk_until_; }
  bool console_missed(Time now) const;

  LanePolicySettings settings_;
  LaneForce force_ = LaneForce::automatic;
  std::vector<Hold> holds_;
  bool eager_ = false;
  bool console_present_ = false;
  bool console_open_ = false;
  Time console_closed_since_{};
  std::optional<Time> bulk_until_;
  std::string bulk_why_;
};

}  // namespace xenlane::bridge

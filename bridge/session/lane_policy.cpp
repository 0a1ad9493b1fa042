#include "bridge/session/lane_policy.hpp"

#include <algorithm>

namespace xenlane::bridge {

namespace {

/// Once there is a vchan, so little of the volume that opened it keeps it open.
constexpr std::uint64_t hysteresis = 4;

std::string kib(std::uint64_t bytes) {
  return std::to_string(bytes / 1024) + " KiB";
}

}  // namespace

std::string_view to_string(LaneForce force) {
  switch (force) {
    case LaneForce::automatic:
      return "auto";
    case LaneForce::vchan:
      return "vchan";
    case LaneForce::console:
      return "console";
  }
  return "unknown";
}

std::optional<LaneForce> parse_lane_force(std::string_view word) {
  for (const auto force : {LaneForce::automatic, LaneForce::vchan, LaneForce::console}) {
    if (to_string(force) == word) return force;
  }
  return std::nullopt;
}

void LanePolicy::release(std::uint64_t number) {
  std::erase_if(holds_, [number](const Hold& hold) { return hold.number == number; });
}

void LanePolicy::observe(Time now, bool on_vchan, std::uint64_t volume, std::uint64_t backlog) {
  const std::uint64_t threshold =
      on_vchan ? std::max<std::uint64_t>(settings_.volume_bytes / hysteresis, 1)
               : settings_.volume_bytes;
  const bool much = volume >= threshold;
  const bool waits = !on_vchan && backlog >= settings_.backlog_bytes;
  if (!much && !waits) return;
  bulk_until_ = now + settings_.idle;
  if (on_vchan) return;
  bulk_why_ = much ? "a stream moved " + kib(settings_.volume_bytes) + " within a second"
                   : kib(settings_.backlog_bytes) + " waited for the console";
}

void LanePolicy::set_console_present(bool present, Time now) {
  if (present && !console_present_) console_closed_since_ = now;
  console_present_ = present;
  if (!present) console_open_ = false;
}

void LanePolicy::set_console_open(bool open, Time now) {
  if (console_open_ && !open) console_closed_since_ = now;
  console_open_ = open;
}

bool LanePolicy::console_missed(Time now) const {
  if (console_open_) return false;
  return !console_present_ || now - console_closed_since_ >= console_grace;
}

LaneWish LanePolicy::wish(Time now) const {
  if (forced() == LaneForce::console) return LaneWish::console;
  if (forced() == LaneForce::vchan) return LaneWish::vchan;
  if (settings_.mode == LaneMode::never) return LaneWish::console;
  if (settings_.mode == LaneMode::always || eager_ || bulk_lately(now)) return LaneWish::vchan;
  return LaneWish::none;
}

bool LanePolicy::wants_vchan(Time now, LaneWish peer) const {
  const LaneWish own = wish(now);
  if (own == LaneWish::console || peer == LaneWish::console) return false;
  return own == LaneWish::vchan || peer == LaneWish::vchan || console_missed(now);
}

std::string LanePolicy::why(Time now, LaneWish peer) const {
  if (forced() == LaneForce::vchan && peer == LaneWish::console) {
    return "the other side wants no vchan";
  }
  if (forced() != LaneForce::automatic) {
    return holds_.empty() ? "set by hand" : "a command holds it";
  }
  if (settings_.mode == LaneMode::never) return "configured: never a vchan";
  if (peer == LaneWish::console) return "the other side wants no vchan";
  if (settings_.mode == LaneMode::always) return "configured: always a vchan";
  if (eager_) return "a channel with an open connection is configured for it";
  if (bulk_lately(now)) return bulk_why_.empty() ? "there is bulk" : bulk_why_;
  if (peer == LaneWish::vchan) return "the other side asked for it";
  if (!console_present_) return "there is no console channel";
  if (console_missed(now)) return "the console does not answer";
  return "there is no bulk";
}

std::optional<LanePolicy::Time> LanePolicy::next_review(Time now) const {
  std::optional<Time> next;
  const auto consider = [&](Time when) {
    if (when > now && (!next || when < *next)) next = when;
  };
  if (settings_.mode == LaneMode::on_demand && bulk_until_) consider(*bulk_until_);
  if (console_present_ && !console_open_) consider(console_closed_since_ + console_grace);
  return next;
}

}  // namespace xenlane::bridge

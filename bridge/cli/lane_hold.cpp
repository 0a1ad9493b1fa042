#include "bridge/cli/lane_hold.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <thread>

#include "bridge/channel/text.hpp"
#include "bridge/control/protocol.hpp"

namespace xenlane::bridge::cli {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds look_again{50};
/// One look may fall between two lanes, when the last wish but one is still being carried out.
constexpr unsigned looks_that_agree = 2;

std::optional<Failure> await_lane(const std::string& control, const std::string& wanted,
                                  const LaneHold& hold, std::chrono::seconds longest) {
  const auto until = std::chrono::steady_clock::now() + longest;
  for (unsigned seen = 0; seen < looks_that_agree;) {
    auto answer = control_request(control, "status");
    if (!answer) return control_failure(control, answer.error());
    if (hold.was_let_go()) {
      return Failure{exit_broken, "the daemon has ended meanwhile; try again"};
    }
    const json::object none;
    const json::object* lane = json_object(*answer, "lane");
    if (lane == nullptr) lane = &none;
    const bool has_it = wanted == "auto" || json_text(*lane, "kind") == wanted;
    seen = has_it ? seen + 1 : 0;
    if (!has_it && std::chrono::steady_clock::now() >= until) {
      return Failure{exit_broken,
                     fmt::format("no {} lane within {} s, but {}: {}", wanted, longest.count(),
                                 escape_untrusted(json_text(*lane, "kind", "none")),
                                 escape_untrusted(json_text(*lane, "why", "-")))};
    }
    if (seen < looks_that_agree) std::this_thread::sleep_for(look_again);
  }
  return {};
}

}  // namespace

bool LaneHold::was_let_go() const {
  pollfd ended{connection.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 1;
}

Answer<LaneHold> hold_lane(const Guest& guest, const std::string& lane,
                           std::chrono::seconds longest_wait) {
  const std::string& path = guest.control;
  auto held = control_converse(path, json::object{{"op", "hold-lane"}, {"lane", lane}});
  if (!held) return {{}, control_failure(path, held.error())};
  LaneHold hold{std::move(held->connection)};
  if (auto failure = await_lane(path, lane, hold, longest_wait)) return {{}, std::move(failure)};
  return {std::move(hold), {}};
}

}  // namespace xenlane::bridge::cli

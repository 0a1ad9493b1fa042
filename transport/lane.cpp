#include "transport/lane.hpp"

namespace xenlane::transport {

std::string_view to_string(LaneState state) {
  switch (state) {
    case LaneState::awaiting_peer:
      return "awaiting peer";
    case LaneState::open:
      return "open";
    case LaneState::closed:
      return "closed";
    case LaneState::violated:
      return "violated";
  }
  return "unknown";
}

}  // namespace xenlane::transport

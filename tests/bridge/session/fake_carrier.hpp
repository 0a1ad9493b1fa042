// A lane without rings, for tests of the session's machines: what was put on it, and how much of
// that the peer has consumed.
#pragma once

#include <span>
#include <vector>

#include "bridge/session/session.hpp"

namespace xenlane::bridge::test {

using Bytes = std::vector<std::byte>;

inline RandomId id_of(std::uint8_t value) {
  RandomId id;
  id.fill(std::byte{value});
  return id;
}

class FakeCarrier final : public Carrier {
 public:
  Bytes put;
  std::size_t consumed = 0;  ///< of them, as this side has seen it
  bool superseded = false;
  int wake_ups = 0;

  /// In two pieces, as where a ring wraps.
  transport::ReadableSpans unconsumed() override {
    const auto left = std::span<const std::byte>(put).subspan(consumed);
    return {left.first(left.size() / 2), left.subspan(left.size() / 2)};
  }
  void handle_superseded() override { superseded = true; }
  void wake() override { ++wake_ups; }
  void leave() override {}
};

}  // namespace xenlane::bridge::test

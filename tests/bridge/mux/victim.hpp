// A host's mux fed frame by frame by a guest without manners.
#pragma once

#include <string>
#include <vector>

#include "bridge/mux/mux.hpp"
#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {

inline constexpr std::size_t big_room = 65536;

inline MuxLimits small_limits() {
  MuxLimits limits;
  limits.streams_max = 4;
  limits.open_backlog_max = 3;
  limits.stream_window_bytes_min = 1000;
  limits.stream_window_bytes_max = 1000;
  limits.session_window_bytes = 10'000;
  return limits;
}

/// A mux in the host's role, fed frame by frame.
struct Victim {
  explicit Victim(const MuxLimits& limits = small_limits()) : mux(Role::host, limits, limits) {}

  Mux mux;
  std::vector<InputEvent> events;

  /// What the mux objects to; empty when it does not. Payload is taken and reported at once.
  std::string take(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const InputStep step = mux.handle_input({bytes, {}});
      std::size_t used = step.consumed;
      if (const auto* violation = std::get_if<Violation>(&step.event)) return violation->text;
      if (const auto* chunk = std::get_if<Chunk>(&step.event)) {
        mux.delivered(chunk->id, chunk->size);
        used += chunk->size;
      } else if (!std::holds_alternative<NoEvent>(step.event)) {
        events.push_back(step.event);
      }
      if (used == 0) return "";
      bytes = bytes.subspan(used);
    }
    return "";
  }
  std::string take(const Frame& frame) {
    const EncodedFrame encoded = encode_frame(frame);
    std::vector<std::byte> bytes(encoded.view().begin(), encoded.view().end());
    if (const auto* data = std::get_if<DataFrame>(&frame)) bytes.resize(bytes.size() + data->size);
    return take(bytes);
  }
  std::string take_all(const std::vector<Frame>& frames) {
    for (const Frame& frame : frames) {
      if (std::string text = take(frame); !text.empty()) return text;
    }
    return "";
  }
  /// A header by hand, with that many zero bytes behind it.
  std::string take_header(std::uint32_t type, std::uint32_t size, StreamId id,
                          std::size_t behind = 0) {
    std::vector<std::byte> bytes(frame_header_bytes + behind);
    store_le<std::uint32_t>(std::span(bytes).first<4>(), type << 24 | size);
    store_le<std::uint32_t>(std::span(bytes).subspan<4, 4>(), id);
    return take(bytes);
  }
  void flush_output() {
    while (std::holds_alternative<ControlOutput>(mux.poll_output(big_room))) {
    }
  }
};

inline OpenFrame open_of(StreamId id) {
  return {id, EndShape::service, SocketKind::stream, "org.example.test"};
}

}  // namespace xenlane::bridge

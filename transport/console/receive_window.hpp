// What one side of the console link has received: link bytes in order, and behind gaps what came
// too early, each kept where it belongs in a ring of the window's size. No I/O, no clock.
#pragma once

#include <array>
#include <cstdint>

#include "transport/lane.hpp"

namespace xenlane::transport {

/// Link bytes under way and not released, each way. Far below what the channel's buffers hold
/// (1 MiB at QEMU and xenconsoled), so that one side's window never overflows them.
inline constexpr std::uint32_t link_window_bytes = 32 * 1024;
/// Pieces that came too early; a gap more than that and the piece has to be sent again.
inline constexpr std::size_t link_gaps_max = 32;

/// Whether `position` comes after `other`, both modulo 2^32 and less than 2^31 apart.
constexpr bool is_after(std::uint32_t position, std::uint32_t other) {
  return static_cast<std::int32_t>(position - other) > 0;
}

class ReceiveWindow {
 public:
  /// False when an honest peer could not have sent it: it ends past the window.
  [[nodiscard]] bool insert(std::uint32_t position, std::span<const std::byte> untrusted_payload);

  /// Everything before it has arrived.
  std::uint32_t got() const { return got_; }
  std::uint16_t held() const { return static_cast<std::uint16_t>(got_ - released_); }
  /// Size of the gap at got(), or 0.
  std::uint16_t hole() const;

  /// In order, and not taken yet.
  ReadableSpans unread() const;
  void take(std::size_t count);
  std::uint32_t taken() const { return taken_; }
  /// Gives the room before `position` back to the peer; not past what was taken.
  void release(std::uint32_t position);

 private:
  /// [begin, end) as positions.
  struct Piece {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };

  bool remember(Piece piece);
  void advance_over_pieces();

  std::array<std::byte, link_window_bytes> ring_{};
  std::uint32_t got_ = 0;
  std::uint32_t taken_ = 0;
  std::uint32_t released_ = 0;
  std::array<Piece, link_gaps_max> early_{};  ///< in order, with gaps between them
  std::size_t early_count_ = 0;
};

}  // namespace xenlane::transport

// Finds the console link's frames in whatever a console gives: log lines, echoes, halves of frames,
// a former life's leavings. Keeps at most one line. No I/O.
#pragma once

#include <optional>

#include "transport/console/frame.hpp"

namespace xenlane::transport {

class FrameScanner {
 public:
  /// Takes bytes off the front of `untrusted_bytes` until a frame is whole or none are left. The
  /// frame's payload is valid until the next call.
  std::optional<LinkFrame> next(std::span<const std::byte>& untrusted_bytes);

  /// The end of a line is still to come.
  bool in_line() const { return size_ > 0 || dropping_; }
  /// Lines that began as a frame does and were none.
  std::uint64_t bad_frames() const { return bad_frames_; }

 private:
  void append(std::span<const std::byte> untrusted_piece);
  void restart(std::span<const std::byte> untrusted_piece);
  std::optional<LinkFrame> end_line();

  LinkLine line_{};
  std::size_t size_ = 0;
  bool dropping_ = false;  ///< the line is longer than a frame: wait for the next mark or newline
  LinkBody body_{};
  std::uint64_t bad_frames_ = 0;
};

}  // namespace xenlane::transport

#include "transport/console/scanner.hpp"

#include <algorithm>

#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

namespace {

using Bytes = std::span<const std::byte>;

/// From the last text mark on; empty when there is none.
Bytes from_last_mark(Bytes bytes) {
  const auto found = std::find(bytes.rbegin(), bytes.rend(), link_text_mark);
  if (found == bytes.rend()) return {};
  return bytes.last(static_cast<std::size_t>(found - bytes.rbegin()) + 1);
}

}  // namespace

std::optional<LinkFrame> FrameScanner::next(Bytes& untrusted_bytes) {
  while (!untrusted_bytes.empty()) {
    const std::size_t length = length_before(untrusted_bytes, link_newline);
    append(untrusted_bytes.first(length));
    if (length == untrusted_bytes.size()) {
      untrusted_bytes = {};
      return std::nullopt;
    }
    untrusted_bytes = untrusted_bytes.subspan(length + 1);
    if (auto frame = end_line()) return frame;
  }
  return std::nullopt;
}

void FrameScanner::append(Bytes untrusted_piece) {
  if (!dropping_ && untrusted_piece.size() <= line_.size() - size_) {
    copy_bytes(untrusted_piece, line_.data() + size_);
    size_ += untrusted_piece.size();
    return;
  }
  // Too long for a frame. Only what follows the last mark can still become one.
  Bytes kept;
  if (!dropping_) {
    kept = from_last_mark(std::span(line_).first(size_));
    if (!kept.empty() || (size_ > 0 && line_[0] == link_binary_mark)) ++bad_frames_;
  }
  const Bytes last = from_last_mark(untrusted_piece);
  if (!last.empty()) {
    restart(last);
  } else if (!kept.empty() && kept.size() < size_) {
    std::ranges::copy(kept, line_.begin());
    size_ = kept.size();
    append(untrusted_piece);
  } else {
    dropping_ = true;
    size_ = 0;
  }
}

void FrameScanner::restart(Bytes untrusted_piece) {
  size_ = 0;
  dropping_ = untrusted_piece.size() > line_.size();
  if (!dropping_) append(untrusted_piece);
}

std::optional<LinkFrame> FrameScanner::end_line() {
  const Bytes line = std::span(line_).first(size_);
  size_ = 0;
  dropping_ = false;
  const bool binary = !line.empty() && line.front() == link_binary_mark;
  if (binary) {
    if (const auto frame = decode_link_line(line, body_)) return *frame;
  }
  const Bytes text = from_last_mark(line);
  if (!text.empty()) {
    if (const auto frame = decode_link_line(text, body_)) return *frame;
  }
  if (binary || !text.empty()) ++bad_frames_;
  return std::nullopt;
}

}  // namespace xenlane::transport

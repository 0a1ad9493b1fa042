#include "transport/console/receive_window.hpp"

#include <algorithm>

#include "transport/base/assert.hpp"
#include "transport/base/copy_bytes.hpp"

namespace xenlane::transport {

bool ReceiveWindow::insert(std::uint32_t position, std::span<const std::byte> untrusted_payload) {
  if (is_after(got_, position)) {
    const std::uint32_t known = got_ - position;
    if (known >= untrusted_payload.size()) return true;
    untrusted_payload = untrusted_payload.subspan(known);
    position = got_;
  }
  const std::uint32_t room = link_window_bytes - held();
  const std::uint32_t offset = position - got_;
  if (offset > room || untrusted_payload.size() > room - offset) return false;
  const auto size = static_cast<std::uint32_t>(untrusted_payload.size());
  if (size == 0) return true;
  if (offset > 0 && !remember({position, position + size})) return true;
  const std::size_t begin = position % link_window_bytes;
  const auto first = untrusted_payload.first(std::min<std::size_t>(size, ring_.size() - begin));
  copy_bytes(first, ring_.data() + begin);
  copy_bytes(untrusted_payload.subspan(first.size()), ring_.data());
  if (offset > 0) return true;
  got_ += size;
  advance_over_pieces();
  return true;
}

// False when there is no room for one gap more; then the piece is as if it were lost.
bool ReceiveWindow::remember(Piece piece) {
  // The pieces that the new one meets, by their distance from got_, become one with it.
  std::size_t first = 0;
  while (first < early_count_ && early_[first].end - got_ < piece.begin - got_) ++first;
  std::size_t last = first;
  for (; last < early_count_ && early_[last].begin - got_ <= piece.end - got_; ++last) {
    if (is_after(piece.begin, early_[last].begin)) piece.begin = early_[last].begin;
    if (is_after(early_[last].end, piece.end)) piece.end = early_[last].end;
  }
  if (first == last) {
    if (early_count_ == link_gaps_max) return false;
    std::copy_backward(early_.begin() + static_cast<std::ptrdiff_t>(first),
                       early_.begin() + static_cast<std::ptrdiff_t>(early_count_),
                       early_.begin() + static_cast<std::ptrdiff_t>(early_count_ + 1));
    ++early_count_;
  } else if (last > first + 1) {
    std::copy(early_.begin() + static_cast<std::ptrdiff_t>(last),
              early_.begin() + static_cast<std::ptrdiff_t>(early_count_),
              early_.begin() + static_cast<std::ptrdiff_t>(first + 1));
    early_count_ -= last - first - 1;
  }
  early_[first] = piece;
  return true;
}

void ReceiveWindow::advance_over_pieces() {
  std::size_t over = 0;
  while (over < early_count_ && !is_after(early_[over].begin, got_)) {
    if (is_after(early_[over].end, got_)) got_ = early_[over].end;
    ++over;
  }
  if (over == 0) return;
  std::copy(early_.begin() + static_cast<std::ptrdiff_t>(over),
            early_.begin() + static_cast<std::ptrdiff_t>(early_count_), early_.begin());
  early_count_ -= over;
}

std::uint16_t ReceiveWindow::hole() const {
  return early_count_ == 0 ? std::uint16_t{0} : static_cast<std::uint16_t>(early_[0].begin - got_);
}

ReadableSpans ReceiveWindow::unread() const {
  const std::size_t begin = taken_ % link_window_bytes;
  const std::size_t count = got_ - taken_;
  const std::size_t until_end = std::min(count, ring_.size() - begin);
  return {std::span(ring_).subspan(begin, until_end), std::span(ring_).first(count - until_end)};
}

void ReceiveWindow::take(std::size_t count) {
  XENLANE_ASSERT(count <= got_ - taken_);
  taken_ += static_cast<std::uint32_t>(count);
}

void ReceiveWindow::release(std::uint32_t position) {
  XENLANE_ASSERT(position - released_ <= taken_ - released_);
  released_ = position;
}

}  // namespace xenlane::transport

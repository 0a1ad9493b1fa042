#include "bridge/session/session.hpp"

#include <algorithm>
#include <cstring>

#include "transport/base/assert.hpp"

namespace xenlane::bridge {

std::string_view to_string(SessionState state) {
  switch (state) {
    case SessionState::none:
      return "none";
    case SessionState::up:
      return "up";
    case SessionState::cut:
      return "cut";
  }
  return "unknown";
}

namespace {

// std::memcpy of nothing may not even be given null pointers.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t count) {
  if (count > 0) std::memcpy(to, from, count);
}

}  // namespace

void copy_out(const transport::ReadableSpans& from, std::size_t offset, std::span<std::byte> to) {
  const auto part = from.slice(offset, to.size());
  XENLANE_ASSERT(part.size() == to.size());
  copy_bytes(to.data(), part.first.data(), part.first.size());
  copy_bytes(to.data() + part.first.size(), part.second.data(), part.second.size());
}

void copy_in(const transport::WritableSpans& to, std::size_t offset,
             std::span<const std::byte> from) {
  const auto part = to.slice(offset, from.size());
  XENLANE_ASSERT(part.size() == from.size());
  copy_bytes(part.first.data(), from.data(), part.first.size());
  copy_bytes(part.second.data(), from.data() + part.first.size(), part.second.size());
}

SessionState Session::state() const {
  if (!mux_) return SessionState::none;
  return carrier_ != nullptr ? SessionState::up : SessionState::cut;
}

void Session::begin(const RandomId& id, const Greeting& peer, Carrier& carrier) {
  XENLANE_ASSERT(!mux_);
  id_ = id;
  peer_ = peer;
  mux_.emplace(role(), settings_.limits, peer.limits, version());
  carrier_ = &carrier;
  lanes_ = 1;
}

void Session::resume(std::uint64_t consumed, Carrier& carrier) {
  XENLANE_ASSERT(mux_ && carrier_ == nullptr && problem_with(consumed).empty());
  if (consumed == bytes_sent_) {
    kept_ = {};
  } else {
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(consumed - kept_from_));
  }
  kept_from_ = resumed_from_ = bytes_put_ = consumed;
  carrier_ = &carrier;
  ++lanes_;
}

void Session::cut(bool superseded) {
  Carrier* const carrier = std::exchange(carrier_, nullptr);
  if (carrier == nullptr) return;
  if (mux_) {
    const auto left = carrier->unconsumed();
    XENLANE_ASSERT(left.size() <= bytes_put_);
    kept_from_ = bytes_put_ - left.size();
    if (kept_.empty()) {
      kept_.resize(left.size());
      copy_out(left, 0, kept_);
    } else {
      // All that this lane carried was being sent again, and is here already.
      const auto consumed = static_cast<std::ptrdiff_t>(kept_from_ - resumed_from_);
      kept_.erase(kept_.begin(), kept_.begin() + consumed);
    }
  }
  if (superseded) carrier->handle_superseded();
}

void Session::end() {
  carrier_ = nullptr;
  mux_.reset();
  id_ = {};
  kept_ = {};
  lanes_ = 0;
  bytes_sent_ = bytes_consumed_ = bytes_put_ = kept_from_ = resumed_from_ = 0;
}

void Session::wake() {
  if (carrier_ != nullptr) carrier_->wake();
}

std::string Session::problem_with(std::uint64_t untrusted_consumed) const {
  XENLANE_ASSERT(carrier_ == nullptr);
  if (untrusted_consumed > bytes_put_) {
    return "the peer claims to have consumed bytes that were never sent to it";
  }
  if (untrusted_consumed < kept_from_) {
    return "the peer wants bytes again that it had consumed";
  }
  return {};
}

bool Session::take_turn(const RandomId& untrusted_instance, std::uint32_t untrusted_turn) {
  if (untrusted_turn == 0) return false;
  if (untrusted_instance == turn_of_ && untrusted_turn <= turn_) return false;
  turn_of_ = untrusted_instance;
  turn_ = untrusted_turn;
  return true;
}

void Session::count_sent(std::size_t count) {
  XENLANE_ASSERT(bytes_put_ == bytes_sent_);
  bytes_sent_ += count;
  bytes_put_ = bytes_sent_;
}

std::span<const std::byte> Session::resend() const {
  if (bytes_put_ == bytes_sent_) return {};
  return std::span(kept_).subspan(static_cast<std::size_t>(bytes_put_ - kept_from_));
}

void Session::count_resent(std::size_t count) {
  XENLANE_ASSERT(count <= resend().size());
  bytes_put_ += count;
  if (bytes_put_ == bytes_sent_) kept_ = {};
}

}  // namespace xenlane::bridge

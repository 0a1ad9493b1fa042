#include "bridge/session/session.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "transport/base/assert.hpp"

namespace xenlane::bridge {

std::string_view to_string(SessionState state) {
  switch (state) {
    case SessionState::greeting:
      return "handshake";
    case SessionState::up:
      return "up";
    case SessionState::down:
      return "down";
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

Session::Session(const Settings& settings) : settings_(settings) {
  if (settings_.role == Role::guest) {
    settings_.id = {};
    queue(Hello{own_greeting()});
  }
}

Greeting Session::own_greeting() const {
  Greeting greeting;
  greeting.version_min = protocol_version_min;
  greeting.version_max = protocol_version_max;
  greeting.epoch = settings_.epoch;
  greeting.session = settings_.id;
  greeting.instance = settings_.instance;
  greeting.consumed = bytes_consumed_;
  greeting.limits = settings_.limits;
  return greeting;
}

void Session::queue(const HandshakeMessage& message) {
  output_ = encode_handshake(message);
  sent_of_output_ = 0;
}

std::span<const std::byte> Session::poll_greeting() const {
  return output_.view().subspan(sent_of_output_);
}

void Session::fail(std::string reason) {
  if (state_ == SessionState::down) return;
  state_ = SessionState::down;
  reason_ = std::move(reason);
}

std::size_t Session::handle_greeting(const transport::ReadableSpans& untrusted_bytes) {
  if (state_ != SessionState::greeting) return 0;
  if (untrusted_bytes.size() < handshake_prefix_bytes) return 0;
  std::array<std::byte, hello_bytes_max> copy;
  const auto prefix = std::span(copy).first<handshake_prefix_bytes>();
  copy_out(untrusted_bytes, 0, prefix);
  const auto size = decode_handshake_size(prefix);
  if (!size) {
    fail(std::string(size.error().text));
    return 0;
  }
  if (untrusted_bytes.size() < *size) return 0;
  // The prefix stays as first read: the peer may have changed it in the ring meanwhile.
  copy_out(untrusted_bytes, handshake_prefix_bytes,
           std::span(copy).subspan(handshake_prefix_bytes, *size - handshake_prefix_bytes));
  const auto message = decode_handshake(std::span(copy).first(*size));
  if (!message) {
    fail(std::string(message.error().text));
    return 0;
  }
  if (const auto* hello = std::get_if<Hello>(&*message); hello && role() == Role::host) {
    handle_hello(*hello);
  } else if (const auto* welcome = std::get_if<Welcome>(&*message);
             welcome && role() == Role::guest) {
    handle_welcome(*welcome);
  } else if (const auto* reject = std::get_if<Reject>(&*message); reject && role() == Role::guest) {
    fail("refused by the host: " + reject->reason);
  } else {
    fail("a handshake message that this side only sends");
  }
  return *size;
}

std::optional<std::string> Session::limits_problem(const MuxLimits& untrusted_limits) const {
  // Zero would mean a session in which nothing can ever move.
  if (untrusted_limits.stream_window_bytes_min == 0 || untrusted_limits.session_window_bytes == 0) {
    return "the peer allows no data at all";
  }
  return std::nullopt;
}

void Session::handle_hello(const Hello& hello) {
  const Greeting& greeting = hello.greeting;
  const auto refuse = [this](RejectCode code, std::string why) {
    queue(Reject{code, protocol_version_min, protocol_version_max, why});
    fail(std::move(why));
  };
  if (greeting.version_max < protocol_version_min || greeting.version_min > protocol_version_max) {
    refuse(RejectCode::version,
           "no common protocol version: the guest speaks " + std::to_string(greeting.version_min) +
               " to " + std::to_string(greeting.version_max) + ", the host " +
               std::to_string(protocol_version_min) + " to " +
               std::to_string(protocol_version_max) + "; upgrade the older side");
    return;
  }
  if (greeting.epoch != settings_.epoch) {
    refuse(RejectCode::epoch, "the guest speaks of another lane than this one");
    return;
  }
  if (auto problem = limits_problem(greeting.limits)) {
    refuse(RejectCode::busy, std::move(*problem));
    return;
  }
  peer_ = greeting;
  Greeting welcome = own_greeting();
  welcome.version_min = welcome.version_max = std::min(greeting.version_max, protocol_version_max);
  queue(Welcome{welcome});
  state_ = SessionState::up;
}

void Session::handle_welcome(const Welcome& welcome) {
  const Greeting& greeting = welcome.greeting;
  if (greeting.version_min != greeting.version_max || greeting.version_max < protocol_version_min ||
      greeting.version_max > protocol_version_max) {
    fail("the host chose a protocol version that was not offered");
    return;
  }
  if (greeting.epoch != settings_.epoch) {
    fail("the host speaks of another lane than this one");
    return;
  }
  if (auto problem = limits_problem(greeting.limits)) {
    fail(std::move(*problem));
    return;
  }
  peer_ = greeting;
  settings_.id = greeting.session;
  state_ = SessionState::up;
}

}  // namespace xenlane::bridge

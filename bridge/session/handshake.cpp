#include "bridge/session/handshake.hpp"

#include <array>

#include "transport/base/assert.hpp"

namespace xenlane::bridge {

namespace {

constexpr RandomId no_session{};

bool allows_data(const MuxLimits& untrusted_limits) {
  // Zero would mean a session in which nothing can ever move.
  return untrusted_limits.stream_window_bytes_min > 0 && untrusted_limits.session_window_bytes > 0;
}

}  // namespace

Greeting Handshake::own_greeting() const {
  Greeting greeting;
  greeting.version_min = protocol_version_min;
  greeting.version_max = session_.version_max();
  greeting.epoch = epoch_;
  greeting.session = session_.id();
  greeting.instance = session_.instance();
  greeting.consumed = session_.bytes_consumed();
  greeting.limits = session_.local_limits();
  greeting.turn = turn_;
  return greeting;
}

void Handshake::queue(const HandshakeMessage& message) {
  output_ = encode_handshake(message);
  sent_ = 0;
}

void Handshake::fail(std::string reason) {
  if (failure_.empty()) failure_ = std::move(reason);
}

void Handshake::refuse(RejectCode code, std::string why) {
  queue(Reject{code, protocol_version_min, session_.version_max(), why});
  fail(std::move(why));
}

void Handshake::start() {
  XENLANE_ASSERT(session_.role() == Role::guest && turn_ == 0);
  session_.cut(true);
  turn_ = session_.next_turn();
  offered_ = session_.id();
  queue(Hello{own_greeting()});
}

std::size_t Handshake::handle(const transport::ReadableSpans& untrusted_bytes) {
  if (over() || untrusted_bytes.size() < handshake_prefix_bytes) return 0;
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
  const bool is_host = session_.role() == Role::host;
  if (const auto* hello = std::get_if<Hello>(&*message); hello && is_host) {
    handle_hello(hello->greeting);
  } else if (const auto* welcome = std::get_if<Welcome>(&*message); welcome && !is_host) {
    handle_welcome(welcome->greeting);
  } else if (const auto* reject = std::get_if<Reject>(&*message); reject && !is_host) {
    // What is said on a lane after which another was offered says nothing of the session.
    session_spoilt_ = reject->code == RejectCode::resume && turn_ == session_.last_turn();
    fail("refused by the host: " + reject->reason);
  } else {
    fail("a handshake message that this side only sends");
  }
  return *size;
}

void Handshake::handle_hello(const Greeting& hello) {
  if (hello.version_max < protocol_version_min || hello.version_min > session_.version_max()) {
    refuse(RejectCode::version,
           "no common protocol version: the guest speaks " + std::to_string(hello.version_min) +
               " to " + std::to_string(hello.version_max) + ", the host " +
               std::to_string(protocol_version_min) + " to " +
               std::to_string(session_.version_max()) + "; upgrade the older side");
    return;
  }
  if (hello.epoch != epoch_) {
    refuse(RejectCode::epoch, "the guest speaks of another lane than this one");
    return;
  }
  if (!allows_data(hello.limits)) {
    refuse(RejectCode::busy, "the peer allows no data at all");
    return;
  }
  if (!session_.take_turn(hello.instance, hello.turn)) {
    refuse(RejectCode::busy, hello.turn == 0 ? "the guest did not number its lane"
                                             : "a later lane of the guest's is in use");
    return;
  }
  turn_ = hello.turn;
  // A session that this side does not know is one that it has lost; the guest sees it by the id.
  const bool resumed = session_.state() != SessionState::none && hello.session == session_.id();
  if (resumed) {
    session_.cut(true);
    std::string problem = session_.problem_with(hello.consumed);
    if (hello.instance != session_.peer().instance) {
      problem = "another process of the guest's claims the session";
    }
    if (!problem.empty()) {
      session_spoilt_ = true;
      refuse(RejectCode::resume, std::move(problem));
      return;
    }
  } else {
    XENLANE_ASSERT(fresh_id_ != no_session);
  }
  Greeting welcome = own_greeting();
  welcome.session = resumed ? session_.id() : fresh_id_;
  if (!resumed) welcome.consumed = 0;
  welcome.version_min = welcome.version_max =
      resumed ? session_.version() : std::min(hello.version_max, session_.version_max());
  queue(Welcome{welcome});
  agreement_ = Agreement{resumed, welcome.session, hello};
}

void Handshake::handle_welcome(const Greeting& welcome) {
  if (turn_ != session_.last_turn()) {
    fail("another lane was offered the session meanwhile");
    return;
  }
  if (welcome.version_min != welcome.version_max || welcome.version_max < protocol_version_min ||
      welcome.version_max > session_.version_max()) {
    fail("the host chose a protocol version that was not offered");
    return;
  }
  if (welcome.epoch != epoch_) {
    fail("the host speaks of another lane than this one");
    return;
  }
  if (!allows_data(welcome.limits)) {
    fail("the peer allows no data at all");
    return;
  }
  if (welcome.session == no_session) {
    fail("the host gave the session no id");
    return;
  }
  if (welcome.session == offered_ && offered_ != session_.id()) {
    fail("the session that was offered has ended meanwhile");
    return;
  }
  const bool resumed = welcome.session == session_.id();
  if (resumed) {
    std::string problem = session_.problem_with(welcome.consumed);
    if (welcome.instance != session_.peer().instance) {
      problem = "another process of the host's claims the session";
    }
    if (welcome.version_max != session_.version()) {
      problem = "the host goes on with the session in another protocol version";
    }
    if (!problem.empty()) {
      session_spoilt_ = true;
      fail(std::move(problem));
      return;
    }
  } else if (welcome.consumed != 0) {
    fail("the peer claims to have consumed bytes that were never sent to it");
    return;
  }
  agreement_ = Agreement{resumed, welcome.session, welcome};
}

}  // namespace xenlane::bridge

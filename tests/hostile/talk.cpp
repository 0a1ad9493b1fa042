#include "tests/hostile/talk.hpp"

#include <algorithm>
#include <cstring>

namespace xenlane::hostile {

using namespace bridge;  // NOLINT(google-build-using-namespace): it speaks of little else

namespace {

constexpr std::uint64_t no_limit = ~std::uint64_t{0};

}  // namespace

void overwrite(Bytes& message, std::size_t offset, std::uint64_t value, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) {
    message.at(offset + i) = static_cast<std::byte>(value >> (8 * i) & 0xFF);
  }
}

Bytes& operator+=(Bytes& to, const Bytes& more) {
  to.insert(to.end(), more.begin(), more.end());
  return to;
}

Bytes operator+(Bytes front, const Bytes& behind) {
  return front += behind;
}

Bytes raw_frame(std::uint32_t type, std::uint32_t size, StreamId id, std::size_t behind) {
  Bytes frame(frame_header_bytes + behind);
  overwrite(frame, 0, size, 3);
  overwrite(frame, 3, type, 1);
  overwrite(frame, 4, id, 4);
  return frame;
}

Bytes open_frame(StreamId id, std::string_view name, std::uint8_t shape, std::uint8_t kind) {
  const std::size_t size = 8 + name.size();
  Bytes frame = raw_frame(1, static_cast<std::uint32_t>(size), id, size);
  overwrite(frame, 8, shape, 1);
  overwrite(frame, 9, kind, 1);
  overwrite(frame, 10, name.size(), 2);
  overwrite(frame, 12, uid_unknown, 4);
  if (!name.empty()) std::memcpy(frame.data() + 16, name.data(), name.size());
  return frame;
}

Bytes data_frame(StreamId id, std::string_view text) {
  Bytes frame = raw_frame(4, static_cast<std::uint32_t>(text.size()), id, text.size());
  std::memcpy(frame.data() + frame_header_bytes, text.data(), text.size());
  return frame;
}

Bytes encoded(const Frame& frame) {
  const EncodedFrame bytes = encode_frame(frame);
  return {bytes.view().begin(), bytes.view().end()};
}

Greeting modest_greeting(std::uint64_t epoch) {
  Greeting greeting;
  greeting.version_min = greeting.version_max = protocol_version_max;
  greeting.epoch = epoch;
  greeting.turn = 1;
  // Another process for each lane, as far as the host can tell.
  greeting.instance.fill(std::byte{0x66});
  for (std::size_t i = 0; i < sizeof epoch; ++i) {
    greeting.instance[i] = static_cast<std::byte>(epoch >> (8 * i) & 0xFF);
  }
  greeting.limits.streams_max = 64;
  greeting.limits.open_backlog_max = 16;
  greeting.limits.stream_window_bytes_min = 64 * 1024;
  greeting.limits.session_window_bytes = 16 * 1024 * 1024;
  return greeting;
}

Bytes hello(const Greeting& greeting) {
  const EncodedHandshake bytes = encode_handshake(Hello{greeting});
  return {bytes.view().begin(), bytes.view().end()};
}

Talk::Talk(Store& store, const LaneMaking& making) : lane_(store, making) {
  lane_.open();
}

void Talk::shake_hands(const Greeting& greeting) {
  send(hello(greeting));
  await_welcome();
}

void Talk::await_welcome() {
  std::optional<std::size_t> size;
  await(
      "WELCOME",
      [&] {
        unread_ += lane_.take();
        if (lane_.ended()) throw Stuck("the host ended the session in place of WELCOME");
        if (unread_.size() < handshake_prefix_bytes) return false;
        const auto said = decode_handshake_size(std::span(unread_).first<handshake_prefix_bytes>());
        if (!said) throw Stuck("the host answered HELLO with " + std::string(said.error().text));
        size = *said;
        return unread_.size() >= *size;
      },
      [this] { lane_.rest(); });
  const auto message = decode_handshake(std::span(unread_).first(*size));
  if (!message || !std::holds_alternative<Welcome>(*message)) throw Stuck("that is no WELCOME");
  welcome_ = std::get<Welcome>(*message).greeting;
  allowed_ = welcome_.limits;
  session_may_send_ = allowed_.session_window_bytes;
  unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(*size));
}

Talk::Stream& Talk::stream(StreamId id) {
  const auto [found, fresh] = streams_.try_emplace(id);
  if (fresh) found->second.may_send = allowed_.stream_window_bytes_min;
  return found->second;
}

void Talk::handle(const Frame& frame) {
  if (const auto* pong = std::get_if<PongFrame>(&frame)) {
    pong_ = pong->nonce;
  } else if (const auto* accept = std::get_if<AcceptFrame>(&frame)) {
    stream(accept->id).answer = 0;
    ++answers_;
  } else if (const auto* refuse = std::get_if<RefuseFrame>(&frame)) {
    stream(refuse->id).answer = refuse->error;
    ++answers_;
  } else if (const auto* credit = std::get_if<CreditFrame>(&frame)) {
    auto& limit = credit->id == 0 ? session_may_send_ : stream(credit->id).may_send;
    limit = std::max(limit, credit->limit);
  } else if (const auto* data = std::get_if<DataFrame>(&frame)) {
    stream(data->id).received += data->size;
  } else if (const auto* finish = std::get_if<FinishFrame>(&frame)) {
    stream(finish->id).finished = true;
  } else if (const auto* open = std::get_if<OpenFrame>(&frame)) {
    opened_by_host_ = open->id;
  } else if (std::holds_alternative<LeaveFrame>(frame)) {
    left_ = true;
  }
}

bool Talk::read_on() {
  const Bytes more = lane_.take();
  unread_ += more;
  std::size_t used = 0;
  while (unread_.size() - used >= frame_header_bytes) {
    const auto rest = std::span(unread_).subspan(used);
    const auto header = decode_header(rest.first<frame_header_bytes>());
    if (!header) throw Stuck("the host sent a wrong frame: " + std::string(header.error().text));
    if (rest.size() < frame_header_bytes + header->payload_bytes) break;
    const auto frame =
        decode_frame(*header, rest.subspan(frame_header_bytes, header->payload_bytes));
    if (!frame) throw Stuck("the host sent a wrong frame: " + std::string(frame.error().text));
    handle(*frame);
    used += frame_header_bytes + header->payload_bytes;
  }
  consumed_ += used;
  unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(used));
  return !more.empty();
}

void Talk::read_until(const std::string& what, const std::function<bool()>& condition) {
  await(
      what,
      [&] {
        read_on();
        if (condition()) return true;
        if (lane_.ended()) throw Stuck("the host ended the session in place of " + what);
        return false;
      },
      [this] { lane_.rest(); });
}

void Talk::expect_pong() {
  const std::uint64_t nonce = 0x66000000 + ++pings_;
  send(PingFrame{nonce});
  read_until("PONG", [&] { return pong_ == nonce; });
}

std::uint16_t Talk::open(StreamId id, std::string_view name) {
  send(open_frame(id, name));
  read_until("an answer to OPEN", [&] { return stream(id).answer.has_value(); });
  return *stream(id).answer;
}

std::uint64_t Talk::send_data(StreamId id, std::uint64_t bytes) {
  Stream& to = stream(id);
  std::uint64_t total = 0;
  for (;;) {
    const std::uint64_t now =
        std::min({bytes - total, to.may_send - to.sent, session_may_send_ - session_sent_,
                  std::uint64_t{data_payload_bytes_max}});
    if (now == 0) return total;
    send(raw_frame(4, static_cast<std::uint32_t>(now), id, now));
    to.sent += now;
    session_sent_ += now;
    total += now;
  }
}

void Talk::give_credit(StreamId id) {
  send(CreditFrame{id, no_limit});
  send(CreditFrame{0, no_limit});
}

void honest_session(Store& store) {
  constexpr std::uint64_t echo_bytes = 100'000;
  Talk talk(store);
  talk.shake_hands();
  const StreamId id = talk.next_id();
  if (talk.open(id, "org.host.echo") != 0) throw Stuck("the host refused an honest stream");
  talk.give_credit(id);
  std::uint64_t sent = 0;
  talk.read_until("the echo", [&] {
    sent += talk.send_data(id, echo_bytes - sent);
    return talk.received(id) == echo_bytes;
  });
  talk.send(FinishFrame{id, echo_bytes});
  talk.read_until("the echo's end", [&] { return talk.finished(id); });
  talk.expect_pong();
}

}  // namespace xenlane::hostile

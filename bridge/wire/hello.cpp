#include "bridge/wire/hello.hpp"

#include <algorithm>

#include "bridge/wire/bytes.hpp"

namespace xenlane::bridge {

namespace {

constexpr std::array<std::byte, 8> magic{std::byte{'x'}, std::byte{'e'}, std::byte{'n'},
                                         std::byte{'l'}, std::byte{'a'}, std::byte{'n'},
                                         std::byte{'e'}, std::byte{0}};

enum class Kind : std::uint8_t { hello = 1, welcome = 2, reject = 3 };

void put_greeting(ByteWriter& out, const Greeting& greeting) {
  out.put(greeting.version_min);
  out.put(greeting.version_max);
  out.put(greeting.epoch);
  out.put(greeting.session);
  out.put(greeting.instance);
  out.put(greeting.consumed);
  out.put(greeting.limits.streams_max);
  out.put(static_cast<std::uint32_t>(greeting.limits.stream_window_bytes_min));
  out.put(greeting.limits.session_window_bytes);
  out.put(greeting.limits.open_backlog_max);
  out.put(greeting.turn);
}

RandomId get_id(ByteReader& in) {
  RandomId id{};
  const auto bytes = in.get(id.size());
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

WireResult<Greeting> get_greeting(ByteReader& in) {
  Greeting greeting;
  greeting.version_min = in.get<std::uint16_t>();
  greeting.version_max = in.get<std::uint16_t>();
  greeting.epoch = in.get<std::uint64_t>();
  greeting.session = get_id(in);
  greeting.instance = get_id(in);
  greeting.consumed = in.get<std::uint64_t>();
  greeting.limits.streams_max = in.get<std::uint32_t>();
  greeting.limits.stream_window_bytes_min = in.get<std::uint32_t>();
  greeting.limits.session_window_bytes = in.get<std::uint64_t>();
  greeting.limits.open_backlog_max = in.get<std::uint32_t>();
  greeting.limits.stream_window_bytes_max = greeting.limits.stream_window_bytes_min;
  if (!in.ok()) return WireError{"a handshake message shorter than its fields"};
  // Version 1 ends before it, and has to be told that it is too old.
  if (in.left() >= sizeof greeting.turn) greeting.turn = in.get<std::uint32_t>();
  if (greeting.version_min == 0 || greeting.version_min > greeting.version_max) {
    return WireError{"a handshake with an empty version range"};
  }
  return greeting;
}

Kind kind_of(const HandshakeMessage& message) {
  return static_cast<Kind>(message.index() + 1);
}

}  // namespace

std::string to_hex(const RandomId& id) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : id) {
    const auto value = static_cast<unsigned>(byte);
    text += digits[value >> 4];
    text += digits[value & 0xF];
  }
  return text;
}

EncodedHandshake encode_handshake(const HandshakeMessage& message) {
  EncodedHandshake out;
  ByteWriter body(std::span(out.bytes).subspan(handshake_prefix_bytes));
  if (const auto* hello = std::get_if<Hello>(&message)) put_greeting(body, hello->greeting);
  if (const auto* welcome = std::get_if<Welcome>(&message)) put_greeting(body, welcome->greeting);
  if (const auto* reject = std::get_if<Reject>(&message)) {
    const auto reason = std::string_view(reject->reason).substr(0, reason_bytes_max);
    body.put(static_cast<std::uint16_t>(reject->code));
    body.put(reject->version_min);
    body.put(reject->version_max);
    body.put(static_cast<std::uint16_t>(reason.size()));
    body.put(std::as_bytes(std::span(reason.data(), reason.size())));
  }
  out.size = handshake_prefix_bytes + body.used();
  ByteWriter prefix(out.bytes);
  prefix.put(magic);
  prefix.put(static_cast<std::uint16_t>(out.size));
  prefix.put(static_cast<std::uint8_t>(kind_of(message)));
  prefix.put(std::uint8_t{0});
  return out;
}

WireResult<std::size_t> decode_handshake_size(
    std::span<const std::byte, handshake_prefix_bytes> prefix) {
  if (!std::equal(magic.begin(), magic.end(), prefix.begin())) {
    return WireError{"the peer does not speak xenlane's protocol"};
  }
  const std::size_t size = load_le<std::uint16_t>(prefix.subspan<8, 2>());
  if (size < handshake_prefix_bytes || size > hello_bytes_max) {
    return WireError{"a handshake message of impossible size"};
  }
  return size;
}

WireResult<HandshakeMessage> decode_handshake(std::span<const std::byte> message) {
  ByteReader in(message);
  in.get(magic.size() + sizeof(std::uint16_t));
  const auto kind = in.get<std::uint8_t>();
  in.get<std::uint8_t>();
  switch (static_cast<Kind>(kind)) {
    case Kind::hello: {
      const auto greeting = get_greeting(in);
      if (!greeting) return greeting.error();
      return Hello{*greeting};
    }
    case Kind::welcome: {
      const auto greeting = get_greeting(in);
      if (!greeting) return greeting.error();
      return Welcome{*greeting};
    }
    case Kind::reject: {
      Reject reject{};
      reject.code = static_cast<RejectCode>(in.get<std::uint16_t>());
      reject.version_min = in.get<std::uint16_t>();
      reject.version_max = in.get<std::uint16_t>();
      const auto reason_bytes = in.get<std::uint16_t>();
      if (reason_bytes > reason_bytes_max) return WireError{"REJECT: reason too long"};
      const auto reason = in.get(reason_bytes);
      if (!in.ok()) return WireError{"a handshake message shorter than its fields"};
      reject.reason.assign(reinterpret_cast<const char*>(reason.data()), reason.size());
      return reject;
    }
  }
  return WireError{"a handshake message of unknown kind"};
}

}  // namespace xenlane::bridge

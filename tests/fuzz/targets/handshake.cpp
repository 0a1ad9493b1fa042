// The handshake (docs/protocol.md section 3): a session in either role, whose peer says anything in
// pieces of any size across the ring's end, must come to what the same bytes in one piece bring;
// and messages that decode say the same when encoded again.
#include <optional>

#include "bridge/session/session.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_handshake(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

void check_decoder(Bytes bytes) {
  if (bytes.size() < handshake_prefix_bytes) return;
  const auto size = decode_handshake_size(bytes.first<handshake_prefix_bytes>());
  if (!size) return;
  FUZZ_CHECK(*size >= handshake_prefix_bytes && *size <= hello_bytes_max);
  if (bytes.size() < *size) return;
  const std::vector<std::byte> message(bytes.begin(),
                                       bytes.begin() + static_cast<std::ptrdiff_t>(*size));
  const auto decoded = decode_handshake(message);
  if (!decoded) {
    FUZZ_CHECK(!decoded.error().text.empty() && is_printable(decoded.error().text));
    return;
  }
  const auto encoded = encode_handshake(*decoded);
  FUZZ_CHECK(encoded.size <= *size);
  const auto again = decode_handshake(encoded.view());
  FUZZ_CHECK(again && *again == *decoded);
  // Behind what is known, and in the reserved byte, may be anything.
  const auto known = encoded.view().subspan(handshake_prefix_bytes);
  FUZZ_CHECK(std::equal(known.begin(), known.end(), message.begin() + handshake_prefix_bytes));
}

/// What a session says first, or in answer.
std::optional<HandshakeMessage> said_by(const Session& session) {
  const auto bytes = session.poll_greeting();
  if (bytes.empty()) return std::nullopt;
  FUZZ_CHECK(bytes.size() >= handshake_prefix_bytes);
  const auto size = decode_handshake_size(bytes.first<handshake_prefix_bytes>());
  FUZZ_CHECK(size && *size == bytes.size());
  const auto message = decode_handshake(bytes);
  FUZZ_CHECK(message);
  return *message;
}

void check_outcome(const Session& session) {
  const auto said = said_by(session);
  const bool is_host = session.role() == Role::host;
  FUZZ_CHECK((session.state() == SessionState::down) == !session.reason().empty());
  FUZZ_CHECK(session.has_been_up() == (session.state() == SessionState::up));
  if (!is_host) FUZZ_CHECK(said && std::holds_alternative<Hello>(*said));
  if (is_host && said) {
    const bool up = session.state() == SessionState::up;
    FUZZ_CHECK(up ? std::holds_alternative<Welcome>(*said) : std::holds_alternative<Reject>(*said));
  }
  if (session.state() != SessionState::up) return;
  FUZZ_CHECK(session.peer().epoch == session.epoch());
  FUZZ_CHECK(session.peer().limits.session_window_bytes > 0);
  FUZZ_CHECK(session.peer().limits.stream_window_bytes_min > 0);
  FUZZ_CHECK(is_host || session.id() == session.peer().session);
}

/// The bytes again, wrapped around the end of a ring that begins anywhere.
class Ring {
 public:
  Ring(Bytes bytes, std::size_t begin) : bytes_(begin + bytes.size()), size_(bytes.size()) {
    first_size_ = bytes.size() - std::min(begin, bytes.size());
    std::copy_n(bytes.begin(), first_size_,
                bytes_.end() - static_cast<std::ptrdiff_t>(first_size_));
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(first_size_), bytes.end(),
              bytes_.begin());
  }
  transport::ReadableSpans first(std::size_t count) const {
    const transport::ReadableSpans all{std::span(bytes_).last(first_size_),
                                       std::span(bytes_).first(size_ - first_size_)};
    return all.slice(0, count);
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t size_;
  std::size_t first_size_;
};

Session::Settings any_settings(Input& choices) {
  Session::Settings settings{};
  settings.role = choices.flag() ? Role::host : Role::guest;
  settings.id.fill(std::byte{0x11});
  settings.instance.fill(std::byte{0x22});
  settings.epoch = choices.take<std::uint8_t>();
  settings.limits.streams_max = choices.take<std::uint8_t>();
  settings.limits.stream_window_bytes_min = choices.take<std::uint8_t>();
  settings.limits.session_window_bytes = choices.take<std::uint8_t>();
  return settings;
}

/// Pieces and the whole must come to the same.
void greet_with(Input& choices) {
  const auto settings = any_settings(choices);
  const std::size_t begin = choices.take<std::uint8_t>();
  const std::size_t piece = 1 + choices.below(64);
  const auto bytes = choices.rest();
  check_decoder(bytes);

  Session whole(settings);
  const std::size_t taken = whole.handle_greeting({bytes, {}});
  check_outcome(whole);
  FUZZ_CHECK(taken <= std::min(bytes.size(), hello_bytes_max));
  FUZZ_CHECK(taken == 0 || whole.state() != SessionState::greeting);

  Session pieces(settings);
  const Ring ring(bytes, begin);
  std::size_t taken_in_pieces = 0;
  for (std::size_t arrived = 0; arrived < bytes.size();) {
    arrived = std::min(arrived + piece, bytes.size());
    const std::size_t now = pieces.handle_greeting(ring.first(arrived));
    FUZZ_CHECK(now == 0 || taken_in_pieces == 0);
    taken_in_pieces += now;
  }
  check_outcome(pieces);
  FUZZ_CHECK(pieces.state() == whole.state() && pieces.reason() == whole.reason());
  FUZZ_CHECK(taken_in_pieces == taken);
  FUZZ_CHECK(std::ranges::equal(pieces.poll_greeting(), whole.poll_greeting()));
  if (whole.state() == SessionState::up) FUZZ_CHECK(pieces.peer() == whole.peer());
}

/// Two honest sides agree whenever they speak of the same lane and both let anything move.
void greet_each_other(Input& choices) {
  Session::Settings settings = any_settings(choices);
  settings.role = Role::host;
  Session host(settings);
  const bool host_gives =
      settings.limits.stream_window_bytes_min > 0 && settings.limits.session_window_bytes > 0;
  const std::uint64_t host_epoch = settings.epoch;
  settings = any_settings(choices);
  settings.role = Role::guest;
  Session guest(settings);
  const bool guest_gives =
      settings.limits.stream_window_bytes_min > 0 && settings.limits.session_window_bytes > 0;

  FUZZ_CHECK(host.handle_greeting({guest.poll_greeting(), {}}) == guest.poll_greeting().size());
  check_outcome(host);
  const bool agreed = settings.epoch == host_epoch && guest_gives;
  FUZZ_CHECK((host.state() == SessionState::up) == agreed);
  FUZZ_CHECK(guest.handle_greeting({host.poll_greeting(), {}}) == host.poll_greeting().size());
  check_outcome(guest);
  FUZZ_CHECK((guest.state() == SessionState::up) == (agreed && host_gives));
  if (guest.state() == SessionState::up) FUZZ_CHECK(guest.id() == host.id());
}

}  // namespace

void fuzz_handshake(Bytes input) {
  Input choices(input);
  choices.flag() ? greet_each_other(choices) : greet_with(choices);
}

}  // namespace xenlane::fuzz

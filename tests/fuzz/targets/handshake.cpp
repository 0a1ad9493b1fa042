// The handshake (docs/protocol.md section 3): a session in either role, whose peer says anything in
// pieces of any size across the ring's end, must come to what the same bytes in one piece bring;
// messages that decode say the same when encoded again; and whatever a guest claims of a session
// that was there before, the host resumes only what can be.
#include <memory>
#include <vector>

#include "bridge/session/handshake.hpp"
#include "tests/fuzz/input.hpp"

namespace xenlane::fuzz {

void fuzz_handshake(Bytes input);

namespace {

using namespace bridge;  // NOLINT(google-build-using-namespace): this file is about little else

/// Where a greeting of version 1 ended.
constexpr std::size_t turn_offset = 84;

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
  // A greeting that ends before its turn, as one of version 1 does, gets one when encoded again.
  const bool has_no_turn =
      !std::holds_alternative<Reject>(*decoded) && *size < encoded.size && *size >= turn_offset;
  FUZZ_CHECK(has_no_turn || encoded.size <= *size);
  const auto again = decode_handshake(encoded.view());
  FUZZ_CHECK(again && *again == *decoded);
  // Behind what is known, and in the reserved byte, may be anything.
  const auto known = encoded.view()
                         .first(has_no_turn ? turn_offset : encoded.size)
                         .subspan(handshake_prefix_bytes);
  FUZZ_CHECK(std::equal(known.begin(), known.end(), message.begin() + handshake_prefix_bytes));
}

/// One side of a lane, and what the driver does with its handshake's end.
class Lane final : public Carrier {
 public:
  Lane(Session& session, std::uint64_t epoch)
      : session_(session), handshake_(session, epoch, fresh_id()) {
    if (session.role() == Role::guest) handshake_.start();
  }
  ~Lane() {
    if (session_.carrier() == this) session_.cut(false);
  }
  const Handshake& handshake() const { return handshake_; }
  bool carries() const { return session_.carrier() == this; }

  std::size_t hear(const transport::ReadableSpans& bytes) {
    const bool was_over = handshake_.over();
    const std::size_t taken = handshake_.handle(bytes);
    FUZZ_CHECK(!was_over || taken == 0);
    if (was_over || !handshake_.over()) return taken;
    check_outcome();
    if (handshake_.session_spoilt()) session_.end();
    const auto& agreement = handshake_.agreement();
    if (!agreement) return taken;
    if (agreement->resumed) {
      session_.resume(agreement->peer.consumed, *this);
    } else {
      session_.cut(true);
      session_.end();
      session_.begin(agreement->id, agreement->peer, *this);
    }
    return taken;
  }
  /// Puts bytes on the lane; the peer has consumed some of them.
  void carry(Input& choices) {
    if (!carries()) return;
    put_.insert(put_.end(), session_.resend().begin(), session_.resend().end());
    session_.count_resent(session_.resend().size());
    const std::size_t fresh = choices.below(40);
    put_.resize(put_.size() + fresh);
    session_.count_sent(fresh);
    consumed_ = std::max<std::size_t>(consumed_,
                                      choices.below(static_cast<std::uint32_t>(put_.size()) + 1));
    session_.count_consumed(choices.below(40));
  }

 private:
  static RandomId fresh_id() {
    static std::uint8_t count = 0;
    RandomId id{};
    id.fill(std::byte{++count == 0 ? ++count : count});
    return id;
  }
  transport::ReadableSpans unconsumed() override {
    return {std::span<const std::byte>(put_).subspan(consumed_), {}};
  }
  void handle_superseded() override {}
  void wake() override {}
  void leave() override {}

  void check_outcome() const {
    const bool is_host = session_.role() == Role::host;
    FUZZ_CHECK(handshake_.failure().empty() == handshake_.agreement().has_value());
    FUZZ_CHECK(!handshake_.session_spoilt() || !handshake_.failure().empty());
    if (is_host && !handshake_.output().empty()) {
      const auto said = decode_handshake(handshake_.output());
      FUZZ_CHECK(said &&
                 std::holds_alternative<Welcome>(*said) == handshake_.agreement().has_value());
    }
    if (!handshake_.agreement()) return;
    const Agreement& agreement = *handshake_.agreement();
    FUZZ_CHECK(agreement.id != RandomId{} && handshake_.turn() != 0);
    FUZZ_CHECK(agreement.peer.epoch == handshake_.epoch());
    FUZZ_CHECK(agreement.peer.limits.session_window_bytes > 0);
    FUZZ_CHECK(agreement.peer.limits.stream_window_bytes_min > 0);
    FUZZ_CHECK(agreement.resumed == (agreement.id == session_.id()));
    if (!agreement.resumed) return;
    FUZZ_CHECK(session_.state() == SessionState::cut);
    FUZZ_CHECK(session_.problem_with(agreement.peer.consumed).empty());
    FUZZ_CHECK(agreement.peer.instance == session_.peer().instance);
  }

  Session& session_;
  Handshake handshake_;
  std::vector<std::byte> put_;
  std::size_t consumed_ = 0;
};

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

Session::Settings any_settings(Input& choices, Role role) {
  Session::Settings settings{};
  settings.role = role;
  settings.instance.fill(role == Role::host ? std::byte{0x11} : std::byte{0x22});
  settings.limits.streams_max = choices.take<std::uint8_t>();
  settings.limits.stream_window_bytes_min = choices.take<std::uint8_t>();
  settings.limits.session_window_bytes = choices.take<std::uint8_t>();
  return settings;
}

bool gives(const Session::Settings& settings) {
  return settings.limits.stream_window_bytes_min > 0 && settings.limits.session_window_bytes > 0;
}

/// Pieces and the whole must come to the same.
void greet_with(Input& choices) {
  const auto settings = any_settings(choices, choices.flag() ? Role::host : Role::guest);
  const std::uint64_t epoch = choices.take<std::uint8_t>();
  const std::size_t begin = choices.take<std::uint8_t>();
  const std::size_t piece = 1 + choices.below(64);
  const auto bytes = choices.rest();
  check_decoder(bytes);

  Session whole_session(settings);
  Lane whole(whole_session, epoch);
  const std::size_t taken = whole.hear({bytes, {}});
  FUZZ_CHECK(taken <= std::min(bytes.size(), hello_bytes_max));
  FUZZ_CHECK(taken == 0 || whole.handshake().over());

  Session pieces_session(settings);
  Lane pieces(pieces_session, epoch);
  const Ring ring(bytes, begin);
  std::size_t taken_in_pieces = 0;
  for (std::size_t arrived = 0; arrived < bytes.size();) {
    arrived = std::min(arrived + piece, bytes.size());
    const std::size_t now = pieces.hear(ring.first(arrived));
    FUZZ_CHECK(now == 0 || taken_in_pieces == 0);
    taken_in_pieces += now;
  }
  FUZZ_CHECK(pieces.handshake().over() == whole.handshake().over());
  FUZZ_CHECK(pieces.handshake().failure() == whole.handshake().failure());
  FUZZ_CHECK(taken_in_pieces == taken);
  FUZZ_CHECK(pieces_session.state() == whole_session.state());
  if (whole.carries()) FUZZ_CHECK(pieces_session.peer() == whole_session.peer());
}

/// Two honest sides agree whenever they speak of the same lane and both let anything move.
void greet_each_other(Input& choices) {
  const auto host_settings = any_settings(choices, Role::host);
  const auto guest_settings = any_settings(choices, Role::guest);
  const std::uint64_t epoch = choices.take<std::uint8_t>();
  const bool same_lane = choices.below(8) > 0;
  Session host(host_settings);
  Session guest(guest_settings);
  Lane there(host, epoch);
  Lane here(guest, same_lane ? epoch : epoch + 1);
  const auto hello = here.handshake().output();
  FUZZ_CHECK(there.hear({hello, {}}) == hello.size());
  const bool agreed = same_lane && gives(guest_settings);
  FUZZ_CHECK(there.carries() == agreed);
  const auto answer = there.handshake().output();
  FUZZ_CHECK(here.hear({answer, {}}) == answer.size());
  FUZZ_CHECK(here.carries() == (agreed && gives(host_settings)));
  if (here.carries()) FUZZ_CHECK(guest.id() == host.id());
}

/// A host whose session was cut and resumed before, against HELLOs that claim anything of it.
void claim_things(Input& choices) {
  auto settings = any_settings(choices, Role::host);
  settings.limits = MuxLimits{};
  Session host(settings);
  std::vector<std::unique_ptr<Lane>> lanes;
  Greeting hello;
  hello.version_min = hello.version_max = protocol_version_max;
  hello.limits = MuxLimits{};
  while (!choices.empty()) {
    const auto epoch = static_cast<std::uint64_t>(lanes.size());
    hello.epoch = choices.below(16) == 0 ? epoch + 1 : epoch;
    hello.turn += choices.below(3);
    if (choices.below(16) == 0) hello.turn = choices.take<std::uint32_t>();
    hello.instance.fill(choices.below(16) == 0 ? std::byte{3} : std::byte{2});
    hello.session = choices.below(8) == 0 ? RandomId{} : host.id();
    if (choices.below(8) == 0) hello.session.fill(std::byte{1});
    hello.consumed =
        choices.below(8) == 0
            ? choices.take<std::uint64_t>()
            : host.bytes_sent() - std::min<std::uint64_t>(host.bytes_sent(), choices.below(40));
    lanes.push_back(std::make_unique<Lane>(host, epoch));
    const auto message = encode_handshake(Hello{hello});
    FUZZ_CHECK(lanes.back()->hear({message.view(), {}}) == message.size);
    FUZZ_CHECK(lanes.back()->handshake().over());
    for (const auto& lane : lanes) lane->carry(choices);
    if (choices.below(4) == 0) host.cut(true);
  }
}

}  // namespace

void fuzz_handshake(Bytes input) {
  Input choices(input);
  switch (choices.below(3)) {
    case 0:
      return greet_with(choices);
    case 1:
      return greet_each_other(choices);
    default:
      return claim_things(choices);
  }
}

}  // namespace xenlane::fuzz

// A whole bridge core (lane, session, mux, driver) in the host's role over pages that another
// process writes at full speed: indexes, request bits, and above all frame headers that change
// between the moment they are looked at and the moment they are acted upon.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <map>
#include <optional>

#include "bridge/session/driver.hpp"
#include "tests/support/hostile_peer.hpp"
#include "tests/support/mapped_lane.hpp"

namespace xenlane::bridge {
namespace {

using transport::test::Flipper;
using transport::test::FlipperTarget;
using transport::test::MappedLane;
using transport::test::MappedRings;
using transport::test::Temper;
using namespace std::chrono_literals;

constexpr std::uint32_t ring_bytes = 4096;
constexpr std::size_t cell_bytes = 16;
using Cell = std::array<std::uint64_t, 2>;

Cell cell_of(std::span<const std::byte> frame) {
  std::array<std::byte, cell_bytes> bytes{};
  std::copy(frame.begin(), frame.end(), bytes.begin());
  return std::bit_cast<Cell>(bytes);
}

/// Frames of 16 bytes, so that any of them may stand where another was: the ring is full of frames
/// that are valid at every moment and different at the next.
std::vector<Cell> cells() {
  std::vector<std::byte> data(cell_bytes);
  const EncodedFrame header = encode_frame(DataFrame{1, 8});
  std::copy(header.view().begin(), header.view().end(), data.begin());
  return {cell_of(encode_frame(PingFrame{1}).view()), cell_of(encode_frame(PongFrame{2}).view()),
          cell_of(encode_frame(CreditFrame{1, 1U << 20}).view()),
          cell_of(encode_frame(CreditFrame{0, ~std::uint64_t{0}}).view()), cell_of(data)};
}

/// Takes what comes and gives what it can: every byte delivered is credit back, every turn is
/// filled.
class Echo final : public StreamOwner {
 public:
  Echo(Session& session, std::function<void()> on_stream)
      : session_(session), on_stream_(std::move(on_stream)) {}
  std::uint64_t delivered_bytes = 0;
  std::uint64_t bytes_in = 0;

  void handle_session_up() override {}
  void handle_session_ended(int, const std::string&) override {
    bytes_in = session_.bytes_consumed();
  }
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      session_.mux()->accept(open->id);
      session_.mux()->source_ready(open->id);
      on_stream_();
    }
  }
  void handle_pass_over() override {}
  SourceBytes read_source(StreamId, const transport::WritableSpans& to) override {
    const std::vector<std::byte> bytes(std::min<std::size_t>(to.size(), 500));
    copy_in(to, 0, bytes);
    return {static_cast<std::uint32_t>(bytes.size()), false};
  }
  void deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) override {
    std::vector<std::byte> copy(untrusted_payload.size());
    copy_out(untrusted_payload, 0, copy);
    delivered_bytes += copy.size();
    session_.mux()->delivered(id, copy.size());
  }

 private:
  Session& session_;
  std::function<void()> on_stream_;
};

class HostileDriver : public testing::Test {
 protected:
  void start_flipper(std::vector<Cell> with_cells) {
    FlipperTarget target{{rings.control_page(), transport::test::page_bytes},
                         rings.receive(),
                         rings.send(),
                         &rings.control()->our_requests,
                         &rings.control()->peer_requests,
                         std::move(with_cells),
                         [fd = event.get()] { ::eventfd_write(fd, 1); }};
    flipper = std::make_unique<Flipper>(std::move(target));
  }

  /// HELLO and OPEN lie ready, and valid frames behind them.
  void prepare_rings() {
    flipper->pause();
    rings.reset();
    Greeting greeting;
    greeting.version_min = greeting.version_max = protocol_version_max;
    greeting.epoch = 7;
    greeting.turn = 1;
    greeting.limits = MuxLimits{};
    const auto hello = encode_handshake(Hello{greeting});
    const auto open = encode_frame(OpenFrame{1, EndShape::service, SocketKind::stream, "of.eight"});
    greeting_bytes = hello.view().size() + open.view().size();
    ASSERT_EQ(greeting_bytes % cell_bytes, 0U) << "the cells behind must lie at their places";
    fill_with_pings(0, ring_bytes);
    std::byte* const at = rings.receive_buffer();
    std::copy(hello.view().begin(), hello.view().end(), at);
    std::copy(open.view().begin(), open.view().end(), at + hello.view().size());
    rings.control()->receive_producer = ring_bytes;
  }
  void fill_with_pings(std::size_t from, std::size_t to) {
    const auto ping = encode_frame(PingFrame{3});
    for (std::size_t at = from; at < to; at += cell_bytes) {
      std::copy(ping.view().begin(), ping.view().end(), rings.receive_buffer() + at);
    }
  }

  /// One session until it is down, or ended here once it has taken in `bytes_max`.
  void run_session(Temper temper, bool from_the_start, std::uint64_t bytes_max) {
    ASSERT_NO_FATAL_FAILURE(prepare_rings());
    boost::asio::io_context io;
    Session session({Role::host, {}, {}});
    Echo echo(session, [&] {
      fill_with_pings(0, greeting_bytes);  // read already; no frames when the ring comes round
      if (!from_the_start) flipper->resume(temper);
    });
    RandomId fresh{};
    fresh.fill(std::byte{9});
    SessionDriver driver(io.get_executor(), std::make_unique<MappedLane>(rings, event.get()),
                         session, {.epoch = 7, .fresh_id = fresh},
                         {.handshake = 1s, .peer_stall = 2s}, echo);
    std::optional<std::string> reason;
    boost::asio::co_spawn(io, driver.run(), [&](const std::exception_ptr&, std::string why) {
      reason = std::move(why);
      driver.release_lane();
    });
    if (from_the_start) flipper->resume(temper);
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!reason && std::chrono::steady_clock::now() < deadline) {
      io.run_one_for(100ms);
      if (session.bytes_consumed() >= bytes_max) driver.stop("enough");
    }
    ASSERT_TRUE(reason) << "the session did not notice";
    bytes_in += session.mux() ? session.bytes_consumed() : echo.bytes_in;
    bytes_delivered += echo.delivered_bytes;
    ++endings[reason->substr(0, reason->find(':'))];
    ++sessions;
  }

  void report() const {
    std::printf("%d sessions, %lu bytes in, %lu delivered, %lu flips; ended:\n", sessions,
                static_cast<unsigned long>(bytes_in), static_cast<unsigned long>(bytes_delivered),
                static_cast<unsigned long>(flipper->flips()));
    for (const auto& [reason, count] : endings) std::printf("%6d  %s\n", count, reason.c_str());
  }

  transport::UniqueFd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  MappedRings rings{ring_bytes};
  std::unique_ptr<Flipper> flipper;
  std::map<std::string, int> endings;
  std::size_t greeting_bytes = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_delivered = 0;
  int sessions = 0;
};

constexpr const char* bad_index = "the peer wrote an impossible ring index";
constexpr const char* bad_protocol = "the peer broke the protocol";

// Every header is valid whenever it is looked at, but not the same twice. Who looks once sees an
// honest peer, apart from DATA that is more than its credit.
TEST_F(HostileDriver, HeadersThatChangeUnderTheReaderAreReadOnce) {
  start_flipper(cells());
  for (int i = 0; i < 10; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_session(Temper::polite, false, 1'000'000));
  }
  report();
  EXPECT_GT(bytes_in, 1'000'000U);
  EXPECT_GT(bytes_delivered, 0U);
  EXPECT_EQ(endings[bad_index], 0);
}

// Now and then an impossible index, or any byte of the control page.
TEST_F(HostileDriver, WildIndexesAmongThemEndTheSession) {
  start_flipper(cells());
  for (int i = 0; i < 100; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_session(Temper::sly, false, 4'000'000));
  }
  report();
  EXPECT_GT(bytes_in, 100'000U);
  EXPECT_GT(endings[bad_index], 50);
}

// Random bytes under a reader of frames, and from the handshake on.
TEST_F(HostileDriver, RandomBytesFromTheHandshakeOnEndTheSession) {
  start_flipper({});
  for (int i = 0; i < 100; ++i) {
    ASSERT_NO_FATAL_FAILURE(run_session(Temper::sly, i % 2 == 0, 4'000'000));
  }
  report();
  EXPECT_GT(endings[bad_protocol], 25);
  EXPECT_EQ(endings["enough"], 0);
}

}  // namespace
}  // namespace xenlane::bridge

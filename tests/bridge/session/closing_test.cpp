// The narrow place at the end of a session: the peer commits its last bytes and goes while the
// driver is between its look at the ring and its look at the peer's liveness. There is no telling
// the processor to stop just there, so the lane itself plays the peer at that moment.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>

#include "bridge/session/driver.hpp"
#include "tests/support/mapped_lane.hpp"

namespace xenlane::bridge {
namespace {

using transport::test::MappedLane;
using transport::test::MappedRings;

constexpr std::uint32_t ring_bytes = 4096;

/// Accepts every stream and keeps what comes.
class Reader final : public StreamOwner {
 public:
  explicit Reader(Session& of) : session(of) {}
  Session& session;
  std::string received;
  bool accepted = false;
  bool finished = false;

  void handle_session_up() override {}
  void handle_session_ended(int, const std::string&) override {}
  void handle_event(const InputEvent& event) override {
    if (const auto* open = std::get_if<OpenRequested>(&event)) {
      session.mux()->accept(open->id);
      accepted = true;
    }
    finished |= std::holds_alternative<PeerFinished>(event);
  }
  void handle_pass_over() override {}
  SourceBytes read_source(StreamId, const transport::WritableSpans&) override { return {0, true}; }
  void deliver(StreamId id, const transport::ReadableSpans& untrusted_payload) override {
    for (const auto part : {untrusted_payload.first, untrusted_payload.second}) {
      received.append(reinterpret_cast<const char*>(part.data()), part.size());
    }
    session.mux()->delivered(id, untrusted_payload.size());
  }
};

/// The guest's end, by hand: appends to the ring that the host reads.
void put(const MappedRings& rings, std::span<const std::byte> bytes) {
  const std::uint32_t at = rings.control()->receive_producer;
  ASSERT_LE(at + bytes.size(), ring_bytes) << "written once round only";
  std::copy(bytes.begin(), bytes.end(), rings.receive_buffer() + at);
  rings.control()->receive_producer = at + static_cast<std::uint32_t>(bytes.size());
}

EncodedHandshake hello() {
  Greeting greeting;
  greeting.version_min = greeting.version_max = protocol_version_max;
  greeting.epoch = 7;
  greeting.turn = 1;
  greeting.limits = MuxLimits{};
  return encode_handshake(Hello{greeting});
}

TEST(Closing, WhatCameBetweenTheLastLookAndTheCloseIsDelivered) {
  boost::asio::io_context io;
  const transport::UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const MappedRings rings(ring_bytes);
  put(rings, hello().view());
  put(rings, encode_frame(OpenFrame{1, EndShape::service, SocketKind::stream, "a"}).view());

  auto owned = std::make_unique<MappedLane>(rings, event.get());
  MappedLane& lane = *owned;
  Session session({Role::host, {}, {}});
  Reader reader(session);
  RandomId fresh{};
  fresh.fill(std::byte{9});
  SessionDriver driver(io.get_executor(), std::move(owned), session,
                       {.epoch = 7, .fresh_id = fresh}, {}, reader);
  int endings = 0;
  lane.before_state = [&] {
    // The driver has read all there was; now the guest says its last and leaves.
    if (!reader.accepted || endings++ > 0) return;
    const std::string_view words = "last words";
    const auto size = static_cast<std::uint32_t>(words.size());
    put(rings, encode_frame(DataFrame{1, size}).view());
    put(rings, std::as_bytes(std::span(words)));
    put(rings, encode_frame(FinishFrame{1, size}).view());
    rings.control()->peer_live = 0;
  };
  std::optional<std::string> reason;
  boost::asio::co_spawn(io, driver.run(), [&](const std::exception_ptr&, std::string why) {
    reason = std::move(why);
    lane.before_state = nullptr;
    driver.release_lane();
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!reason && std::chrono::steady_clock::now() < deadline) {
    io.run_one_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(reason.value_or("(still up)"), "the peer closed the lane");
  EXPECT_EQ(reader.received, "last words");
  EXPECT_TRUE(reader.finished);
}

}  // namespace
}  // namespace xenlane::bridge

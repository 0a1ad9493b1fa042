// The vchan lane in both roles over the real libxenvchan on xensim, and against libxenvchan's own
// read and write at the other end.
#include "tests/conformance/lane_conformance.hpp"
#include "tests/conformance/vchan_ends.hpp"

namespace xenlane::transport::test {
namespace {

LaneKind vchan(const std::string& name, bool server) {
  return {
      name,
      [server](std::uint32_t ring_bytes) {
        LanePair pair{server_lane(ring_bytes), nullptr};
        pair.theirs = client_lane();
        if (!server) std::swap(pair.ours, pair.theirs);
        return pair;
      },
      [server](std::uint32_t ring_bytes) {
        auto [lane, raw] = with_libxenvchan(server, ring_bytes);
        std::uint8_t* live = server ? &raw->ring->cli_live : &raw->ring->srv_live;
        return ExposedLane{std::move(lane), &raw->write.shr->prod, &raw->read.shr->cons, live, raw};
      }};
}

const auto kinds = testing::Values(vchan("server", true), vchan("client", false));
std::string name_of(const testing::TestParamInfo<LaneKind>& row) {
  return row.param.name;
}
INSTANTIATE_TEST_SUITE_P(Vchan, LaneConformance, kinds, name_of);
INSTANTIATE_TEST_SUITE_P(Vchan, LaneAgainstHostility, kinds, name_of);

class LibxenvchanInterop : public testing::TestWithParam<std::tuple<bool, std::uint32_t>> {};

TEST_P(LibxenvchanInterop, UnderstandsEveryByteBothWays) {
  const auto [server, ring_bytes] = GetParam();
  auto [lane, raw] = with_libxenvchan(server, ring_bytes);
  constexpr std::size_t total = 1'500'000;
  const auto there = pattern(total, 1);
  const auto back = pattern(total, 2);
  std::vector<std::byte> got_there;
  std::vector<std::byte> got_back;
  std::size_t sent_there = 0;
  std::size_t sent_back = 0;
  std::mt19937 random(3);
  std::vector<std::byte> buffer(ring_bytes);
  for (int idle = 0; (got_there.size() < total || got_back.size() < total) && idle < 100;) {
    const std::size_t before = sent_there + sent_back + got_there.size() + got_back.size();
    const auto room = lane->writable();
    const std::size_t give =
        std::min({room.size(), total - sent_there, random() % (std::size_t{ring_bytes} + 1)});
    bridge::copy_in(room, 0, std::span(there).subspan(sent_there, give));
    lane->commit(give);
    lane->publish();
    sent_there += give;

    const int read = libxenvchan_read(raw.get(), buffer.data(), random() % ring_bytes);
    ASSERT_GE(read, 0);
    got_there.insert(got_there.end(), buffer.begin(), buffer.begin() + read);

    const std::size_t offered = std::min(total - sent_back, random() % std::size_t{ring_bytes});
    const int written = libxenvchan_write(raw.get(), back.data() + sent_back, offered);
    ASSERT_GE(written, 0);
    sent_back += static_cast<std::size_t>(written);

    const auto received = read_all(*lane);
    got_back.insert(got_back.end(), received.begin(), received.end());
    idle = before == sent_there + sent_back + got_there.size() + got_back.size() ? idle + 1 : 0;
  }
  EXPECT_TRUE(got_there == there);
  EXPECT_TRUE(got_back == back);
}

TEST_P(LibxenvchanInterop, WakesAReaderThatBlocks) {
  const auto [server, ring_bytes] = GetParam();
  auto [lane, raw] = with_libxenvchan(server, ring_bytes);
  raw->blocking = -1;  // a signed field of one bit
  const auto bytes = pattern(100'000, 4);
  std::vector<std::byte> got(bytes.size());
  std::thread reader([&, raw = raw] {
    for (std::size_t at = 0; at < got.size();) {
      const int read = libxenvchan_read(raw.get(), got.data() + at, got.size() - at);
      if (read <= 0) return;
      at += static_cast<std::size_t>(read);
    }
  });
  std::string lost;
  for (std::size_t sent = 0; sent < bytes.size() && lost.empty();) {
    const auto room = lane->writable();
    const std::size_t give = std::min(room.size(), bytes.size() - sent);
    bridge::copy_in(room, 0, std::span(bytes).subspan(sent, give));
    lane->commit(give);
    lane->publish();
    sent += give;
    if (sent == bytes.size() || give > 0 || lane->arm(false, true)) continue;
    if (!woken(*lane, 10'000)) lost = "no wake-up for room";
    lane->acknowledge();
  }
  if (!lost.empty()) lane.reset();  // ends the reader
  reader.join();
  EXPECT_EQ(lost, "");
  EXPECT_TRUE(got == bytes);
}

TEST_P(LibxenvchanInterop, EachNoticesThatTheOtherClosed) {
  const auto [server, ring_bytes] = GetParam();
  {
    auto [lane, raw] = with_libxenvchan(server, ring_bytes);
    EXPECT_EQ(libxenvchan_is_open(raw.get()), 1);
    lane.reset();
    EXPECT_EQ(libxenvchan_is_open(raw.get()), 0);
  }
  auto [lane, raw] = with_libxenvchan(server, ring_bytes);
  EXPECT_EQ(lane->state(), LaneState::open);
  raw.reset();
  EXPECT_EQ(lane->state(), LaneState::closed);
}

INSTANTIATE_TEST_SUITE_P(RolesAndRings, LibxenvchanInterop,
                         testing::Combine(testing::Bool(), testing::Values(4096U, 65536U)));

TEST(VchanLane, OfferWithoutAClientAwaitsIt) {
  const auto server = server_lane(small_ring);
  ASSERT_TRUE(server);
  EXPECT_EQ(server->state(), LaneState::awaiting_peer);
  const auto client = client_lane();
  ASSERT_TRUE(client);
  EXPECT_EQ(server->state(), LaneState::open);
}

TEST(VchanLane, NoRingAtThePathIsAnErrorWithItsName) {
  Xen::enter(0);
  const auto lane = attach_vchan(guest_domid, "/local/domain/1/data/none");
  ASSERT_FALSE(lane.has_value());
  EXPECT_EQ(lane.error().kind, LaneFailureKind::no_ring);
  EXPECT_NE(lane.error().text.find("/local/domain/1/data/none"), std::string::npos);
}

}  // namespace
}  // namespace xenlane::transport::test

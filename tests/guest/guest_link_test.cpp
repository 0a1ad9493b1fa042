// How a guest's bridge follows what its host wishes, by a xenstored that has bad moments. In place
// of vchans there are lanes in memory, to which nobody attaches.
#include "guest/guest_link.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <vector>

#include "bridge/control/protocol.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/fake_xenstored.hpp"
#include "transport/memory/memory_lane.hpp"
#include "transport/vchan/vchan_opener.hpp"

namespace xenlane::transport {

namespace {

/// The hosts' ends of the lanes that were offered.
std::vector<std::unique_ptr<Lane>>& host_ends() {
  static std::vector<std::unique_ptr<Lane>> ends;
  return ends;
}

}  // namespace

boost::asio::awaitable<LaneResult> async_offer_vchan(VchanOffer, std::chrono::milliseconds) {
  auto [guest_end, host_end] = MemoryLane::make_pair(65536);
  host_ends().push_back(std::move(host_end));
  co_return LaneResult(std::unique_ptr<Lane>(std::move(guest_end)));
}

boost::asio::awaitable<LaneResult> async_attach_vchan(Domid, std::string,
                                                      std::chrono::milliseconds) {
  co_return LaneFailure{LaneFailureKind::no_ring, "a guest attaches to nothing"};
}

boost::asio::awaitable<void> async_close_lane(std::unique_ptr<Lane> lane,
                                              std::chrono::milliseconds) {
  lane.reset();
  co_return;
}

}  // namespace xenlane::transport

namespace xenlane::guest {
namespace {

using bridge::json_object;
using bridge::json_text;
using transport::FakeXenstored;

class GuestLinkTest : public testing::Test {
 protected:
  using Header = FakeXenstored::Header;

  GuestLinkTest() {
    config.timeouts.xenstore_ms = 100;
    config.timeouts.retry_ms_min = 1;
    config.timeouts.retry_ms_max = 10;
    config.timeouts.handshake_ms = 3'600'000;
  }
  ~GuestLinkTest() override {
    store.reset();  // ends the fake's connection; what waits for it is not run any more
    transport::host_ends().clear();
  }

  /// Runs the bridge of domain 7. `read_host` answers the reading of who its host is, being told
  /// how many were answered before.
  void start(std::function<std::string(const Header&, int)> read_host) {
    xenstored.emplace(dir / "xenstored", [this, read_host = std::move(read_host)](
                                             const Header& header, const std::string& body) {
      if (header.type == transport::xs_transaction_start) return reply(header, "1");
      if (header.type == transport::xs_read) {
        const std::string path = body.c_str();
        if (path == "domid") return reply(header, "7");
        if (path == "xenlane/host") return read_host(header, host_reads++);
        if (path == "xenlane/wanted") return reply(header, "1");
        // None from an earlier life; after that, our own.
        if (path == "data/xenlane/ring" && ring_reads++ > 0) return reply(header, "1");
        return absent(header);
      }
      std::string message = reply(header, "OK");
      if (header.type == transport::xs_watch) {
        // A watch fires once when it is set; its body is that of the event.
        message += FakeXenstored::message(transport::xs_watch_event, 0, body);
      }
      return message;
    });
    store.emplace(context.get_executor(), dir / "xenstored", std::chrono::milliseconds(100));
    peer.emplace(context.get_executor(), bridge::Role::guest, "host", config);
    link.emplace(context.get_executor(), *store, *peer, config);
    boost::asio::co_spawn(context, link->run(),
                          [](const std::exception_ptr& error) { EXPECT_FALSE(error); });
  }
  std::string session(const char* what) const {
    return json_text(*json_object(peer->status(), "session"), what);
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      context.run_one_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(done()) << "it says: " << session("state") << ", " << session("reason");
  }
  static std::string reply(const Header& header, const std::string& value) {
    return FakeXenstored::message(header.type, header.request, value);
  }
  static std::string absent(const Header& header) {
    return FakeXenstored::message(transport::xs_error, header.request, std::string("ENOENT\0", 7));
  }
  /// A message for nobody: the request is never answered.
  static std::string nothing() { return FakeXenstored::message(transport::xs_error, 0, ""); }

  const bridge::TempDir dir;
  bridge::BridgeConfig config;
  boost::asio::io_context context{1};
  std::atomic<int> host_reads{0};
  std::atomic<int> ring_reads{0};
  std::optional<FakeXenstored> xenstored;
  std::optional<transport::XenStore> store;
  std::optional<bridge::Peer> peer;
  std::optional<GuestLink> link;
};

constexpr const char* no_host = "no host bridge serves this guest";

TEST_F(GuestLinkTest, OffersALaneToTheHostThatWantsOne) {
  start([](const auto& header, int) { return reply(header, "0"); });
  run_until([&] { return session("state") == "handshake"; });
  EXPECT_EQ(transport::host_ends().size(), 1U);
  EXPECT_EQ(link->domid(), 7);
}

TEST_F(GuestLinkTest, WaitsWithoutAHost) {
  start([](const auto& header, int) { return absent(header); });
  run_until([&] { return session("reason") == no_host; });
  EXPECT_TRUE(transport::host_ends().empty());
}

TEST_F(GuestLinkTest, HostThatXenstoredWasTooBusyToTellOfIsServedLater) {
  start([](const auto& header, int reads) { return reads == 0 ? nothing() : reply(header, "0"); });
  run_until([&] { return session("state") == "handshake"; });
}

// The first look is before the offer, the second when it is made, the third for the watch's event.
TEST_F(GuestLinkTest, HostThatLeavesEndsTheSession) {
  start([](const auto& header, int reads) {
    return reads < 2 ? reply(header, "0") : absent(header);
  });
  run_until([&] { return session("reason") == no_host; });
  EXPECT_EQ(transport::host_ends().size(), 1U);
}

// The event that told of it is spent, and no other will come.
TEST_F(GuestLinkTest, HostThatLeftWhileXenstoredWasTooBusyToTellIsMissedLater) {
  start([](const auto& header, int reads) {
    if (reads < 2) return reply(header, "0");
    return reads == 2 ? nothing() : absent(header);
  });
  run_until([&] { return session("reason") == no_host; });
  EXPECT_EQ(transport::host_ends().size(), 1U);
}

TEST_F(GuestLinkTest, WishThatIsNoneIsNotFollowed) {
  start([](const auto& header, int) { return reply(header, "host"); });
  run_until([&] { return session("reason") == no_host; });
  EXPECT_TRUE(transport::host_ends().empty());
}

}  // namespace
}  // namespace xenlane::guest

// How a worker finds the ring that its guest offers, by a xenstored that has bad moments. There is
// no Xen here: that it tried to attach shows in the reason that it gives.
#include "host/worker_link.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>

#include "bridge/control/protocol.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/fake_xenstored.hpp"

namespace xenlane::host {
namespace {

using bridge::json_object;
using bridge::json_text;
using transport::FakeXenstored;

class WorkerLinkTest : public testing::Test {
 protected:
  WorkerLinkTest() {
    ::setenv("XENSTORED_PATH", "/nonexistent", 1);  // of libxenvchan, which is to fail at once
    config.timeouts.xenstore_ms = 100;
    config.timeouts.retry_ms_min = 1;
    config.timeouts.retry_ms_max = 10;
  }
  ~WorkerLinkTest() override {
    store.reset();  // ends the fake's connection; what waits for it is not run any more
  }

  /// Runs a worker for guest 7. `read_pointer` answers the reading of what epoch is on offer, being
  /// told how many were answered before.
  void start(std::function<std::string(const FakeXenstored::Header&, int)> read_pointer) {
    xenstored.emplace(dir / "xenstored", [this, read_pointer = std::move(read_pointer)](
                                             const auto& header, const std::string& body) {
      using Fake = FakeXenstored;
      const std::string pointer("/local/domain/7/data/xenlane/ring\0", 34);
      if (header.type == transport::xs_read && body == pointer) {
        return read_pointer(header, pointer_reads++);
      }
      if (header.type == transport::xs_transaction_start) {
        return Fake::message(header.type, header.request, std::string("1\0", 2));
      }
      std::string reply = Fake::message(header.type, header.request, std::string("OK\0", 3));
      if (header.type == transport::xs_watch) {
        // A watch fires once when it is set; its body is that of the event.
        reply += Fake::message(transport::xs_watch_event, 0, body);
      }
      return reply;
    });
    store.emplace(context.get_executor(), dir / "xenstored", std::chrono::milliseconds(100));
    peer.emplace(context.get_executor(), bridge::Role::host, "web", config);
    link.emplace(context.get_executor(), *store, *peer, config, transport::Domid{7}, "web");
    boost::asio::co_spawn(context, link->run(), [](const std::exception_ptr& error) {
      EXPECT_FALSE(error) << "it runs until its domain has gone";
    });
  }
  std::string reason() const {
    return json_text(*json_object(peer->status(), "session"), "reason");
  }
  void run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      context.run_one_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(done()) << "it says: " << reason();
  }
  static bool tried(const std::string& reason, int epoch) {
    return reason.starts_with("no vchan at /local/domain/7/data/xenlane/" + std::to_string(epoch));
  }
  static std::string epoch(const FakeXenstored::Header& header, const std::string& value) {
    return FakeXenstored::message(header.type, header.request, value);
  }
  static std::string absent(const FakeXenstored::Header& header) {
    return FakeXenstored::message(transport::xs_error, header.request, std::string("ENOENT\0", 7));
  }
  /// A message for nobody: the request is never answered.
  static std::string nothing() { return FakeXenstored::message(transport::xs_error, 0, ""); }

  const bridge::TempDir dir;
  bridge::BridgeConfig config;
  boost::asio::io_context context{1};
  std::atomic<int> pointer_reads{0};
  std::optional<FakeXenstored> xenstored;
  std::optional<transport::XenStore> store;
  std::optional<bridge::Peer> peer;
  std::optional<WorkerLink> link;
};

TEST_F(WorkerLinkTest, AttachesToWhatIsOnOffer) {
  start([](const auto& header, int reads) {
    return reads == 0 ? absent(header) : epoch(header, "1");
  });
  run_until([&] { return tried(reason(), 1); });
}

TEST_F(WorkerLinkTest, RingOfAnEarlierWorkerIsNotTaken) {
  start([](const auto& header, int) { return epoch(header, "4"); });
  run_until([&] { return pointer_reads == 2; });
  EXPECT_EQ(reason(), "waiting for the guest's bridge to offer a lane");
}

// The event that told of the ring is spent, and no other will come.
TEST_F(WorkerLinkTest, RingThatXenstoredWasTooBusyToTellOfIsFoundLater) {
  start([](const auto& header, int reads) {
    if (reads < 2) return absent(header);
    return reads == 2 ? nothing() : epoch(header, "1");
  });
  run_until([&] { return tried(reason(), 1); });
}

TEST_F(WorkerLinkTest, RingOfAnEarlierWorkerIsNotTakenThoughItWasToldOfLate) {
  start([](const auto& header, int reads) { return reads == 0 ? nothing() : epoch(header, "4"); });
  run_until([&] { return pointer_reads == 3; });
  EXPECT_EQ(reason(), "waiting for the guest's bridge to offer a lane");
}

TEST_F(WorkerLinkTest, NonsenseOfTheGuestIsNoOffer) {
  start([](const auto& header, int reads) {
    return epoch(header, reads == 0 ? "-1" : "1\n; rm -rf /");
  });
  run_until([&] { return pointer_reads == 2; });
  EXPECT_EQ(reason(), "waiting for the guest's bridge to offer a lane");
}

}  // namespace
}  // namespace xenlane::host

// A peer with its session, over a lane whose other end the test plays by hand.
#include "bridge/daemon/peer.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "transport/memory/memory_lane.hpp"

namespace xenlane::bridge {
namespace {

// Log lines and `xenlane status` show why a session ended, and a refusing host chooses the words.
TEST(Peer, ReasonOfARefusalIsOneLineOfPlainText) {
  boost::asio::io_context io{1};
  const BridgeConfig config;
  Peer peer(io.get_executor(), Role::guest, "host", config);
  auto [ours, theirs] = transport::MemoryLane::make_pair(4096);
  std::string reason;
  boost::asio::co_spawn(
      io, peer.run_session(std::move(ours), 1),
      [&](const std::exception_ptr&, std::string ended) { reason = std::move(ended); });
  const auto refusal = encode_handshake(Reject{RejectCode::busy, 1, 1, "no\x1b[2J\r\nlevel: \xff"});
  copy_in(theirs->writable(), 0, refusal.view());
  theirs->commit(refusal.size);
  theirs->publish();
  while (reason.empty()) io.run_one();
  EXPECT_EQ(reason, "refused by the host: no\\x1b[2J\\x0d\\x0alevel: \\xff");
  EXPECT_EQ(peer.status().at("session").at("reason").as_string(), reason);
}

}  // namespace
}  // namespace xenlane::bridge

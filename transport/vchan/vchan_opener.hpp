// Opening and closing vchan lanes without blocking the event loop: each runs on a helper thread and
// has a deadline, because libxenvchan waits for xenstored without one.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>

#include "transport/vchan/vchan_lane.hpp"

namespace xenlane::transport {

boost::asio::awaitable<LaneResult> async_offer_vchan(VchanOffer offer,
                                                     std::chrono::milliseconds deadline);

boost::asio::awaitable<LaneResult> async_attach_vchan(Domid server, std::string path,
                                                      std::chrono::milliseconds deadline);

/// Closes the lane on a helper thread: a vchan server's close removes its keys from xenstore.
boost::asio::awaitable<void> async_close_lane(std::unique_ptr<Lane> lane,
                                              std::chrono::milliseconds deadline);

}  // namespace xenlane::transport

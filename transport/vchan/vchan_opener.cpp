#include "transport/vchan/vchan_opener.hpp"

#include <fmt/format.h>

#include "transport/base/blocking.hpp"

namespace xenlane::transport {

namespace {

boost::asio::awaitable<LaneResult> open_within(std::function<LaneResult()> open, std::string what,
                                               std::chrono::milliseconds deadline) {
  auto result = co_await run_blocking<LaneResult>(std::move(open), deadline);
  if (result) co_return std::move(*result);
  co_return LaneFailure{
      LaneFailureKind::timed_out,
      fmt::format("{}: no answer within {} ms; does xenstored answer?", what, deadline.count())};
}

}  // namespace

boost::asio::awaitable<LaneResult> async_offer_vchan(VchanOffer offer,
                                                     std::chrono::milliseconds deadline) {
  std::string what = fmt::format("offering a vchan at {}", offer.path);
  return open_within([offer = std::move(offer)] { return offer_vchan(offer); }, std::move(what),
                     deadline);
}

boost::asio::awaitable<LaneResult> async_attach_vchan(Domid server, std::string path,
                                                      std::chrono::milliseconds deadline) {
  std::string what = fmt::format("attaching to the vchan at {}", path);
  return open_within([server, path = std::move(path)] { return attach_vchan(server, path); },
                     std::move(what), deadline);
}

boost::asio::awaitable<void> async_close_lane(std::unique_ptr<Lane> lane,
                                              std::chrono::milliseconds deadline) {
  // std::function wants something copyable.
  auto owner = std::make_shared<std::unique_ptr<Lane>>(std::move(lane));
  // A name of its own: GCC 12 destroys a closure that is a temporary of a co_await expression
  // twice.
  std::function<bool()> close = [owner] {
    owner->reset();
    return true;
  };
  // Turned away, it would be closed here, by a loop that must never wait.
  co_await run_blocking<bool>(std::move(close), deadline, BlockingCall::always);
}

}  // namespace xenlane::transport

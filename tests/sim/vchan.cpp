// In place of transport/vchan/vchan_opener.cpp: rings are had from the simulation, with the delays
// and failures that libxenvchan, xenstored and the grant device can make. Each is what the product
// documents for its own (transport/vchan/vchan_lane.hpp).
#include "transport/vchan/vchan_opener.hpp"

#include <fmt/format.h>

#include <boost/asio/steady_timer.hpp>

#include "tests/sim/processes.hpp"

namespace xenlane::transport {

namespace asio = boost::asio;
using sim::environment;
using sim::Fault;
using sim::hypervisor;
using std::chrono::milliseconds;

namespace {

LaneFailure failure(LaneFailureKind kind, std::string text) {
  return LaneFailure{kind, std::move(text)};
}

asio::awaitable<void> pass(std::chrono::microseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

std::chrono::microseconds usual_delay() {
  return std::chrono::microseconds(environment()->between(20, 3000));
}

/// libxenvchan removes its keys when a server closes; the folder goes too, for brevity.
class OfferedLane final : public Lane {
 public:
  OfferedLane(std::unique_ptr<Lane> lane, std::string path)
      : lane_(std::move(lane)), path_(std::move(path)) {}
  ~OfferedLane() override {
    if (hypervisor() == nullptr) return;
    const sim::OutsideOfProcess outside;
    hypervisor()->offers.erase(path_);
    hypervisor()->store.server.erase(path_);
  }
  std::string_view kind() const override { return lane_->kind(); }
  LaneState state() override { return lane_->state(); }
  std::size_t receive_ring_bytes() const override { return lane_->receive_ring_bytes(); }
  std::size_t send_ring_bytes() const override { return lane_->send_ring_bytes(); }
  ReadableSpans readable() override { return lane_->readable(); }
  void consume(std::size_t count) override { lane_->consume(count); }
  WritableSpans writable() override { return lane_->writable(); }
  void commit(std::size_t count) override { lane_->commit(count); }
  void publish() override { lane_->publish(); }
  std::size_t unconsumed_bytes() override { return lane_->unconsumed_bytes(); }
  ReadableSpans unconsumed() override { return lane_->unconsumed(); }
  bool arm(bool readable, bool writable) override { return lane_->arm(readable, writable); }
  int wait_fd() const override { return lane_->wait_fd(); }
  void acknowledge() override { lane_->acknowledge(); }
  void nudge() override { lane_->nudge(); }

 private:
  std::unique_ptr<Lane> lane_;
  std::string path_;
};

}  // namespace

asio::awaitable<LaneResult> async_offer_vchan(VchanOffer offer, milliseconds deadline) {
  auto& env = *environment();
  const Domid domid = env.running->domid;
  const bool spared = env.running->spared;
  if (hypervisor()->without_vchan.contains(domid)) {
    co_return failure(LaneFailureKind::no_grants, "no vchan here");
  }
  if (env.strikes(Fault::no_grants)) co_return failure(LaneFailureKind::no_grants, "no grants");
  if (env.strikes(Fault::no_event_channel)) {
    co_return failure(LaneFailureKind::no_event_channel, "no event channel");
  }
  std::uint32_t ring_bytes = offer.ring_bytes_min;
  while (ring_bytes < offer.ring_bytes_max && !env.strikes(Fault::smallest_ring)) ring_bytes *= 2;
  const auto delay = usual_delay();
  co_await pass(delay);
  if (!hypervisor()->store.answers || env.strikes(Fault::setup_timeout)) {
    env.hinder(env.now_ns() + static_cast<std::uint64_t>(deadline.count()) * 1'000'000);
    co_await pass(deadline);
    co_return failure(LaneFailureKind::timed_out, "no answer in time");
  }
  const sim::OutsideOfProcess outside;
  const std::string path = fmt::format("/local/domain/{}/{}", domid, offer.path);
  hypervisor()->store.server.write(path + "/ring-ref", "8");
  hypervisor()->store.server.write(path + "/event-channel", "8");
  auto link = std::make_shared<sim::Link>(domid, ring_bytes, spared);
  hypervisor()->links.push_back(link);
  ++hypervisor()->links_made;
  hypervisor()->offers[path] = link;
  auto lane = sim::Link::make_lane(std::move(link), sim::Link::server);
  co_return std::make_unique<OfferedLane>(std::move(lane), path);
}

asio::awaitable<LaneResult> async_attach_vchan(Domid server, std::string path,
                                               milliseconds deadline) {
  auto& env = *environment();
  const auto delay = usual_delay();
  co_await pass(delay);
  if (!hypervisor()->store.answers || env.strikes(Fault::setup_timeout)) {
    env.hinder(env.now_ns() + static_cast<std::uint64_t>(deadline.count()) * 1'000'000);
    co_await pass(deadline);
    co_return failure(LaneFailureKind::timed_out, "no answer in time");
  }
  const bool fails = env.strikes(Fault::attach_fails);
  const sim::OutsideOfProcess outside;
  const auto found = hypervisor()->offers.find(path);
  auto link = found == hypervisor()->offers.end() ? nullptr : found->second.lock();
  if (!link || link->attached() || fails) {
    co_return failure(LaneFailureKind::no_ring, fmt::format("no ring of domain {}", server));
  }
  co_return sim::Link::make_lane(std::move(link), sim::Link::client);
}

asio::awaitable<void> async_close_lane(std::unique_ptr<Lane> lane, milliseconds) {
  const auto delay = usual_delay();
  co_await pass(delay);
  lane.reset();
}

void abandon_vchan(std::unique_ptr<Lane> lane) {
  hypervisor()->abandoned.push_back(std::move(lane));
}

}  // namespace xenlane::transport

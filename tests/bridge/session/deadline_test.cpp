// A lane that wants to be looked at although nothing wakes it: whatever the driver has done last
// with it, its deadline is kept. A console that loses a frame has nothing else.
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "tests/bridge/session/sides.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {
namespace {

using namespace std::chrono_literals;

/// Open, silent, and takes what it is given. The peer never consumes the first bytes.
class TimedLane final : public transport::Lane {
 public:
  std::string_view kind() const override { return "timed"; }
  transport::LaneState state() override { return transport::LaneState::open; }
  std::size_t receive_ring_bytes() const override { return ring_.size(); }
  std::size_t send_ring_bytes() const override { return ring_.size(); }
  transport::ReadableSpans readable() override { return {}; }
  void consume(std::size_t) override {}
  transport::WritableSpans writable() override { return {ring_, {}}; }
  void commit(std::size_t) override {}
  void publish() override {}
  std::size_t unconsumed_bytes() override { return owed; }
  transport::ReadableSpans unconsumed() override { return {}; }
  bool arm(bool, bool) override {
    if (set_in_arm) expect_look();
    return false;
  }
  int wait_fd() const override { return event_.get(); }
  void acknowledge() override {
    ++looks;
    due_.reset();
  }
  std::optional<std::chrono::steady_clock::time_point> deadline() const override { return due_; }
  std::chrono::microseconds look_away() override { return pause; }
  void nudge() override { expect_look(); }

  std::size_t owed = 0;
  bool set_in_arm = false;
  std::chrono::microseconds pause{0};
  int looks = 0;

 private:
  void expect_look() { due_ = std::chrono::steady_clock::now() + 5ms; }

  transport::UniqueFd event_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::array<std::byte, 8192> ring_{};
  std::optional<std::chrono::steady_clock::time_point> due_;
};

class Deadline : public testing::Test {
 public:
  Deadline() : owned_(std::make_unique<TimedLane>()), lane(*owned_) {}
  ~Deadline() override { driver_.reset(); }

  /// Runs the host's end over the lane until it was looked at so often. On standby nothing else is
  /// expected of it.
  void run_until_looks(int looks) {
    driver_ = std::make_unique<SessionDriver>(io_.get_executor(), std::move(owned_), session_,
                                              LaneTerms{.epoch = 7, .standby = true},
                                              DriverTimeouts{}, script_);
    boost::asio::co_spawn(io_, driver_->run(), [](const std::exception_ptr&, std::string) {});
    const auto deadline = std::chrono::steady_clock::now() + test::patience();
    while (lane.looks < looks && std::chrono::steady_clock::now() < deadline) {
      io_.run_one_for(100ms);
    }
    EXPECT_GE(lane.looks, looks);
  }

 private:
  boost::asio::io_context io_;
  Session session_{{Role::host, {}, {}}};
  test::Script script_{session_};
  std::unique_ptr<TimedLane> owned_;
  std::unique_ptr<SessionDriver> driver_;

 public:
  TimedLane& lane;
};

TEST_F(Deadline, OfWhatTheLastLookBeforeSleepHasSentIsKept) {
  lane.set_in_arm = true;
  run_until_looks(3);
}

TEST_F(Deadline, WhoLooksAwayLooksAgain) {
  lane.pause = 2ms;
  run_until_looks(3);
}

TEST_F(Deadline, OfANudgeIsKept) {
  lane.owed = 10;
  run_until_looks(1);
}

}  // namespace
}  // namespace xenlane::bridge

// Where the hostile guest appears: a simulated Xen with the real xenlane-host, the honest guest
// "web", whose transfers run all the time, and the guest "evil". After each of evil's ways it is
// checked that the host bore it: one reason in the log and little else, the same processes, no
// descriptor, page or memory kept, web unharmed, and evil served again.
#pragma once

#include <memory>
#include <optional>

#include "tests/e2e/world.hpp"
#include "tests/hostile/watched_host.hpp"
#include "tests/hostile/ways.hpp"

namespace xenlane::hostile {

/// The channels of a configuration, without its settings.
std::string channels_of(const std::string& config);

class Scene {
 public:
  Scene();

  /// Goes one way and checks the host; failures name the way.
  void try_way(const Way& way);
  /// After a number of ways: what takes longer to see. The host's processes are the same, idle
  /// costs nothing, and evil with an honest bridge is served like any guest.
  void check_host();
  /// Ends the honest transfers and prints the total.
  void finish();

 private:
  tests::Outcome run(const std::string& way);
  void expect_reason(const Way& way);
  void expect_plain_short_log(const Way& way);
  void expect_honest_session();
  void expect_nothing_kept();
  void expect_quiet();
  std::uint64_t carried() const { return to_guest_->received() + to_host_->received(); }
  std::int64_t pages_mapped();
  pid_t worker_pid(const std::string& guest);
  /// The host has a session with evil, whether a lane carries it or not.
  bool has_session();

  tests::World world_;
  LogTail log_;
  std::unique_ptr<tests::Service> sink_;
  transport::UniqueFd deaf_;
  std::optional<tests::Flood> to_guest_;
  std::optional<tests::Flood> to_host_;
  std::optional<Watched> worker_;
  pid_t honest_worker_ = -1;
  std::size_t quiet_descriptors_ = 0;
  std::size_t quiet_threads_ = 0;
  std::uint64_t quiet_bytes_ = 0;
  std::int64_t quiet_pages_ = 0;

  std::size_t ways_ = 0;
  std::size_t contained_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

}  // namespace xenlane::hostile

// One simulation: a host with its workers, guests with their bridges, a xenstored, links between
// them and applications on top, all in one thread under one seed. First a time of faults, then a
// time without: everything must come to its end and service must be back.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/applications.hpp"
#include "tests/sim/processes.hpp"

namespace xenlane::sim {

/// What the scripted story's guest has to be carried by.
enum class Lanes : std::uint8_t {
  vchan,      ///< only
  beside,     ///< a vchan, with a console standing by
  console,    ///< only
  on_demand,  ///< a vchan when there is bulk, else the console
};

std::optional<Lanes> parse_lanes(std::string_view word);

struct Options {
  std::uint64_t seed = 1;
  /// False: nothing goes wrong but what is planned below, and the applications are a fixed few.
  bool random = true;
  Lanes lanes = Lanes::vchan;
  /// The lane that the first guest's session is on is cut after that many steps of anything.
  std::optional<std::uint64_t> cut_after_steps;
  /// The k-th call of that kind fails.
  std::optional<std::pair<Fault, std::uint64_t>> failing_call;
  bool print_trace = false;
};

struct Result {
  std::string failure;  ///< empty: all promises were kept
  std::uint64_t trace_hash = 0;
  std::uint64_t steps = 0;           ///< things done
  std::uint64_t steps_of_story = 0;  ///< until the applications of a scripted run were done
  double virtual_seconds = 0;
  std::uint64_t applications = 0;
  std::uint64_t bytes = 0;       ///< that applications received
  std::uint64_t sessions = 0;    ///< vchan lanes that were made
  std::uint64_t resumed = 0;     ///< times that a session went on over another lane
  std::uint64_t incomplete = 0;  ///< applications that did not read all of another's bytes
  std::array<std::uint64_t, fault_count> hits{};
  /// Of the planned call: whether it came to it.
  bool planned_call_failed = false;
};

/// Runs one simulation.
Result simulate(const Options& options);

class World {
 public:
  explicit World(const Options& options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  void run();
  void collect(Result& result) const;

 private:
  /// What one side was last seen to have of a session.
  struct View {
    bridge::RandomId instance{};  ///< its own process's
    bridge::RandomId session{};
    bridge::RandomId partner{};  ///< instance of the other side's process
    std::uint64_t began_ns = 0;
    std::uint64_t cut_since_ns = 0;  ///< 0: a lane carries it
    std::uint32_t lanes = 0;
  };

  /// A domain with its bridge, and what the host has for it.
  struct Guest {
    std::size_t index = 0;
    Domid domid = 0;
    std::string name;
    std::uint64_t lives = 0;  ///< times its domain was made
    bool exists = false;
    bool spared = false;  ///< meets no fault of its own: others' must not reach it
    bool has_console = false;
    bool vchan_missing = false;
    View views[2];                     ///< of its session, by role
    std::set<bridge::RandomId> known;  ///< sessions that the guest has learned of
    bridge::RandomId ended{};          ///< the last session that has ended, on either side
    bridge::BridgeConfig guest_config;
    bridge::BridgeConfig host_config;
    std::unique_ptr<GuestProcess> bridge;
    std::unique_ptr<WorkerProcess> worker;
    std::optional<bridge::ListenerFiles> host_files;  ///< the broker's, while it serves the guest
    Listeners listeners;
    std::uint64_t bridge_due_ns = 0;  ///< when what is not there is started again; 0: never
    std::uint64_t worker_due_ns = 0;
    std::uint64_t domain_due_ns = 0;
    std::uint64_t noticed_due_ns = 0;       ///< when the broker notices that the domain has gone
    std::uint64_t bad_endings[2] = {0, 0};  ///< of processes that are gone, by role
  };

  // configure.cpp
  void configure(Guest& guest);
  void choose_limits(Guest& guest);
  void choose_lanes(Guest& guest);
  bool may_have_vchan(const Guest& guest) const;

  // world.cpp
  bool round();
  void idle_or_advance(bool moved);
  void count_step();
  void run_for(std::uint64_t ns);
  /// Rounds until `done`; throws Failure with `what` when it takes longer than that.
  void run_until(const std::function<bool()>& done, std::uint64_t limit_ns,
                 const std::string& what);
  std::string describe() const;
  void open_something();
  void open_the_usual();
  std::uint64_t connect(Guest& guest, Side side, const std::string& channel, const Script& script);
  std::string socket_path(const Guest& guest, Side side, const std::string& channel) const;

  // lives.cpp: what the toolstack, the broker and the guest's init would do
  void make_domain(Guest& guest, bool same_domid);
  void destroy_domain(Guest& guest);
  void restore_domain(Guest& guest);
  void start_bridge(Guest& guest);
  void end_bridge(Guest& guest, bool killed);
  void serve_guest(Guest& guest);
  void start_worker(Guest& guest);
  void end_worker(Guest& guest, bool killed);
  void lay_console(Guest& guest);
  void stop_serving(Guest& guest, bool orderly);
  void keep_alive(Guest& guest);
  void cut_carrier(Guest& guest);
  void set_lane(Guest& guest);
  void strike();
  void strike_guest(Guest& guest);
  void strike_store();
  void mend();
  std::string store_path(const Guest& guest) const;

  // sessions.cpp: what becomes of sessions while lanes come and go
  void watch_sessions(Guest& guest);
  void handle_session_gone(Guest& guest, Side side, const View& view);
  bool wants_vchan(Guest& guest) const;
  void check_lanes(std::uint64_t deadline_ns);
  BridgeProcess* process_of(Guest& guest, Side side) const;

  // promises.cpp: what must hold at any time, and in the end
  void check_always();
  void check_endings(Guest& guest);
  void settle();
  void wait_for_sessions();
  std::uint64_t recovery_ns(const Guest& guest) const;
  void probe(Guest& guest, Side side, std::uint64_t deadline_ns);
  void await_probe(Guest& guest, std::uint64_t id);
  void drain_ports(Guest& guest);
  void check_nothing_left(Guest& guest);
  std::uint64_t bad_endings(const Guest& guest, Side side) const;

  Options options_;
  Environment env_;
  const std::filesystem::path former_folder_ = std::filesystem::current_path();
  std::string real_folder_;
  const std::string folder_ = "/proc/self/cwd";  ///< the same one
  std::unique_ptr<StoreProcess> store_;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::vector<std::unique_ptr<Guest>> guests_;
  std::unique_ptr<Applications> applications_;
  std::uint64_t mute_until_ns_ = 0;
  std::uint64_t gone_until_ns_ = 0;
  std::uint64_t idle_ns_ = 0;  ///< what the clock last leapt by
  std::uint64_t steps_ = 0;
  std::uint64_t steps_of_story_ = 0;
  std::uint64_t resumed_ = 0;
  std::uint64_t watched_ns_ = 0;  ///< when the sessions were last looked at
  bool in_story_ = false;         ///< of a scripted run: its first session is up
  std::uint64_t rounds_ = 0;
  Domid next_domid_ = 1;
};

}  // namespace xenlane::sim

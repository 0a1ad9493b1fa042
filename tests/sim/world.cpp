#include "tests/sim/world.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

namespace xenlane::sim {

namespace {

constexpr std::uint64_t us = 1'000;
/// How long the time of faults lasts at most, by the virtual clock.
constexpr std::uint64_t faults_ns_min = 500 * ms;
constexpr std::uint64_t faults_ns_max = 12'000 * ms;
/// And how much may happen in it: what is slow to simulate is no better a test.
constexpr std::uint64_t steps_least = 200;
constexpr std::uint64_t steps_most = 10'000;
constexpr std::uint64_t idle_ns_min = 200 * us;
constexpr std::uint64_t idle_ns_max = 50 * ms;
/// Handlers of one process that run before another has its turn, at most.
constexpr std::uint64_t handlers_max = 6;
constexpr std::size_t applications_max = 40;

}  // namespace

Result simulate(const Options& options) {
  Result result;
  {
    World world(options);
    try {
      world.run();
    } catch (const std::exception& failure) {
      result.failure = failure.what();
    }
    world.collect(result);
  }
  return result;
}

World::World(const Options& options) : options_(options), env_(options.seed) {
  std::signal(SIGPIPE, SIG_IGN);  // as the daemons' mains do
  env_.print_trace = options.print_trace;
  // Sockets only: in memory where that can be had. Paths are in messages that cross the lanes, so
  // the folder has the same name in every run: what zstd made of its own one would be now longer,
  // now shorter.
  real_folder_ = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  real_folder_ += "/xenlane-sim-XXXXXX";
  if (::mkdtemp(real_folder_.data()) == nullptr) throw Failure("mkdtemp");
  std::filesystem::current_path(real_folder_);
  environment() = &env_;
  if (options_.random) env_.draw_faults();
  store_ = std::make_unique<StoreProcess>();
  store_->server.listen(0, folder_ + "/xs-host");
  hypervisor_ = std::make_unique<Hypervisor>(*store_);
  sim::hypervisor() = hypervisor_.get();
  applications_ = std::make_unique<Applications>(folder_);
  const std::size_t guests = options_.random ? env_.between(1, 3) : 1;
  for (std::size_t i = 0; i < guests; ++i) {
    auto& guest = *guests_.emplace_back(std::make_unique<Guest>());
    guest.index = i;
    guest.name = fmt::format("guest{}", i);
    guest.spared = i > 0 && env_.one_in(2);
    if (guest.spared) applications_->spare(i);
    configure(guest);
    applications_->serve(i, Side::host);
    applications_->serve(i, Side::guest);
    make_domain(guest, false);
    serve_guest(guest);
  }
}

World::~World() {
  guests_.clear();
  hypervisor_->abandoned.clear();
  hypervisor_->cables.clear();
  sim::hypervisor() = nullptr;
  applications_.reset();
  hypervisor_.reset();
  store_.reset();
  environment() = nullptr;
  std::error_code ignored;
  std::filesystem::current_path(former_folder_, ignored);
  std::filesystem::remove_all(real_folder_, ignored);
}

void World::run() {
  if (!options_.random) {
    // A session first, so that the first step of the story is the first that can go wrong.
    run_until([this] { return guests_[0]->bridge && guests_[0]->bridge->peer.session_up(); },
              20'000 * ms, "the first session");
    if (options_.failing_call) {
      env_.fail_call(options_.failing_call->first, options_.failing_call->second);
    }
    steps_ = 0;
    in_story_ = true;
    open_the_usual();
    run_for(options_.lanes == Lanes::vchan ? 100 * ms : 400 * ms);
    steps_of_story_ = steps_;
    if (!options_.failing_call) {
      // Everything arrives; nobody is left without a partner.
      applications_->finish_all();
      run_until([this] { return applications_->active() == 0; }, 10'000 * ms, "the story's end");
    }
  } else {
    env_.allow_faults(true);
    const std::uint64_t end = env_.now_ns() + env_.between(faults_ns_min, faults_ns_max);
    // Many are short, because most of what goes wrong goes wrong around a lane's beginning and end.
    const std::uint64_t last_step =
        env_.between(steps_least, env_.one_in(6) ? steps_most : steps_most / 5);
    while (env_.now_ns() < end && steps_ < last_step) {
      idle_or_advance(round());
      strike();
      open_something();
    }
    mend();
  }
  settle();
}

void World::collect(Result& result) const {
  result.trace_hash = env_.hash();
  result.steps = steps_;
  result.steps_of_story = steps_of_story_;
  result.planned_call_failed = options_.failing_call && env_.planned_calls_left() == 0;
  result.virtual_seconds = env_.now_s() - 1000;
  result.applications = applications_->opened();
  result.bytes = applications_->bytes_received();
  result.sessions = hypervisor_->links_made;
  result.resumed = resumed_;
  result.incomplete = applications_->incomplete();
  result.hits = env_.hits();
}

void World::count_step() {
  ++steps_;
  env_.mix(steps_);
  if (in_story_ && steps_ == options_.cut_after_steps) cut_carrier(*guests_[0]);
}

// Everybody gets a turn, beginning with somebody else each time. True when anything happened.
bool World::round() {
  ++rounds_;
  bool moved = false;
  const auto turn = [&](Process* process) {
    if (process == nullptr || process->frozen()) return;
    for (std::uint64_t i = 1 + env_.below(handlers_max); i > 0 && !process->dead; --i) {
      if (!process->step()) break;
      count_step();
      moved = true;
    }
  };
  if (store_->answers || env_.one_in(8)) turn(store_.get());
  const std::size_t first = env_.below(guests_.size());
  for (std::size_t i = 0; i < guests_.size(); ++i) {
    Guest& guest = *guests_[(first + i) % guests_.size()];
    const bool host_first = env_.one_in(2);
    if (host_first) turn(guest.worker.get());
    turn(guest.bridge.get());
    if (!host_first) turn(guest.worker.get());
    keep_alive(guest);
  }
  for (const auto& link : hypervisor_->live_links()) {
    if (!link->step()) continue;
    count_step();
    moved = true;
  }
  for (const auto& [domid, cable] : hypervisor_->cables) {
    if (!cable->step()) continue;
    count_step();
    moved = true;
  }
  for (const auto& guest : guests_) watch_sessions(*guest);
  watched_ns_ = env_.now_ns();
  moved |= applications_->step();
  if (rounds_ % 64 == 0) check_always();
  return moved;
}

// Work takes time; when nobody has any, time leaps on, further and further.
void World::idle_or_advance(bool moved) {
  if (moved) {
    idle_ns_ = 0;
    env_.advance(env_.between(200, 20 * us));
    return;
  }
  idle_ns_ = std::min(idle_ns_max, std::max(idle_ns_min, idle_ns_ * 2));
  env_.advance(idle_ns_);
}

void World::run_for(std::uint64_t ns) {
  const std::uint64_t end = env_.now_ns() + ns;
  while (env_.now_ns() < end) idle_or_advance(round());
}

void World::open_something() {
  if (applications_->active() >= applications_max || !env_.one_in(50)) return;
  Guest& guest = *guests_[env_.below(guests_.size())];
  const Side side = env_.one_in(2) ? Side::host : Side::guest;
  const Script script = applications_->draw_script(guest.index);
  if (env_.one_in(4)) {
    connect(guest, side, "org.sim.port", script);
  } else {
    connect(guest, side, side == Side::host ? "org.sim.to-guest" : "org.sim.to-host", script);
  }
}

// One of each kind, for the runs in which a single thing goes wrong.
void World::open_the_usual() {
  Guest& guest = *guests_[0];
  const auto sends = [](std::uint64_t bytes) {
    Script script;
    script.to_send = bytes;
    return script;
  };
  connect(guest, Side::host, "org.sim.to-guest", sends(30'000));
  connect(guest, Side::guest, "org.sim.to-host", sends(8));
  connect(guest, Side::host, "org.sim.port", sends(3'000));
  connect(guest, Side::guest, "org.sim.port", sends(3'000));
}

std::string World::socket_path(const Guest& guest, Side side, const std::string& name) const {
  return side == Side::guest ? guest.guest_config.run_dir + '/' + name
                             : fmt::format("{}/host/{}/{}", folder_, guest.name, name);
}

std::uint64_t World::connect(Guest& guest, Side side, const std::string& name,
                             const Script& script) {
  const bool there = side == Side::host || guest.bridge != nullptr;
  if (!there) return 0;
  return applications_->open(guest.index, side, name, socket_path(guest, side, name), script);
}

std::string World::describe() const {
  std::string text;
  for (const auto& guest : guests_) {
    for (BridgeProcess* process : {static_cast<BridgeProcess*>(guest->bridge.get()),
                                   static_cast<BridgeProcess*>(guest->worker.get())}) {
      if (process == nullptr) continue;
      const boost::json::object status = process->peer.status();
      for (const char* part : {"session", "lane", "console", "streams", "counters"}) {
        text += fmt::format("\n  {}: {} {}", process->name, part,
                            boost::json::serialize(status.at(part)));
      }
      for (const auto& channel : process->peer.channels().channels()) {
        const auto& endings = channel->stats.bad_endings;
        text += fmt::format("\n    {}: {} open; {} there and {} here wait for a partner; {}",
                            channel->config.name.text(), channel->stats.open,
                            channel->waiting_remote.size(), channel->waiting_local.size(),
                            endings.empty() ? "no bad endings" : endings.back().message);
      }
    }
  }
  return text + applications_->describe_active();
}

void World::run_until(const std::function<bool()>& done, std::uint64_t limit_ns,
                      const std::string& what) {
  const std::uint64_t end = env_.now_ns() + limit_ns;
  while (!done()) {
    if (env_.now_ns() >= end) {
      throw Failure(fmt::format("{} did not come within {} ms{}", what, limit_ns / ms, describe()));
    }
    idle_or_advance(round());
  }
}

}  // namespace xenlane::sim

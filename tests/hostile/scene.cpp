#include "tests/hostile/scene.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>

namespace xenlane::hostile {

using namespace tests;  // NOLINT(google-build-using-namespace): the world and its parts
namespace json = boost::json;

namespace {

constexpr std::uint64_t mib = 1024 * 1024;
constexpr const char* evil = "evil";

/// The limits that the host gets. Small, so that a guest can reach them.
constexpr const char* limits =
    "[limits]\n"
    "streams_max = 64\n"
    "open_backlog_max = 16\n"
    "stream_window_bytes_min = \"32KiB\"\n"
    "stream_window_bytes_max = \"1MiB\"\n"
    "session_window_bytes = \"16MiB\"\n";
constexpr std::uint64_t session_window_bytes = 16 * mib;

/// What a worker may take for a session: its window, and besides it the rings (2 MiB with the
/// honest bridge), the streams, and what the allocator keeps. Sanitizers keep what was freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t growth_bytes_max = 4 * session_window_bytes + 288 * mib;
#else
constexpr std::uint64_t growth_bytes_max = session_window_bytes + 8 * mib;
#endif

/// Lines in the host's log for one way, besides those of each lane: that it carries the session,
/// that this is up, why it was cut, and why the lane ended.
constexpr std::size_t log_lines_max = 25;
constexpr std::size_t log_lines_of_a_lane = 4;

/// What an honest transfer must have carried in the course of each way, or soon after.
constexpr std::uint64_t honest_bytes_each_way = 128 * 1024;

constexpr std::string_view closed = "the peer closed the lane";

std::string milliseconds(int value) {
  return std::to_string(static_cast<int>(value * slowness)) + "\n";
}

/// Short waits for what only a hostile guest makes the host wait for; an honest guest's bridge on a
/// busy machine has to be within them.
std::string timeouts() {
  return "[timeouts]\nhandshake_ms = " + milliseconds(500) +
         "peer_stall_ms = " + milliseconds(1500) + "dial_ms = " + milliseconds(200) +
         "retry_ms_min = 1\nretry_ms_max = 20\n" + "resume_ms = " + milliseconds(1000) +
         "[lanes]\nrings_per_minute = 100000\n";
}

/// A target whose queue of connections is full after one.
transport::UniqueFd listen_and_never_accept(const std::string& path) {
  transport::UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(listener.get(), 0), 0);
  return listener;
}

std::size_t faults_so_far() {
  return static_cast<std::size_t>(
      ::testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count());
}

}  // namespace

std::string channels_of(const std::string& config) {
  return config.substr(config.find("[[channel]]"));
}

Scene::Scene() : world_({"web", evil}), log_(world_.dir() + "/log.host") {
  write_file(world_.host_config_path(),
             limits + timeouts() + channels_of(world_.host_config()) +
                 channel("org.host.sink", "dial", world_.service_path("host", "sink")) +
                 channel("org.host.deaf", "dial", world_.service_path("host", "deaf")) +
                 channel("org.host.dead", "dial", world_.service_path("host", "dead")));
  sink_ = std::make_unique<Service>(world_.service_path("host", "sink"), send_part_and_stay);
  deaf_ = listen_and_never_accept(world_.service_path("host", "deaf"));
  world_.start_host();
  world_.start_guest("web");
  EXPECT_TRUE(world_.wait_session("web"));
  to_guest_.emplace(world_.host_socket("web", "org.guest.echo"), 1, bystander_rate);
  to_host_.emplace(world_.guest_socket("web", "org.host.echo"), 2, bystander_rate);
  EXPECT_TRUE(eventually([&] { return worker_pid(evil) > 0 && worker_pid("web") > 0; }));
  honest_worker_ = worker_pid("web");
  worker_.emplace(worker_pid(evil));
  // What honest sessions cost the worker once is not the hostile guest's doing.
  for (int i = 0; i < 3; ++i) expect_honest_session();
  quiet_descriptors_ = worker_->descriptors();
  quiet_threads_ = worker_->threads();
  quiet_pages_ = pages_mapped();
  quiet_bytes_ = worker_->resident_bytes();
}

bool Scene::has_session() {
  const auto status = world_.bridge_status("0", evil);
  const auto* session = status.if_contains("session");
  return session == nullptr || session->at("state").as_string() != "down";
}

pid_t Scene::worker_pid(const std::string& guest) {
  return world_.worker_pid(guest);
}

std::int64_t Scene::pages_mapped() {
  const auto domains = world_.domains();
  const auto host = domains.find("Domain-0");
  return host == domains.end() ? -1 : json::value_to<std::int64_t>(host->second.at("mapped"));
}

Outcome Scene::run(const std::string& way) {
  return world_.run_in(evil, {program("hostile_guest"), way});
}

void Scene::try_way(const Way& way) {
  SCOPED_TRACE(std::string(way.name) + ": " + std::string(way.what));
  const std::size_t faults = faults_so_far();
  const std::uint64_t carried_before = carried();
  log_.restart();
  worker_->forget_peak();
  Client client;
  if (way.with_client) {
    // The honest session before could be resumed yet: its streams are not what this is about.
    EXPECT_TRUE(eventually([&] { return !has_session(); }));
    client = Client(world_.host_socket(evil, "org.guest.echo"));
    EXPECT_TRUE(client.ok());
  }
  const Outcome outcome = run(std::string(way.name));
  EXPECT_EQ(outcome.code, 0) << outcome.err << log_.text();
  expect_reason(way);
  if (way.with_client) {
    client.receive_to_end(end_within);
    EXPECT_NE(client.ending(), Ending::open) << "the program on the host hangs";
  }
  expect_plain_short_log(way);
  expect_honest_session();
  expect_nothing_kept();
  peak_bytes_ = std::max(peak_bytes_, worker_->peak_bytes());
  EXPECT_LE(worker_->peak_bytes(), quiet_bytes_ + growth_bytes_max);
  EXPECT_TRUE(worker_->lives());
  EXPECT_TRUE(world_.host().runs());
  EXPECT_TRUE(eventually([&] { return carried() >= carried_before + honest_bytes_each_way; }));
  EXPECT_TRUE(to_guest_->intact() && to_host_->intact());
  ++ways_;
  if (faults_so_far() == faults) ++contained_;
}

void Scene::expect_reason(const Way& way) {
  const auto ended = [&] { return log_.count("info: evil: vchan lane ended: "); };
  const auto failed = [&] { return log_.count("warning: evil: no vchan at "); };
  std::size_t sessions = way.sessions + way.more_sessions;
  std::size_t failures = 0;
  if (way.verdict == Verdict::fails) std::swap(sessions, failures);
  if (way.verdict == Verdict::ignored) sessions = 0;
  if (way.verdict == Verdict::any) {
    EXPECT_TRUE(eventually([&] { return ended() + failed() >= sessions; })) << log_.text();
    EXPECT_EQ(ended() + failed(), sessions) << log_.text();
    return;
  }
  EXPECT_TRUE(eventually([&] { return ended() >= sessions && failed() >= failures; }))
      << log_.text();
  EXPECT_EQ(ended(), sessions) << log_.text();
  EXPECT_EQ(failed(), failures) << log_.text();
  if (way.reason.empty()) return;
  if (way.verdict == Verdict::ignored) {
    EXPECT_TRUE(eventually([&] { return log_.count("warning: evil: ", way.reason) > 0; }))
        << log_.text();
  } else if (way.verdict == Verdict::fails) {
    EXPECT_EQ(log_.count("warning: evil: ", way.reason), way.sessions) << log_.text();
  } else {
    EXPECT_EQ(log_.count("info: evil: vchan lane ended: ", way.reason), way.sessions)
        << log_.text();
  }
}

void Scene::expect_plain_short_log(const Way& way) {
  EXPECT_LE(log_.lines().size(),
            log_lines_max + log_lines_of_a_lane * (way.sessions + way.more_sessions))
      << log_.text();
  EXPECT_THAT(log_.lines(), ::testing::Each(::testing::ResultOf(is_plain, true)));
}

void Scene::expect_honest_session() {
  log_.restart();
  const Outcome outcome = run("honest");
  EXPECT_EQ(outcome.code, 0) << outcome.err << log_.text();
  EXPECT_TRUE(eventually([&] { return log_.count("info: evil: vchan lane ended: ", closed) == 1; }))
      << log_.text();
}

void Scene::expect_nothing_kept() {
  EXPECT_TRUE(eventually(
      [&] {
        return worker_->descriptors() == quiet_descriptors_ && worker_->threads() == quiet_threads_;
      },
      recovery_within))
      << worker_->descriptors() << " descriptors, not " << quiet_descriptors_ << "; "
      << worker_->threads() << " threads, not " << quiet_threads_;
  EXPECT_TRUE(eventually([&] { return pages_mapped() == quiet_pages_; }, recovery_within))
      << world_.xensim({"list"}).out;
}

void Scene::check_host() {
  expect_quiet();
  EXPECT_EQ(worker_pid(evil), worker_->pid()) << "the worker was replaced";
  EXPECT_EQ(worker_pid("web"), honest_worker_) << "the honest guest's worker was replaced";
  EXPECT_EQ(log_.count("", "starting another"), 0U) << log_.text();
  log_.restart();
  world_.start_guest(evil);
  EXPECT_TRUE(world_.wait_session(evil));
  EXPECT_TRUE(world_.echo_works(world_.guest_socket(evil, "org.host.echo")));
  EXPECT_TRUE(world_.echo_works(world_.host_socket(evil, "org.guest.echo")));
  // What the next way offers is above what the host asks for: it has to have done with this lane.
  const std::string wish =
      "/local/domain/" + std::to_string(world_.domid(evil)) + "/xenlane/wanted";
  const std::string wanted = world_.xenstore("read", wish).out;
  world_.stop_guest(evil);
  EXPECT_TRUE(eventually([&] { return world_.xenstore("read", wish).out != wanted; }));
  EXPECT_TRUE(eventually([&] { return log_.count("info: evil: vchan lane ended: ") == 1; }))
      << log_.text();
}

// What is measured is processor time and not the clock's: others on the machine do not matter.
void Scene::expect_quiet() {
  const auto tick = static_cast<double>(::sysconf(_SC_CLK_TCK));
  const std::uint64_t before = worker_->ticks();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_LE(static_cast<double>(worker_->ticks() - before) / tick, 0.05 * slowness)
      << "seconds of processor time that an idle worker took in one";
}

void Scene::finish() {
  EXPECT_TRUE(to_guest_->finish());
  EXPECT_TRUE(to_host_->finish());
  std::printf(
      "hostile guest: %zu ways, %zu contained, honest transfers %s: %llu MiB, worker memory peak "
      "%llu MiB\n",
      ways_, contained_, to_guest_->intact() && to_host_->intact() ? "unharmed" : "HARMED",
      static_cast<unsigned long long>(carried() / mib),
      static_cast<unsigned long long>(peak_bytes_ / mib));
}

}  // namespace xenlane::hostile

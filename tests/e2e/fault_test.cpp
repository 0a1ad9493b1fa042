// Sudden death, kill -9, of everything that can die, in the middle of transfers. Whoever is on the
// other side learns of it soon, and what is started again works again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

/// Each round strikes at another moment: after so many bytes have come back.
constexpr std::array<std::uint64_t, 3> moments{1, 1024 * 1024, 24 * 1024 * 1024};

/// An application on each side, in the middle of a transfer.
struct Applications {
  explicit Applications(World& world, std::uint64_t seed)
      : in_guest(world.guest_socket("web", "org.host.echo"), seed),
        on_host(world.host_socket("web", "org.guest.echo"), seed + 100) {}

  void run_until(std::uint64_t received) {
    EXPECT_TRUE(in_guest.wait_received(received));
    EXPECT_TRUE(on_host.wait_received(received));
  }

  Flood in_guest;
  Flood on_host;
};

/// All four applications, the clients and the services, must hear of it.
void expect_ends(World& world, Applications& applications) {
  EXPECT_TRUE(applications.in_guest.wait_end(end_within)) << "client in the guest hangs";
  EXPECT_TRUE(applications.on_host.wait_end(end_within)) << "client on the host hangs";
  EXPECT_TRUE(applications.in_guest.intact());
  EXPECT_TRUE(applications.on_host.intact());
  EXPECT_TRUE(
      eventually([&] { return world.service("host", "echo").open_count() == 0; }, end_within))
      << "service on the host hangs";
  EXPECT_TRUE(
      eventually([&] { return world.service("web", "echo").open_count() == 0; }, end_within))
      << "service in the guest hangs";
}

void expect_service_again(World& world) {
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo"), recovery_within));
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo"), recovery_within));
}

TEST(Fault, KilledGuestBridgeEndsConnectionsAndComesBack) {
  World world({"web"});
  world.start();
  for (const std::uint64_t moment : moments) {
    Applications applications(world, moment);
    applications.run_until(moment);
    world.guest("web").kill_and_reap();
    expect_ends(world, applications);
    world.start_guest("web");
    expect_service_again(world);
  }
}

TEST(Fault, KilledWorkerEndsConnectionsAndIsReplaced) {
  World world({"web"});
  world.start();
  for (const std::uint64_t moment : moments) {
    Applications applications(world, moment);
    applications.run_until(moment);
    const pid_t worker = world.worker_pid("web");
    ASSERT_GT(worker, 0);
    ::kill(worker, SIGKILL);
    expect_ends(world, applications);
    expect_service_again(world);
    EXPECT_NE(world.worker_pid("web"), worker);
  }
}

TEST(Fault, WorkerStoppedInGoodOrderIsReplacedToo) {
  World world({"web"});
  world.start();
  for (const int signal : {SIGTERM, SIGINT}) {
    Applications applications(world, 1);
    applications.run_until(1024 * 1024);
    const pid_t worker = world.worker_pid("web");
    ASSERT_GT(worker, 0);
    ::kill(worker, signal);
    expect_ends(world, applications);
    expect_service_again(world);
    EXPECT_NE(world.worker_pid("web"), worker);
    EXPECT_THAT(world.log("host"),
                ::testing::HasSubstr("worker " + std::to_string(worker) + " ended (exit 0)"));
  }
}

TEST(Fault, WorkersKilledOftenAreReplacedAsSoonEachTime) {
  World world({"web"});
  // A pause that grew would soon be longer than anybody waits.
  world.timeouts += "retry_ms_min = 1000\nretry_ms_max = 100000\n";
  write_file(world.guest_config_path("web"), world.guest_config("web"));
  world.start();
  for (int round = 0; round < 5; ++round) {
    ::kill(world.worker_pid("web"), SIGKILL);
    expect_service_again(world);
  }
}

TEST(Fault, KilledBrokerTakesItsWorkersAlongAndComesBack) {
  World world({"web"});
  world.start();
  for (const std::uint64_t moment : moments) {
    Applications applications(world, moment);
    applications.run_until(moment);
    world.host().kill_and_reap();
    expect_ends(world, applications);
    world.start_host();
    expect_service_again(world);
  }
}

TEST(Fault, KilledServiceEndsItsConnectionsOnly) {
  World world({"web"});
  world.stop_serving("host", "echo");
  world.start();
  const std::string path = world.guest_socket("web", "org.host.echo");
  Flood bystander(world.host_socket("web", "org.guest.echo"), 1, bystander_rate);
  for (const std::uint64_t moment : moments) {
    EchoProcess service(world.service_path("host", "echo"));
    Flood application(path, moment);
    EXPECT_TRUE(application.wait_received(moment));
    service.kill();
    EXPECT_TRUE(application.wait_end(end_within));
    EXPECT_TRUE(application.intact());
    Client late(path);
    EXPECT_EQ(late.receive_to_end(end_within), "");
    EXPECT_NE(late.ending(), Ending::open) << "refused, as nobody listens";
    const EchoProcess next(world.service_path("host", "echo"));
    EXPECT_TRUE(world.echo_works(path, recovery_within));
  }
  EXPECT_TRUE(bystander.finish());
}

TEST(Fault, KilledServiceInTheGuestToo) {
  World world({"web"});
  world.stop_serving("web", "echo");
  world.start();
  const std::string path = world.host_socket("web", "org.guest.echo");
  for (const std::uint64_t moment : moments) {
    EchoProcess service(world.service_path("web", "echo"));
    Flood application(path, moment);
    EXPECT_TRUE(application.wait_received(moment));
    service.kill();
    EXPECT_TRUE(application.wait_end(end_within));
    EXPECT_TRUE(application.intact());
    const EchoProcess next(world.service_path("web", "echo"));
    EXPECT_TRUE(world.echo_works(path, recovery_within));
  }
}

/// Runs `xenlane connect` in `domain` until a part of the answer is there, then `strike`; returns
/// how the tool ended.
Outcome tool_cut_short(World& world, const std::string& domain, const std::string& name,
                       const std::function<void()>& strike) {
  const std::string base = world.dir() + "/tool";
  std::filesystem::remove(base + ".err");
  Process tool({program("xensim"), "exec", domain, "--", program("xenlane"), "connect", name},
               {"/dev/null", base + ".out", base + ".err"});
  EXPECT_TRUE(eventually([&] { return read_file(base + ".out") == "part"; }));
  strike();
  Outcome outcome;
  outcome.code = tool.wait(end_within);
  outcome.err = read_file(base + ".err");
  return outcome;
}

TEST(Fault, TheToolNeverTakesABrokenConnectionForAnEnd) {
  World world({"web"});
  world.stop_serving("host", "echo");
  world.stop_serving("web", "echo");
  const Service on_host(world.service_path("host", "echo"), send_part_and_stay);
  const Service in_guest(world.service_path("web", "echo"), send_part_and_stay);
  world.start();
  const auto kill_guest = [&] { world.guest("web").kill_and_reap(); };
  const auto kill_worker = [&] { ::kill(world.worker_pid("web"), SIGKILL); };
  for (const auto& [domain, name] : {std::pair<std::string, std::string>("0", "web/org.guest.echo"),
                                     std::pair<std::string, std::string>("web", "org.host.echo")}) {
    const Outcome without_guest = tool_cut_short(world, domain, name, kill_guest);
    EXPECT_EQ(without_guest.code, 1) << domain << " without guest: " << without_guest.err;
    EXPECT_THAT(without_guest.err, ::testing::HasSubstr(name));
    world.start_guest("web");
    ASSERT_TRUE(world.wait_session("web"));
    const Outcome without_worker = tool_cut_short(world, domain, name, kill_worker);
    EXPECT_EQ(without_worker.code, 1) << domain << " without worker: " << without_worker.err;
    ASSERT_TRUE(world.wait_session("web"));
  }
  for (int round = 0; round < 3; ++round) {
    const Outcome destroyed = tool_cut_short(world, "0", "web/org.guest.echo", [&] {
      ASSERT_EQ(world.xensim({"destroy", "web"}).code, 0);
      world.guest("web").wait();
    });
    EXPECT_EQ(destroyed.code, 1) << "destroyed: " << destroyed.err;
    ASSERT_EQ(world.xensim({"create", "web"}).code, 0);
    world.start_guest("web");
    ASSERT_TRUE(world.wait_session("web"));
  }
}

TEST(Fault, GuestWithoutItsKeysAsAfterARestorationOffersANewRing) {
  World world({"web"});
  world.start();
  Applications applications(world, 1);
  applications.run_until(1024 * 1024);
  const std::string data = "/local/domain/1/data/xenlane";
  ASSERT_EQ(world.xensim({"exec", "0", "--", "xenstore-rm", data}).code, 0);
  // All watches fire once a domain has been restored; here this one.
  ASSERT_EQ(
      world.xensim({"exec", "0", "--", "xenstore-write", "/local/domain/1/xenlane/x", ""}).code, 0);
  expect_ends(world, applications);
  expect_service_again(world);
  EXPECT_THAT(world.log("web"), ::testing::HasSubstr("this domain was restored"));
}

TEST(Fault, TheToolTellsOfADeadWorkerWithoutItsSuccessor) {
  World world({"web"});
  world.stop_serving("web", "echo");
  const Service in_guest(world.service_path("web", "echo"), send_part_and_stay);
  world.start();
  const Outcome outcome = tool_cut_short(world, "0", "web/org.guest.echo", [&] {
    const pid_t worker = world.worker_pid("web");
    ::kill(world.host().pid(), SIGSTOP);  // so there will be no successor
    ::kill(worker, SIGKILL);
  });
  ::kill(world.host().pid(), SIGCONT);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("the bridge ended while the connection was open"));
}

TEST(Fault, ConnectionsMadeWhileTheOtherSideIsAwayAreRefusedSoon) {
  World world({"web"});
  world.start_guest("web");
  const std::string path = world.guest_socket("web", "org.host.echo");
  ASSERT_TRUE(eventually([&] { return Client(path).ok(); }));
  Client early(path);
  EXPECT_EQ(early.receive_to_end(Seconds(2) + end_within), "");
  EXPECT_NE(early.ending(), Ending::open);
  world.start_host();
  EXPECT_TRUE(world.echo_works(path, recovery_within));
}

TEST(Fault, HostStoppedInGoodOrderIsWaitedFor) {
  World world({"web"});
  world.start();
  for (int round = 0; round < 2; ++round) {
    Applications applications(world, 1);
    applications.run_until(1024 * 1024);
    world.stop_host();
    expect_ends(world, applications);
    EXPECT_TRUE(world.guest("web").runs());
    world.start_host();
    expect_service_again(world);
  }
}

TEST(Fault, GuestStoppedInGoodOrderIsWaitedFor) {
  World world({"web"});
  world.start();
  for (int round = 0; round < 2; ++round) {
    Applications applications(world, 1);
    applications.run_until(1024 * 1024);
    world.stop_guest("web");
    expect_ends(world, applications);
    world.start_guest("web");
    expect_service_again(world);
  }
}

TEST(Fault, StoppedGuestBridgeDoesNotDisturbAnotherGuest) {
  World world({"web", "db"});
  world.start();
  Flood bystander(world.host_socket("db", "org.guest.echo"), 1, bystander_rate);
  Flood in_db(world.guest_socket("db", "org.host.echo"), 2, bystander_rate);
  for (int round = 0; round < 3; ++round) {
    world.guest("web").kill_and_reap();
    const std::uint64_t before = bystander.received();
    EXPECT_TRUE(bystander.wait_received(before + 1024 * 1024));
    world.start_guest("web");
    EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo")));
  }
  EXPECT_TRUE(bystander.finish());
  EXPECT_TRUE(in_db.finish());
}

/// What `xl destroy` must leave behind: nothing, while the other guest notices nothing.
void destroy_and_make_again(World& world, bool mid_transfer) {
  Flood bystander(world.host_socket("db", "org.guest.echo"), 1, bystander_rate);
  EXPECT_TRUE(bystander.wait_received(1024 * 1024));
  Client idle(world.host_socket("web", "org.guest.echo"));
  EXPECT_TRUE(idle.send("ping"));
  EXPECT_EQ(idle.receive(4), "ping");
  std::optional<Flood> busy;
  if (mid_transfer) {
    busy.emplace(world.host_socket("web", "org.guest.echo"), 2);
    EXPECT_TRUE(busy->wait_received(4 * 1024 * 1024));
  }
  const std::string folder = world.run_dir("Domain-0");
  const std::string old_domid = std::to_string(world.domid("web"));
  ASSERT_TRUE(std::filesystem::is_symlink(folder + "/" + old_domid));

  ASSERT_EQ(world.xensim({"destroy", "web"}).code, 0);
  world.guest("web").wait();
  world.forget_guest("web");
  EXPECT_TRUE(!busy || (busy->wait_end(end_within) && busy->intact()));
  EXPECT_EQ(idle.receive_to_end(end_within), "");
  EXPECT_NE(idle.ending(), Ending::open) << "an idle client on the host hangs";
  EXPECT_TRUE(eventually(
      [&] {
        return !std::filesystem::exists(folder + "/web") &&
               !std::filesystem::is_symlink(folder + "/" + old_domid);
      },
      recovery_within));
  EXPECT_TRUE(eventually([&] { return !world.domains().contains("(null)"); }, recovery_within));

  ASSERT_EQ(world.xensim({"create", "web"}).code, 0);
  world.start_guest("web");
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo"), 2 * recovery_within));
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo"), recovery_within));
  EXPECT_TRUE(std::filesystem::is_symlink(folder + "/" + std::to_string(world.domid("web"))));
  EXPECT_TRUE(bystander.finish());
}

TEST(Fault, DestroyedGuestInMidTransferLeavesNothingAndCanBeMadeAgain) {
  World world({"web", "db"});
  world.start();
  destroy_and_make_again(world, true);
}

TEST(Fault, DestroyedIdleGuestLeavesNothingAndCanBeMadeAgain) {
  World world({"web", "db"});
  world.start();
  destroy_and_make_again(world, false);
}

TEST(Fault, GuestMadeAgainWithItsOldDomidIsServed) {
  World world({"web:5"});
  world.start();
  for (int round = 0; round < 2; ++round) {
    Flood application(world.host_socket("web", "org.guest.echo"), 2);
    EXPECT_TRUE(application.wait_received(1024 * 1024));
    ASSERT_EQ(world.xensim({"destroy", "web"}).code, 0);
    world.guest("web").wait();
    EXPECT_TRUE(application.wait_end(end_within));
    ASSERT_TRUE(eventually([&] { return !world.domains().contains("(null)"); }, recovery_within));
    ASSERT_EQ(world.xensim({"create", "web:5"}).code, 0);
    world.start_guest("web");
    EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo"), 2 * recovery_within));
  }
}

}  // namespace
}  // namespace xenlane::tests

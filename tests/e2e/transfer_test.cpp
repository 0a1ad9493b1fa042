// What xenlane is for: bytes get across, all of them, in order, many connections at once, and ends
// of streams mean on the other side what they meant here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <thread>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

/// Sends `count` bytes to a service that answers with their digest; true when that is right.
bool upload_is_intact(const std::string& socket_path, std::uint64_t seed, std::uint64_t count) {
  Client client(socket_path);
  Pattern pattern(seed);
  Digest digest;
  if (!client.ok() || !client.send_pattern(pattern, count, &digest)) return false;
  client.finish();
  return client.receive_to_end() == digest.text();
}

/// Asks a source for `count` bytes and compares them.
std::int64_t download(Client& client, std::uint64_t seed, std::uint64_t count) {
  client.send(std::to_string(seed) + " " + std::to_string(count) + "\n");
  return client.receive_pattern_to_end(Pattern(seed));
}

TEST(Transfer, BulkGoesBothWaysInTwoGuestsAtOnce) {
  World world({"web", "db"});
  world.start();
  constexpr std::uint64_t bulk = 64 * mebibyte;
  std::vector<std::future<bool>> transfers;
  for (const std::string guest : {"web", "db"}) {
    for (const auto& path : {world.guest_socket(guest, "org.host.digest"),
                             world.host_socket(guest, "org.guest.digest")}) {
      transfers.push_back(
          std::async(std::launch::async, upload_is_intact, path, transfers.size() + 1, bulk));
    }
  }
  for (auto& transfer : transfers) EXPECT_TRUE(transfer.get());
}

/// How often the process's first thread has gone to sleep so far.
std::uint64_t sleeps(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    std::uint64_t count = 0;
    if (word == "voluntary_ctxt_switches:" && status >> count) return count;
  }
  return 0;
}

TEST(Transfer, IdleStreamsWakeNobody) {
  World world({"web"});
  world.start();
  const pid_t bridge = world.guest("web").pid();
  const pid_t worker = world.worker_pid("web");
  std::vector<Client> clients;
  for (int i = 0; i < 50; ++i) clients.emplace_back(world.guest_socket("web", "org.host.echo"));
  EXPECT_TRUE(exchange_with_echo(clients, 100'000));
  for (int i = 0; i < 50; ++i)
    clients[std::size_t(i)] = Client(world.guest_socket("web", "org.host.echo"));
  ASSERT_GT(sleeps(bridge), 0U);
  // What was under way has settled when nobody has slept, and so woken, for two seconds.
  EXPECT_TRUE(eventually([&] {
    const std::uint64_t before = sleeps(bridge) + sleeps(worker);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    return sleeps(bridge) + sleeps(worker) == before;
  }));
}

/// Open files of a process.
std::size_t descriptors(pid_t pid) {
  std::error_code error;
  const std::filesystem::directory_iterator folder("/proc/" + std::to_string(pid) + "/fd", error);
  return static_cast<std::size_t>(std::distance(begin(folder), end(folder)));
}

void two_hundred_at_once(World& world, const std::string& path, Service& service) {
  const pid_t bridge = world.guest("web").pid();
  const pid_t worker = world.worker_pid("web");
  ASSERT_TRUE(world.echo_works(path));
  ASSERT_TRUE(eventually([&] { return service.open_count() == 0; }));
  const std::size_t before = descriptors(bridge) + descriptors(worker);
  std::vector<Client> clients;
  for (int i = 0; i < 200; ++i) {
    clients.emplace_back(path);
    ASSERT_TRUE(clients.back().ok()) << i;
  }
  EXPECT_TRUE(exchange_with_echo(clients, 256 * 1024));
  EXPECT_TRUE(eventually([&] { return service.open_count() == 0; }));
  EXPECT_TRUE(eventually([&] { return descriptors(bridge) + descriptors(worker) <= before; }))
      << before << " files were open, now " << descriptors(bridge) + descriptors(worker);
}

TEST(Transfer, TwoHundredConnectionsAtOnceFromTheGuest) {
  World world({"web"});
  world.start();
  two_hundred_at_once(world, world.guest_socket("web", "org.host.echo"),
                      world.service("host", "echo"));
}

TEST(Transfer, TwoHundredConnectionsAtOnceFromTheHost) {
  World world({"web"});
  world.start();
  two_hundred_at_once(world, world.host_socket("web", "org.guest.echo"),
                      world.service("web", "echo"));
}

TEST(Transfer, AnAnswerAfterEndOfFileArrivesWhole) {
  World world({"web"});
  world.start();
  const std::string question = "what is the digest of this?";
  for (const auto& path : {world.guest_socket("web", "org.host.digest"),
                           world.host_socket("web", "org.guest.digest")}) {
    Client client(path);
    ASSERT_TRUE(client.send(question));
    client.finish();
    EXPECT_EQ(client.receive_to_end(), digest_of(question)) << path;
    EXPECT_EQ(client.ending(), Ending::closed);
  }
  const Outcome from_guest = world.tool("web", {"connect", "org.host.digest"}, question);
  EXPECT_EQ(from_guest.code, 0) << from_guest.err;
  EXPECT_EQ(from_guest.out, digest_of(question));
  const Outcome from_host = world.tool("0", {"connect", "web/org.guest.digest"}, question);
  EXPECT_EQ(from_host.code, 0) << from_host.err;
  EXPECT_EQ(from_host.out, digest_of(question));
}

TEST(Transfer, AServiceThatClosesItsSideFirstKeepsReceiving) {
  World world({"web"});
  world.stop_serving("host", "echo");
  world.stop_serving("web", "echo");
  const std::uint64_t count = 4 * mebibyte;
  for (const std::string owner : {"host", "web"}) {
    std::promise<std::string> collected;
    const Service service(
        world.service_path(owner, "echo"),
        finish_then_collect([&](std::string digest) { collected.set_value(std::move(digest)); }));
    if (!world.host().started()) world.start();
    Client client(owner == "host" ? world.guest_socket("web", "org.host.echo")
                                  : world.host_socket("web", "org.guest.echo"));
    EXPECT_EQ(client.receive_to_end(), "done");
    EXPECT_EQ(client.ending(), Ending::closed);
    Pattern pattern(7);
    Digest digest;
    EXPECT_TRUE(client.send_pattern(pattern, count, &digest));
    client.finish();
    auto result = collected.get_future();
    ASSERT_EQ(result.wait_for(long_enough), std::future_status::ready);
    EXPECT_EQ(result.get(), digest.text());
  }
}

TEST(Transfer, OneThatNeverReadsHoldsUpNobodyAndLosesNothing) {
  World world({"web"});
  world.start();
  const std::string path = world.guest_socket("web", "org.host.source");
  constexpr std::uint64_t stuck_bytes = 8 * mebibyte;
  Client stuck(path);
  ASSERT_TRUE(stuck.send("1 " + std::to_string(stuck_bytes) + "\n"));
  std::vector<std::future<std::int64_t>> others;
  for (std::uint64_t seed = 2; seed <= 100; ++seed) {
    others.push_back(std::async(std::launch::async, [&path, seed] {
      Client client(path);
      return client.ok() ? download(client, seed, mebibyte) : -2;
    }));
  }
  for (auto& other : others) EXPECT_EQ(other.get(), mebibyte);
  EXPECT_EQ(stuck.receive_pattern_to_end(Pattern(1)), stuck_bytes);
  EXPECT_EQ(stuck.ending(), Ending::closed);
}

TEST(Transfer, AReaderThatLeavesEndsTheSenderOnTheOtherSide) {
  World world({"web"});
  world.start();
  Client client(world.guest_socket("web", "org.host.source"));
  ASSERT_TRUE(client.send("1 1000000000000\n"));
  EXPECT_FALSE(client.receive(mebibyte).empty());
  client.close();
  EXPECT_TRUE(
      eventually([&] { return world.service("host", "source").open_count() == 0; }, end_within));
}

}  // namespace
}  // namespace xenlane::tests

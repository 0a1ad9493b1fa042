// Ports: both sides listen, and the n-th connection of one side meets the n-th of the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <utility>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

constexpr const char* port = "org.port.one";

/// The two ends of the port, by who comes first.
struct Ends {
  explicit Ends(World& world)
      : host(world.host_socket("web", port)), guest(world.guest_socket("web", port)) {}
  std::string host;
  std::string guest;
};

TEST(Port, NthMeetsNthWhicheverSideIsFirst) {
  World world({"web"});
  world.start();
  const Ends ends(world);
  for (const auto& [first, second] :
       {std::pair(ends.host, ends.guest), std::pair(ends.guest, ends.host)}) {
    std::array<Client, 3> early{Client(first), Client(first), Client(first)};
    for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(early[i].send("early " + std::to_string(i)));
    std::array<Client, 3> late{Client(second), Client(second), Client(second)};
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(late[i].receive(7), "early " + std::to_string(i));
      ASSERT_TRUE(late[i].send("late " + std::to_string(i)));
      EXPECT_EQ(early[i].receive(6), "late " + std::to_string(i));
    }
  }
}

TEST(Port, BothSidesComingInTurnsAreStillPairedInOrder) {
  World world({"web"});
  world.start();
  const Ends ends(world);
  Client guest_1(ends.guest);
  Client host_1(ends.host);
  Client host_2(ends.host);
  Client guest_2(ends.guest);
  ASSERT_TRUE(guest_1.send("g1") && guest_2.send("g2") && host_1.send("h1") && host_2.send("h2"));
  EXPECT_EQ(host_1.receive(2), "g1");
  EXPECT_EQ(host_2.receive(2), "g2");
  EXPECT_EQ(guest_1.receive(2), "h1");
  EXPECT_EQ(guest_2.receive(2), "h2");
}

TEST(Port, ALoneEndWaitsAndItsBytesAreKept) {
  World world({"web"});
  world.start();
  const Ends ends(world);
  for (const auto& [first, second] :
       {std::pair(ends.host, ends.guest), std::pair(ends.guest, ends.host)}) {
    const std::string words(16 * 1024, 'w');
    Client lone(first);
    ASSERT_TRUE(lone.send(words));
    lone.finish();
    Client partner(second);
    EXPECT_EQ(partner.receive_to_end(), words);
    ASSERT_TRUE(partner.send("answer"));
    partner.close();
    EXPECT_EQ(lone.receive_to_end(), "answer");
  }
}

TEST(Port, WhatALeaverWroteReachesTheNextToCome) {
  World world({"web"});
  world.start();
  const Ends ends(world);
  for (const auto& [first, second] :
       {std::pair(ends.host, ends.guest), std::pair(ends.guest, ends.host)}) {
    {
      Client leaver(first);
      ASSERT_TRUE(leaver.send("last words"));
    }
    Client partner(second);
    EXPECT_EQ(partner.receive_to_end(), "last words");
    EXPECT_EQ(partner.ending(), Ending::closed);
  }
}

TEST(Port, OneDirectionMayEndBeforeTheOther) {
  World world({"web"});
  world.start();
  const Ends ends(world);
  Client host(ends.host);
  Client guest(ends.guest);
  ASSERT_TRUE(host.send("over"));
  host.finish();
  EXPECT_EQ(guest.receive_to_end(), "over");
  Pattern pattern(3);
  constexpr std::uint64_t count = std::uint64_t{4} * 1024 * 1024;
  std::thread sender([&] {
    EXPECT_TRUE(guest.send_pattern(pattern, count));
    guest.finish();
  });
  EXPECT_EQ(host.receive_pattern_to_end(Pattern(3)), count);
  sender.join();
}

TEST(Port, WhatIsSaidToNobodyIsThrownAwayWhereNothingIsKept) {
  World world({"web"});
  constexpr const char* live = "org.port.live";
  write_file(world.host_config_path(),
             world.host_config() + channel(live, "port", "", "cache_buffers = false\n"));
  write_file(world.guest_config_path("web"), world.guest_config("web") + channel(live, "port"));
  world.start();
  const std::string host = world.host_socket("web", live);
  const std::string guest = world.guest_socket("web", live);
  for (const auto& [first, second] : {std::pair(host, guest), std::pair(guest, host)}) {
    Client lone(first);
    // More than all buffers on the way hold: it is taken, and goes nowhere.
    ASSERT_TRUE(lone.send(std::string(4 * mebibyte, 'w')));
    // What is still on its way when the partner comes is heard; what comes last is whole.
    Client partner(second);
    ASSERT_TRUE(partner.send("here"));
    EXPECT_EQ(lone.receive(4), "here");
    ASSERT_TRUE(lone.send("now"));
    lone.finish();
    const std::string heard = partner.receive_to_end();
    EXPECT_TRUE(heard.ends_with("now"));
    EXPECT_LT(heard.size(), 2 * mebibyte) << "most of what was said before is gone";
  }
}

}  // namespace
}  // namespace xenlane::tests

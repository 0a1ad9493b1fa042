// Channels of a running xensim, with programs at both ends.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/xensim/hypervisor/channel_ends.hpp"
#include "tests/xensim/hypervisor/simulator.hpp"

namespace xensim_test {
namespace {

namespace fs = std::filesystem;

constexpr const char* one_channel = "--guest web --channel web:org.example.a";

std::string mixed_bytes(std::size_t bytes, unsigned seed) {
  std::string text(bytes, '\0');
  for (char& byte : text) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>(seed >> 24);
  }
  return text;
}

/// Connected, and accepted by the broker.
HostEnd accepted(const Simulator& sim) {
  HostEnd host(sim, "web", "org.example.a");
  EXPECT_TRUE(host.is_connected());
  EXPECT_TRUE(eventually([&] { return listed_channel(sim).client; }));
  return host;
}

/// Open, and already raw when the first byte comes.
GuestEnd opened_raw(const Simulator& sim, int hvc = 1) {
  GuestEnd guest(sim, 1, hvc);
  guest.make_raw();
  return guest;
}

/// The program in the guest has gone and the tty is as at its beginning.
void leave(const Simulator& sim, GuestEnd& guest) {
  guest.close();
  EXPECT_TRUE(eventually([&] { return GuestEnd(sim, 1, 1).echoes(); }));
}

TEST(Channel, CarriesAMebibyteBothWaysAtOnce) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  const std::string to_guest = mixed_bytes(std::size_t{1} << 20, 1);
  const std::string to_host = mixed_bytes(std::size_t{1} << 20, 2);
  std::string_view host_has = to_guest;
  std::string_view guest_has = to_host;
  std::string at_guest;
  std::string at_host;
  bool comes = true;
  while (comes && (at_guest.size() < to_guest.size() || at_host.size() < to_host.size())) {
    if (!host_has.empty()) host_has.remove_prefix(host.write_now(host_has));
    if (!guest_has.empty()) guest_has.remove_prefix(guest.write_now(guest_has));
    pollfd ends[] = {
        {host.fd(), static_cast<short>(POLLIN | (host_has.empty() ? 0 : POLLOUT)), 0},
        {guest.fd(), static_cast<short>(POLLIN | (guest_has.empty() ? 0 : POLLOUT)), 0}};
    if (::poll(ends, 2, 200) == 0 && guest_has.empty()) {
      // The last bytes may wait in QEMU for something to happen in the guest.
      comes = host.write_now("!") == 1;
    }
    at_guest += guest.read_now();
    at_host += host.read_now();
  }
  EXPECT_TRUE(at_guest.substr(0, to_guest.size()) == to_guest);
  EXPECT_TRUE(at_host == to_host);
  EXPECT_EQ(listed_channel(sim).dropped, 0U);
}

TEST(Channel, EachIsATtyOfItsOwn) {
  const Simulator sim("--guest web --channel web:a --channel web:b --guest db --channel db:a");
  GuestEnd second = opened_raw(sim, 2);
  HostEnd host(sim, "web", "b");
  host.write("for hvc2");
  EXPECT_EQ(second.read(8), "for hvc2");
  GuestEnd other(sim, 2, 1);
  other.make_raw();
  HostEnd other_host(sim, "db", "a");
  other_host.write("for db");
  EXPECT_EQ(other.read(6), "for db");
  EXPECT_EQ(listed_channel(sim, 0).bytes_to_guest, 0U);
  EXPECT_EQ(listed_channel(sim, 1).bytes_to_guest, 8U);
}

TEST(Channel, CookedItEchoes) {
  const Simulator sim(one_channel);
  GuestEnd guest(sim, 1, 1);
  HostEnd host = accepted(sim);
  host.write("hi\n");
  EXPECT_EQ(guest.read(3), "hi\n");
  EXPECT_EQ(host.read(4), "hi\r\n");
}

TEST(Channel, StaleOutputComesToTheNextClientWithTheGuestsNextEvent) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  {
    HostEnd first = accepted(sim);
    guest.write("one");
    EXPECT_EQ(first.read(3), "one");
  }
  EXPECT_TRUE(eventually([&] { return !listed_channel(sim).client; }));
  guest.write("two");
  EXPECT_TRUE(eventually([&] { return listed_channel(sim).backlog == 3; }));
  HostEnd second = accepted(sim);
  EXPECT_EQ(second.read_now(), "");
  second.write("x");
  EXPECT_EQ(second.read(3), "two") << "the guest's tty took the x";
}

TEST(Channel, WhatASlowClientDidNotTakeWaitsForTheGuest) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  const std::string bytes = mixed_bytes(600'000, 3);
  guest.write(bytes);
  EXPECT_TRUE(eventually([&] {
    const Listed listed = listed_channel(sim);
    return listed.bytes_to_host + listed.backlog == bytes.size();
  }));
  std::string got = host.read_now();
  EXPECT_LT(got.size(), bytes.size());
  EXPECT_EQ(listed_channel(sim).bytes_to_host, got.size()) << "room alone makes nothing come";
  EXPECT_EQ(host.read_now(), "");
  while (got.size() < bytes.size()) {
    guest.write(".");
    const std::string first = host.read(1);
    ASSERT_FALSE(first.empty());
    got += first;
    got += host.read_now();
  }
  EXPECT_TRUE(got.substr(0, bytes.size()) == bytes);
}

TEST(Channel, TheMiddleOfTooMuchOutputIsGone) {
  const Simulator sim(one_channel);
  ASSERT_EQ(sim.xensim("set web console-limit 4096").code, 0);
  GuestEnd guest = opened_raw(sim);
  const std::string bytes = mixed_bytes(20'000, 4);
  guest.write(bytes);
  EXPECT_TRUE(eventually([&] { return listed_channel(sim).dropped == 20'000 - 4096; }));
  HostEnd host = accepted(sim);
  guest.write("the end");
  const std::string got = host.read(4096);
  EXPECT_EQ(got.substr(0, 2048), bytes.substr(0, 2048)) << "the oldest";
  EXPECT_EQ(got.substr(4096 - 7), "the end");
  EXPECT_EQ(listed_channel(sim).dropped, 20'000U + 7 - 4096);
}

TEST(Channel, OneClientAtATime) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd first = accepted(sim);
  HostEnd second(sim, "web", "org.example.a");
  EXPECT_TRUE(second.is_connected()) << "it waits in the socket's backlog";
  second.write("second");
  first.write("first");
  EXPECT_EQ(guest.read(5), "first");
  guest.write("hello");
  EXPECT_EQ(first.read(5), "hello");
  EXPECT_EQ(second.read_now(), "");
  EXPECT_EQ(guest.read_now(), "");
  first.close();
  EXPECT_EQ(guest.read(6), "second");
}

TEST(Channel, StaleInputComesToTheNextOpener) {
  const Simulator sim(one_channel);
  HostEnd host = accepted(sim);
  host.write("nobody is there");
  GuestEnd guest = opened_raw(sim);
  EXPECT_EQ(guest.read(15), "nobody is there");
}

TEST(Channel, TheLastCloserLeavesACookedTtyAndUnreadInputIsGone) {
  const Simulator sim(one_channel);
  HostEnd host = accepted(sim);
  GuestEnd guest = opened_raw(sim);
  EXPECT_FALSE(guest.echoes());
  host.write("unread");
  EXPECT_TRUE(eventually([&] { return listed_channel(sim).bytes_to_guest == 6; }));
  leave(sim, guest);
  GuestEnd next = opened_raw(sim);
  host.write("new");
  EXPECT_EQ(next.read(3), "new");
}

TEST(Channel, OutputOfAProgramThatEndsAtOnceArrives) {
  const Simulator sim(one_channel);
  HostEnd host = accepted(sim);
  ASSERT_EQ(sim.xensim("exec web -- sh -c 'echo bye > $XENLANE_DEV_DIR/hvc1'").code, 0);
  EXPECT_EQ(host.read(5), "bye\r\n");
}

TEST(Channel, OfAClientThatHasHungUpOnlyWhatFitsArrives) {
  const Simulator sim(one_channel);
  HostEnd host = accepted(sim);
  const std::string bytes = mixed_bytes(5000, 5);
  host.write(bytes);
  host.close();
  EXPECT_TRUE(eventually([&] { return !listed_channel(sim).client; }));
  GuestEnd guest = opened_raw(sim);
  HostEnd next = accepted(sim);
  next.write("next");
  EXPECT_EQ(guest.read(1028), bytes.substr(0, 1024) + "next");
}

TEST(ChannelSwitches, LossTakesBytesBothWays) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  ASSERT_EQ(sim.xensim("set web console-loss 1000").code, 0);
  guest.write("lost");
  host.write("lost");
  EXPECT_TRUE(eventually([&] { return listed_channel(sim).dropped == 8; }));
  ASSERT_EQ(sim.xensim("set web console-loss 0").code, 0);
  guest.write("from guest");
  EXPECT_EQ(host.read(10), "from guest");
  host.write("from host");
  EXPECT_EQ(guest.read(9), "from host");
}

TEST(ChannelSwitches, EchoAndNoise) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  ASSERT_EQ(sim.xensim("set web console-echo on").code, 0);
  host.write("hi\n");
  EXPECT_EQ(host.read(4), "hi\r\n");
  ASSERT_EQ(sim.xensim("set web console-echo off").code, 0);
  ASSERT_EQ(sim.xensim("set web console-noise on").code, 0);
  guest.write(std::string(2000, '.'));
  const std::string noisy = host.read(2000);
  EXPECT_EQ(noisy.substr(0, 3), "[  ");
  EXPECT_NE(noisy.find("] "), std::string::npos);
}

TEST(ChannelSwitches, OffDropsTheClientAndTheGuestsWriterMeetsBackPressure) {
  const Simulator sim(one_channel);
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  ASSERT_EQ(sim.xensim("set web console off").code, 0);
  EXPECT_TRUE(host.has_ended());
  EXPECT_FALSE(HostEnd(sim, "web", "org.example.a").is_connected());
  const std::string bytes = mixed_bytes(1 << 20, 6);
  std::string_view rest = bytes;
  EXPECT_TRUE(eventually([&] {
    const std::size_t step = guest.write_now(rest);
    rest.remove_prefix(step);
    return step == 0;
  }));
  EXPECT_GT(rest.size(), std::size_t{1} << 19) << "a ring and a tty hold much less";

  ASSERT_EQ(sim.xensim("set web console on").code, 0);
  const std::size_t stuck = bytes.size() - rest.size();
  HostEnd again = accepted(sim);
  again.write("x");
  EXPECT_TRUE(again.read(stuck) == bytes.substr(0, stuck));
  EXPECT_EQ(guest.read(1), "x") << "the same open tty goes on";
}

TEST(ChannelSwitches, RefusedWithTheReason) {
  const Simulator sim("--guest web --channel web:a --guest plain");
  for (const auto& [arguments, reason] :
       {std::pair{"web console-loss 1001", "use a number from 0 to 1000"},
        {"web console maybe", "use on or off"},
        {"web console-dup on", "console-noise"},
        {"plain console off", "no channels"},
        {"web nonsense 1", "no setting nonsense"}}) {
    const Outcome outcome = sim.xensim(std::string("set ") + arguments);
    EXPECT_EQ(outcome.code, 1) << arguments;
    EXPECT_NE(outcome.output.find(reason), std::string::npos) << outcome.output;
  }
}

TEST(ChannelNodes, AreAsLibxlWritesThemAndReadOnlyToTheGuest) {
  const Simulator sim("--guest web --channel web:org.example.a --channel web:b");
  const std::string socket = sim.dir() + "/channel/web/org.example.a";
  const auto read = [&](const std::string& domain, const std::string& path) {
    const std::string output = sim.xensim("exec " + domain + " -- xenstore-read " + path).output;
    return output.substr(0, output.size() - 1);
  };
  const std::string front = "/local/domain/1/device/console/1";
  const std::string back = "/local/domain/0/backend/console/1/1";
  for (const auto& [node, value] : {std::pair<std::string, std::string>{"backend", back},
                                    {"backend-id", "0"},
                                    {"limit", "1048576"},
                                    {"type", "ioemu"},
                                    {"output", "chardev:libxl-channel1"},
                                    {"tty", ""},
                                    {"name", "org.example.a"},
                                    {"state", "4"}}) {
    EXPECT_EQ(read("web", front + "/" + node), value) << node;
  }
  for (const auto& [node, value] : {std::pair<std::string, std::string>{"frontend", front},
                                    {"frontend-id", "1"},
                                    {"online", "1"},
                                    {"state", "4"},
                                    {"protocol", "vt100"},
                                    {"name", "org.example.a"},
                                    {"connection", "socket"},
                                    {"path", socket}}) {
    EXPECT_EQ(read("web", back + "/" + node), value) << node;
  }
  EXPECT_EQ(read("0", "/local/domain/1/device/console/2/name"), "b");
  EXPECT_NE(read("web", front + "/ring-ref"), "");
  EXPECT_NE(read("web", front + "/port"), "");
  EXPECT_NE(sim.xensim("exec web -- xenstore-write " + front + "/name x").code, 0);
  EXPECT_NE(sim.xensim("exec web -- xenstore-rm " + front).code, 0);
  EXPECT_NE(sim.xensim("exec web -- xenstore-write " + back + "/path x").code, 0);
}

TEST(ChannelFiles, ArePrivateAndTheGuestFindsItsDevicesByTheEnvironment) {
  const Simulator sim("--guest web --channel web:a --channel web:b");
  const Listed second = listed_channel(sim, 1);
  EXPECT_EQ(second.name, "b");
  EXPECT_EQ(second.path, sim.dir() + "/channel/web/b");
  EXPECT_EQ(second.device, sim.dir() + "/dom/1/dev/hvc2");
  struct stat status {};
  ASSERT_EQ(::stat(second.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  EXPECT_EQ(sim.xensim("exec web -- sh -c 'ls $XENLANE_DEV_DIR'").output, "hvc1\nhvc2\n");
  EXPECT_EQ(sim.xensim("exec 0 -- sh -c 'ls $XENLANE_DEV_DIR'").output, "");
  const std::string table = sim.xensim("list").output;
  EXPECT_NE(table.find("Channels\n"), std::string::npos);
  EXPECT_EQ(table.substr(table.size() - 3), " 2\n");
}

TEST(ChannelFiles, AndNodesGoWithTheDomain) {
  const Simulator sim("--guest web --channel web:org.example.a");
  GuestEnd guest = opened_raw(sim);
  HostEnd host = accepted(sim);
  const std::string pty = fs::read_symlink(sim.dir() + "/dom/1/dev/hvc1");
  ASSERT_EQ(sim.xensim("destroy web").code, 0);
  EXPECT_TRUE(host.has_ended());
  EXPECT_TRUE(guest.has_ended());
  guest.close();
  EXPECT_FALSE(fs::exists(sim.dir() + "/channel/web"));
  EXPECT_FALSE(fs::exists(sim.dir() + "/dom/1"));
  EXPECT_FALSE(fs::exists(pty));
  EXPECT_NE(sim.xensim("exec 0 -- xenstore-exists /local/domain/0/backend/console/1").code, 0);
  EXPECT_NE(sim.xensim("exec 0 -- xenstore-exists /local/domain/1").code, 0);

  ASSERT_EQ(sim.xensim("create web --channel org.example.a --channel b").output, "2\n");
  EXPECT_TRUE(HostEnd(sim, "web", "b").is_connected());
  EXPECT_EQ(sim.xensim("exec web -- xenstore-read device/console/2/name").output, "b\n");
}

TEST(ChannelArguments, AreCheckedWithTheReason) {
  const Simulator sim("--guest web");
  std::string ten = "create ten";
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}) {
    ten += std::string(" --channel ") + name;
  }
  for (const auto& [arguments, reason] :
       {std::pair<std::string, std::string>{ten, "10 channels"},
        {"create x --channel a --channel a", "has a channel a already"},
        {"create x --channel .a", "channel name '.a'"},
        {"create .. --channel a", "name it otherwise"},
        {"create x --channel " + std::string(63, 'a') + "b", "use 1 to 63"},
        {"create " + std::string(40, 'x') + " --channel " + std::string(60, 'a'),
         "choose a shorter --dir"}}) {
    const Outcome outcome = sim.xensim(arguments);
    EXPECT_EQ(outcome.code, 1) << arguments;
    EXPECT_NE(outcome.output.find(reason), std::string::npos) << outcome.output;
    EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1);
  }
  EXPECT_EQ(sim.xensim("create x").output, "2\n") << "those refused have left nothing";

  const std::string up = "up --dir " + sim.dir() + "/other --guest web --channel ";
  for (const std::string channel : {"web", "db:a", "web:", "web:a/b"}) {
    EXPECT_EQ(sim.xensim(up + channel).code, 2) << channel;
  }
}

}  // namespace
}  // namespace xensim_test

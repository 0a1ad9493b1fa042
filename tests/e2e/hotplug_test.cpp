// Channels that come, change and go while everything runs, and the streams of others that must not
// notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;

constexpr const char* added = "org.added.echo";

/// Adds the channel on both sides: the host's programs reach the guest's echo.
void add_echo(World& world) {
  const std::string target = "unix:" + world.service_path("web", "echo");
  const Outcome host = world.tool("0", {"channel", "add", "web", added, "--listen", "--set",
                                        "mode=0660", "--set", "users=[0, 65534]"});
  ASSERT_EQ(host.code, 0) << host.err;
  const Outcome guest = world.tool("web", {"channel", "add", added, "--dial", target});
  ASSERT_EQ(guest.code, 0) << guest.err;
}

std::size_t descriptors_of(pid_t process) {
  std::size_t count = 0;
  std::error_code error;
  for (const auto& entry :
       fs::directory_iterator("/proc/" + std::to_string(process) + "/fd", error)) {
    (void)entry;
    ++count;
  }
  return count;
}

TEST(Hotplug, ChannelAddedOnBothSidesWorksAtOnceAndIsGoneWhenRemoved) {
  World world({"web"});
  world.start();
  add_echo(world);
  const std::string socket = world.host_socket("web", added);
  Client client(socket);
  ASSERT_TRUE(client.send("hello"));
  EXPECT_EQ(client.receive(5), "hello");

  const Outcome removed = world.tool("0", {"channel", "remove", "web", added});
  EXPECT_EQ(removed.code, 0) << removed.err;
  EXPECT_FALSE(fs::exists(socket));
  EXPECT_EQ(client.receive_to_end(end_within), "");
  EXPECT_NE(client.ending(), Ending::open) << "a connection of a removed channel goes on";
  EXPECT_TRUE(eventually([&] { return world.service("web", "echo").open_count() == 0; }));
}

/// Events of a folder, "WORD NAME" each; those of hidden names are left out.
std::vector<std::string> folder_events(int inotify) {
  std::vector<std::string> found;
  alignas(inotify_event) char bytes[4096];
  const ssize_t got = ::read(inotify, bytes, sizeof bytes);
  for (ssize_t at = 0; at < got;) {
    const auto* event = reinterpret_cast<const inotify_event*>(bytes + at);
    at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    const std::string name = event->len > 0 ? event->name : "";
    if (name.starts_with('.')) continue;
    found.push_back(((event->mask & IN_MOVED_TO) != 0 ? "moved " : "other ") + name);
  }
  return found;
}

// A program that waits for its channel needs to watch nothing but the folder.
TEST(Hotplug, SocketAppearsInOneStepForWhoeverWatchesTheFolder) {
  World world({"web"});
  world.start();
  const transport::UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string folder = world.run_dir("Domain-0") + "/web";
  ASSERT_GE(::inotify_add_watch(inotify.get(), folder.c_str(), IN_CREATE | IN_MOVED_TO), 0);
  add_echo(world);
  EXPECT_EQ(folder_events(inotify.get()), std::vector<std::string>{std::string("moved ") + added});
  Client client(world.host_socket("web", added));
  ASSERT_TRUE(client.send("at once"));
  EXPECT_EQ(client.receive(7), "at once");
}

TEST(Hotplug, WhatIsWrongIsSaidInOneLine) {
  World world({"web"});
  world.start();
  const auto expect = [&](std::vector<std::string> words, int code, const std::string& what) {
    words.insert(words.begin(), "channel");
    const Outcome outcome = world.tool("0", words);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, testing::HasSubstr(what));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  };
  expect({"add", "web", "org.guest.echo", "--listen"}, 3, "there is such a channel already");
  expect({"add", "web", "nodot", "--listen"}, 3, "has no dot");
  expect({"add", "web", "org.a.b", "--dial", "what:ever"}, 3, "is no target");
  expect({"add", "web", "org.a.b", "--listen", "--set", "colour=red"}, 3, "unknown key 'colour'");
  expect({"add", "web", "org.a.b"}, 2, "--listen");
  expect({"add", "nobody", "org.a.b", "--listen"}, 4, "unknown guest");
  expect({"remove", "web", "org.a.b"}, 4, "no such channel");
}

TEST(Hotplug, FiftyRoundsLeaveABulkTransferUntouchedAndNothingBehind) {
  World world({"web"});
  world.start();
  Flood bulk(world.host_socket("web", "org.guest.echo"), 7);
  ASSERT_TRUE(bulk.wait_received(1024 * 1024));
  const pid_t worker = world.worker_pid("web");
  std::size_t before = 0;
  for (int round = 0; round < 50; ++round) {
    add_echo(world);
    Client client(world.host_socket("web", added));
    ASSERT_TRUE(client.send("round " + std::to_string(round))) << round;
    client.finish();
    EXPECT_EQ(client.receive_to_end(), "round " + std::to_string(round));
    ASSERT_EQ(world.tool("web", {"channel", "remove", added}).code, 0);
    ASSERT_EQ(world.tool("0", {"channel", "remove", "web", added}).code, 0);
    if (round == 0) before = descriptors_of(worker);
  }
  EXPECT_TRUE(eventually([&] { return descriptors_of(worker) <= before; }))
      << descriptors_of(worker) << " descriptors, at first " << before;
  EXPECT_EQ(world.worker_pid("web"), worker);
  EXPECT_TRUE(bulk.finish());
  EXPECT_TRUE(bulk.intact());
}

TEST(Hotplug, ReloadAddsChangesAndRemovesWhatTheFilesSay) {
  World world({"web"});
  const std::string folder = world.dir() + "/host.d";
  fs::create_directory(folder);
  write_file(folder + "/20-more.toml",
             channel("org.example.more.channel.one", "listen") +
                 channel("org.example.more.channel.two", "listen", "", "mode = \"0600\""));
  world.start();
  Flood bystander(world.host_socket("web", "org.guest.echo"), 3, bystander_rate);
  ASSERT_TRUE(bystander.wait_received(1));
  const std::string one = world.host_socket("web", "org.example.more.channel.one");
  const std::string two = world.host_socket("web", "org.example.more.channel.two");
  const std::string three = world.host_socket("web", "org.example.more.channel.three");
  ASSERT_TRUE(fs::exists(one) && fs::exists(two));

  write_file(folder + "/20-more.toml",
             channel("org.example.more.channel.two", "listen", "", "mode = \"0666\"") +
                 channel("org.example.more.channel.three", "listen"));
  const Outcome outcome = world.tool("0", {"reload"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "web: added org.example.more.channel.three\nweb: changed "
            "org.example.more.channel.two\nweb: removed org.example.more.channel.one\n");
  EXPECT_FALSE(fs::exists(one));
  EXPECT_TRUE(fs::exists(three));
  struct stat found {};
  ASSERT_EQ(::stat(two.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0666U);
  EXPECT_TRUE(bystander.finish());
  EXPECT_TRUE(bystander.intact());
}

TEST(Hotplug, ReloadByASignalWorksAndAFatalErrorChangesNothing) {
  World world({"web"});
  world.start();
  const std::string more = world.guest_socket("web", "org.more.one");
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel("org.more.one", "listen"));
  world.guest("web").signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return fs::exists(more); }));

  write_file(world.guest_config_path("web"), "[[[");
  const Outcome outcome = world.tool("web", {"reload"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, testing::HasSubstr("everything stays as it was"));
  EXPECT_TRUE(fs::exists(more));
  EXPECT_TRUE(world.echo_works(world.guest_socket("web", "org.host.echo")));
}

TEST(Hotplug, WorkersKeepTheSettingsThatTheirBrokerHas) {
  World world({"web"});
  world.start();
  write_file(world.host_config_path(), "[[[");
  EXPECT_EQ(world.tool("0", {"reload"}).code, 3);
  const pid_t worker = world.worker_pid("web");
  ::kill(worker, SIGKILL);
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo")))
      << "everything stays as it was, for new workers too";
  EXPECT_EQ(world.bridge_status("0", "web").at("role").as_string(), "worker");
}

TEST(Hotplug, ProgramThatWaitsOnAPortHearsThatItIsRemoved) {
  World world({"web"});
  world.start();
  Client lone(world.host_socket("web", "org.port.one"));
  ASSERT_TRUE(lone.send("is anybody there?"));
  ASSERT_EQ(world.tool("0", {"channel", "remove", "web", "org.port.one"}).code, 0);
  EXPECT_EQ(lone.receive_to_end(end_within), "");
  EXPECT_NE(lone.ending(), Ending::open);
}

TEST(Hotplug, ChannelThatCannotHaveItsSocketIsSaidAndTriedAgain) {
  World world({"web"});
  const std::string folder = world.dir() + "/later";
  const std::string config =
      world.host_config() +
      channel("org.linked.echo", "listen", "", "link = \"" + folder + "/{guest}/{guest}.sock\"\n");
  world.start();
  write_file(world.host_config_path(), config);
  const Outcome failed = world.tool("0", {"reload"});
  EXPECT_EQ(failed.code, 3);
  EXPECT_THAT(failed.out, testing::HasSubstr("web: failed org.linked.echo: link " + folder));
  fs::create_directories(folder + "/web");
  const Outcome mended = world.tool("0", {"reload"});
  EXPECT_EQ(mended.code, 0) << mended.err;
  EXPECT_TRUE(Client(folder + "/web/web.sock").ok()) << "{guest} is the guest's name, each time";
}

TEST(Hotplug, BrokenDropInDeniesWhatComesBehindIt) {
  World world({"web"});
  const std::string folder = world.dir() + "/host.d";
  fs::create_directory(folder);
  write_file(folder + "/10-rules.toml", channel("org.secret.*", "deny"));
  write_file(folder + "/20-more.toml",
             channel("org.more.one", "listen") + channel("org.secret.one", "listen"));
  world.start();
  EXPECT_TRUE(fs::exists(world.host_socket("web", "org.more.one")));
  EXPECT_FALSE(fs::exists(world.host_socket("web", "org.secret.one"))) << "denied";
  write_file(folder + "/10-rules.toml", "[[channel]]\nname = \"org.secret.*\"\nend = \"deny\n");
  const Outcome outcome = world.tool("0", {"reload"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, testing::HasSubstr("10-rules.toml:3"));
  EXPECT_FALSE(fs::exists(world.host_socket("web", "org.more.one")))
      << "the file might have denied it";
  EXPECT_TRUE(world.echo_works(world.host_socket("web", "org.guest.echo")));
}

TEST(Hotplug, AddedChannelOutlivesItsWorkerAndReloads) {
  World world({"web"});
  world.start();
  add_echo(world);
  ::kill(world.worker_pid("web"), SIGKILL);
  EXPECT_TRUE(world.echo_works(world.host_socket("web", added)));
  EXPECT_EQ(world.tool("0", {"reload"}).code, 0);
  EXPECT_EQ(world.tool("web", {"reload"}).code, 0);
  EXPECT_TRUE(world.echo_works(world.host_socket("web", added)));
}

TEST(Hotplug, LinkLeadsToTheSocketAsLongAsThereIsOne) {
  World world({"web"});
  const std::string link = world.dir() + "/s/qemu-style.sock";
  write_file(world.host_config_path(),
             world.host_config() + channel("org.linked.echo", "listen", "",
                                           "link = \"" + world.dir() + "/s/qemu-style.sock\"\n"));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") +
                 channel("org.linked.echo", "dial", world.service_path("web", "echo")));
  world.start();
  EXPECT_TRUE(world.echo_works(link));
  EXPECT_EQ(world.tool("0", {"channel", "remove", "web", "org.linked.echo"}).code, 0);
  EXPECT_FALSE(fs::is_symlink(fs::symlink_status(link)));
}

}  // namespace
}  // namespace xenlane::tests

// Agents that know nothing of xenlane: Debian's qemu-ga, unmodified, on the tty of a PV channel or
// behind the guest's bridge, asked through the same named socket of the host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::HasSubstr;

constexpr const char* agent_channel = "org.qemu.guest_agent.0";
constexpr const char* qemu_ga = "/usr/sbin/qemu-ga";

/// A guest without a bridge that has a PV channel.
struct BareGuest {
  BareGuest(World& in, const std::string& channel_name) : world(in) {
    const Outcome created = world.xensim({"create", "bare", "--channel", channel_name});
    EXPECT_EQ(created.code, 0) << created.err;
    const json::object domain = world.domains().at("bare");
    for (const auto& item : domain.at("channels").as_array()) {
      if (item.at("name").as_string() == channel_name) tty = item.at("device").as_string().c_str();
    }
    EXPECT_FALSE(tty.empty());
  }
  bool has_tty_open() const {
    const json::object domain = world.domains().at("bare");
    for (const auto& item : domain.at("channels").as_array()) {
      if (item.at("guest_open").as_bool()) return true;
    }
    return false;
  }

  World& world;
  std::string tty;
};

std::string raw_section(const World& world, const std::string& name, const std::string& end) {
  return channel(name, end, "",
                 "console = \"" + world.dir() + "/x/channel/{guest}/" + name + "\"\n");
}

/// What the agent answers; tried until it is there, as everybody must who talks to qemu-ga.
std::string ask(const std::string& socket, const std::string& question) {
  std::string answer;
  eventually([&] {
    Client client(socket);
    if (!client.ok() || !client.send(question + "\n")) return false;
    answer.clear();
    for (;;) {
      const std::string byte = client.receive(1, Seconds(2 * slowness));
      if (byte.empty() || byte == "\n") break;
      answer += byte;
    }
    return answer.find("return") != std::string::npos;
  });
  return answer;
}

TEST(Raw, QemuGuestAgentOnThePvChannelAnswers) {
  if (::access(qemu_ga, X_OK) != 0) GTEST_SKIP() << "needs Debian's qemu-guest-agent";
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + raw_section(world, agent_channel, "raw"));
  BareGuest bare(world, agent_channel);
  world.start_host();
  Process agent({program("xensim"), "exec", "bare", "--", qemu_ga, "--method=isa-serial",
                 "--path=" + bare.tty, "--statedir=" + world.dir() + "/s",
                 "--pidfile=" + world.dir() + "/s/ga.pid"},
                {"/dev/null", world.dir() + "/log.agent", world.dir() + "/log.agent"});
  const std::string socket = world.host_socket("bare", agent_channel);
  const std::string answer = ask(socket, R"({"execute":"guest-info"})");
  EXPECT_THAT(answer, HasSubstr("supported_commands"));
  EXPECT_TRUE(json::parse(answer).at("return").is_object());
  const json::object status = world.bridge_status("0", "bare");
  EXPECT_THAT(json::serialize(status.at("channels")), HasSubstr(R"("end":"raw")"));
  agent.signal(SIGTERM);
  EXPECT_EQ(agent.wait(), 0);
}

TEST(Raw, QemuGuestAgentBehindTheBridgeAnswersByTheSameName) {
  if (::access(qemu_ga, X_OK) != 0) GTEST_SKIP() << "needs Debian's qemu-guest-agent";
  World world({"web"});
  const std::string agents_own = world.dir() + "/s/qga.sock";
  write_file(world.host_config_path(), world.host_config() + channel(agent_channel, "listen"));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel(agent_channel, "dial", agents_own));
  world.start();
  Process agent({program("xensim"), "exec", "web", "--", qemu_ga, "--method=unix-listen",
                 "--path=" + agents_own, "--statedir=" + world.dir() + "/s",
                 "--pidfile=" + world.dir() + "/s/ga.pid"},
                {"/dev/null", world.dir() + "/log.agent", world.dir() + "/log.agent"});
  const std::string answer =
      ask(world.host_socket("web", agent_channel), R"({"execute":"guest-info"})");
  EXPECT_THAT(answer, HasSubstr("supported_commands"));
  agent.signal(SIGTERM);
  EXPECT_EQ(agent.wait(), 0);
}

TEST(Raw, OneProgramAtATimeHasTheChannelAndTheNextWaits) {
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + raw_section(world, "org.raw.one", "raw"));
  BareGuest bare(world, "org.raw.one");
  world.start_host();
  Process cat({program("xensim"), "exec", "bare", "--", "sh", "-c",
               "stty raw -echo <" + bare.tty + "; exec cat <" + bare.tty + " >" + bare.tty},
              {});
  ASSERT_TRUE(eventually([&] { return bare.has_tty_open(); }));
  const std::string socket = world.host_socket("bare", "org.raw.one");
  ASSERT_TRUE(eventually([&] { return fs::exists(socket); }));
  Client first(socket);
  ASSERT_TRUE(first.send("one"));
  EXPECT_EQ(first.receive(3), "one");
  Client second(socket);
  ASSERT_TRUE(second.send("two"));
  EXPECT_EQ(second.receive(3, Seconds(1)), "") << "the first still has it";
  first.close();
  EXPECT_EQ(second.receive(3), "two");
}

TEST(Raw, ChannelThatIsNotThereIsARefusalWithItsPath) {
  World world({"web"});
  world.timeouts = "[timeouts]\nresume_ms = 1000\ndial_ms = 200\n";
  write_file(world.host_config_path(),
             world.host_config() + raw_section(world, "org.raw.none", "raw"));
  world.start_host();
  const std::string socket = world.host_socket("web", "org.raw.none");
  ASSERT_TRUE(eventually([&] { return fs::exists(socket); }));
  const Outcome outcome = world.tool("0", {"connect", "web/org.raw.none"});
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("channel/web/org.raw.none: No such file or directory"));
}

// The other way round: in the guest a bridge, on the host a plain program on QEMU's socket.
TEST(Raw, GuestsProgramReachesAPlainProgramOnQemusSocket) {
  World world({"web"});
  BareGuest bare(world, "org.raw.guest");
  const std::string config = world.dir() + "/bare.toml";
  write_file(config, "[console]\ndevice = \"none\"\n" +
                         channel("org.raw.guest", "raw", "", "console = \"" + bare.tty + "\"\n"));
  Process bridge(
      {program("xensim"), "exec", "bare", "--", program("xenlane-guest"), "--config", config},
      {"/dev/null", "/dev/null", world.dir() + "/log.bare"});
  const std::string socket = world.guest_socket("bare", "org.raw.guest");
  ASSERT_TRUE(eventually([&] { return fs::exists(socket); }));
  Client in_guest(socket);
  ASSERT_TRUE(in_guest.send("from the guest"));
  ASSERT_TRUE(eventually([&] { return bare.has_tty_open(); }));
  Client on_host(world.dir() + "/x/channel/bare/org.raw.guest");
  ASSERT_TRUE(on_host.send("from the host"));
  EXPECT_EQ(in_guest.receive(13), "from the host");
  EXPECT_EQ(on_host.receive(14), "from the guest");
  bridge.signal(SIGTERM);
  EXPECT_EQ(bridge.wait(), 0);
}

TEST(Raw, PortWithoutABridgeGoesToThePvChannelAndABridgeThatCameIsWaitedFor) {
  World world({"web"});
  write_file(world.host_config_path(),
             world.host_config() + raw_section(world, "org.raw.port", "port"));
  write_file(world.guest_config_path("web"),
             world.guest_config("web") + channel("org.raw.port", "port"));
  BareGuest bare(world, "org.raw.port");
  world.start();
  Process cat({program("xensim"), "exec", "bare", "--", "sh", "-c",
               "stty raw -echo <" + bare.tty + "; exec cat <" + bare.tty + " >" + bare.tty},
              {});
  ASSERT_TRUE(eventually([&] { return bare.has_tty_open(); }));
  // Nobody answers in that guest: after a while the channel does without.
  Client to_agent(world.host_socket("bare", "org.raw.port"));
  ASSERT_TRUE(to_agent.send("to the agent"));
  EXPECT_EQ(to_agent.receive(12, Seconds(30 * slowness)), "to the agent");
  // In the other a bridge has answered: the port is a port.
  Client host(world.host_socket("web", "org.raw.port"));
  Client guest(world.guest_socket("web", "org.raw.port"));
  ASSERT_TRUE(host.send("hello"));
  EXPECT_EQ(guest.receive(5), "hello");
}

}  // namespace
}  // namespace xenlane::tests

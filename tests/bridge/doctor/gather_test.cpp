// What the doctor sees: in a folder that stands for the system's, in a xenstored that is xensim's,
// and from daemons that say what the test wants.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include <algorithm>
#include <filesystem>

#include "bridge/channel/listener.hpp"
#include "bridge/doctor/examine.hpp"
#include "bridge/doctor/gather.hpp"
#include "bridge/doctor/gather_parts.hpp"
#include "tests/bridge/cli/fake_daemon.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/unix_sockets.hpp"
#include "tests/transport/xenstore_fixture.hpp"

namespace xenlane::bridge::doctor {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string kernel_release() {
  utsname kernel = {};
  ::uname(&kernel);
  return kernel.release;
}

/// A machine made of files. xenstored runs when start_xenstore() was called.
class DoctorGather : public ::testing::Test {
 protected:
  DoctorGather() : xenstored(dir.path()) {
    places.root = dir.path();
    places.run_dir = dir / "run";
    places.xenstore = dir / "no-xenstore";
    places.version = "1.2.3";
    fs::create_directory(places.run_dir);
  }

  void start_xenstore(Domid domid) {
    xenstored.start();
    places.xenstore = xenstored.path(domid);
  }
  void store(const std::string& path, const std::string& value) {
    xenstored.run([&](xensim::StoreServer& server) { server.write(path, value); });
  }
  void configure(const std::string& text) { places.config = dir.write("daemon.toml", text); }
  void install_modules(const std::string& loadable, const std::string& built_in) {
    const std::string folder = "lib/modules/" + kernel_release();
    dir.write(folder + "/modules.dep", loadable);
    dir.write(folder + "/modules.builtin", built_in);
  }
  Facts look(Side side) {
    places.side = side;
    return gather(places);
  }

  TempDir dir;
  transport::Xenstored xenstored;
  Places places;
};

TEST_F(DoctorGather, ModulesAreLoadedBuiltInInstalledOrNot) {
  install_modules("kernel/drivers/xen/xen-gntalloc.ko.xz:\n", "kernel/drivers/xen/xen-evtchn.ko\n");
  Facts facts = look(Side::guest);
  ASSERT_EQ(facts.devices.size(), 2U);
  EXPECT_EQ(facts.devices[0].module, "xen_evtchn");
  EXPECT_EQ(facts.devices[0].state, ModuleState::built_in);
  EXPECT_EQ(facts.devices[1].state, ModuleState::available);
  EXPECT_EQ(facts.devices[1].file.path, dir / "dev/xen/gntalloc");
  EXPECT_EQ(facts.devices[1].file.kind, FileKind::missing);
  dir.write("sys/module/xen_gntalloc/initstate", "live\n");
  dir.write("sys/module/xen_evtchn/parameters/x", "1\n");
  facts = look(Side::guest);
  EXPECT_EQ(facts.devices[0].state, ModuleState::built_in);
  EXPECT_EQ(facts.devices[1].state, ModuleState::loaded);
  EXPECT_EQ(look(Side::host).devices[1].state, ModuleState::absent);
}

TEST_F(DoctorGather, WithoutListsOfModulesTheirStateIsUnknown) {
  EXPECT_EQ(look(Side::host).devices[1].state, ModuleState::unknown);
}

TEST_F(DoctorGather, LimitsAreNumbersOrNotKnown) {
  dir.write("sys/module/xen_gntalloc/parameters/limit", "1024\n");
  dir.write("sys/module/xen_gntdev/parameters/limit", "many\n");
  const Facts facts = look(Side::guest);
  EXPECT_EQ(facts.gntalloc_limit, 1024U);
  EXPECT_EQ(facts.gntdev_limit, std::nullopt);
  EXPECT_GT(facts.kernel_major, 0U);
}

TEST_F(DoctorGather, TheSideIsWhatTheDaemonOrXenOrTheFilesSay) {
  places.side.reset();
  EXPECT_EQ(gather(places).side, Side::guest);
  dir.write("etc/xenlane/host.toml", "");
  EXPECT_EQ(gather(places).side, Side::host);
  dir.write("etc/xenlane/guest.toml", "");
  EXPECT_EQ(gather(places).side, Side::guest);
  {
    start_xenstore(0);
    EXPECT_EQ(gather(places).side, Side::host);
    places.xenstore = xenstored.path(5);
    EXPECT_EQ(gather(places).side, Side::guest);
  }
  dir.write("proc/xen/capabilities", "control_d\n");
  EXPECT_EQ(gather(places).side, Side::host);
  const FakeControl daemon(places.run_dir + "/control", {{"role", "guest"}});
  EXPECT_EQ(gather(places).side, Side::guest);
  places.side = Side::host;
  EXPECT_EQ(gather(places).side, Side::host);
}

TEST_F(DoctorGather, FilesOfTheConfigurationAreThoseThatWereRead) {
  configure("[daemon]\nrun_dir = \"/srv/x\"\n");
  dir.write("daemon.d/10-a.toml", "");
  ::chmod((dir / "daemon.d/10-a.toml").c_str(), 0666);
  const Facts facts = look(Side::guest);
  std::vector<std::string> paths;
  for (const FileFact& fact : facts.config_files) paths.push_back(fact.path);
  EXPECT_THAT(paths, ElementsAre(dir / "daemon.toml", dir.path(), dir / "daemon.d",
                                 dir / "daemon.d/10-a.toml"));
  EXPECT_EQ(facts.config_files[3].mode, 0666U);
  EXPECT_EQ(facts.config.config.run_dir, "/srv/x");
}

TEST_F(DoctorGather, SocketsOfADaemonThatIsGoneAreSeen) {
  fs::create_directory(places.run_dir + "/web");
  std::vector<ListenerSocket> left;
  for (const std::string name : {"control", "web/org.example.echo"}) {
    left.push_back(listen_unix(places.run_dir + '/' + name, 0600, static_cast<uid_t>(-1),
                               static_cast<gid_t>(-1), 1)
                       .value());
  }
  left.clear();  // the files stay, nobody listens
  const Facts facts = look(Side::host);
  EXPECT_EQ(facts.daemon.answer, DaemonFact::Answer::absent);
  EXPECT_EQ(facts.control.kind, FileKind::socket);
  EXPECT_THAT(facts.sockets, ElementsAre(places.run_dir + "/web/org.example.echo"));
}

TEST_F(DoctorGather, AGuestSeesItsKeysItsConsolesAndItsRoom) {
  start_xenstore(5);
  store("/local/domain/5/xenlane/host", "0");
  store("/local/domain/5/device/console/1/name", "org.example.agent");
  store("/local/domain/5/device/console/3/name", "org.xenlane.lane.0");
  places.dev_dir = dir / "dev";
  const Facts facts = look(Side::guest);
  EXPECT_EQ(facts.xenstore.error, 0);
  EXPECT_EQ(facts.xenstore.domid, Domid{5});
  EXPECT_EQ(facts.host_node.value, "0");
  EXPECT_EQ(facts.wanted_node.error, ENOENT);
  EXPECT_EQ(facts.xenstore.write_error, 0);
  EXPECT_EQ(facts.xenstore.watch_error, 0);
  EXPECT_EQ(facts.console.device.path, dir / "dev/hvc3");
  EXPECT_EQ(facts.console.device.kind, FileKind::missing);
  EXPECT_EQ(facts.console.link.path, dir / "dev/xen-channel/org.xenlane.lane.0");
}

TEST_F(DoctorGather, WhatIsTriedInXenstoreLeavesNothing) {
  start_xenstore(5);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(look(Side::guest).xenstore.write_error, 0);
  const auto left = xenstored.run([](xensim::StoreServer& server) {
    return server.read("/local/domain/5/data/xenlane-doctor");
  });
  EXPECT_EQ(left, std::nullopt);
}

TEST_F(DoctorGather, AXenstoreThatFallsSilentIsGivenUpAtTheDeadline) {
  start_xenstore(5);
  xenstored.run([](xensim::StoreServer& server) { server.set_mute(true); });
  const auto begin = std::chrono::steady_clock::now();
  const Facts facts = look(Side::guest);
  EXPECT_EQ(facts.xenstore.error, ETIMEDOUT);
  EXPECT_EQ(facts.xenstore.write_error, std::nullopt);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10 * xenstore_patience);
  xenstored.run([](xensim::StoreServer& server) { server.set_mute(false); });
}

class DoctorGatherHost : public DoctorGather {
 protected:
  void SetUp() override {
    start_xenstore(0);
    socket = dir / "five.sock";
    configure("[console]\nsocket = \"" + (dir / "{guest}.sock") + "\"\n");
    const std::string backend = "/local/domain/0/backend/console/5/";
    store(backend + "0/frontend-id", "5");
    store(backend + "1/name", "org.example.agent");
    store(backend + "1/path", "/run/agent.sock");
    store("/local/domain/5/vm", "/vm/" + uuid);
  }
  GuestFact five() {
    const Facts facts = look(Side::host);
    const auto found = std::ranges::find(facts.guests, "five", &GuestFact::name);
    return found == facts.guests.end() ? GuestFact{} : *found;
  }
  void record(const std::string& text) {
    dir.write("var/lib/xen/userdata-d.5." + uuid + ".libxl-json", text);
  }

  std::string socket;
  const std::string uuid = "5f3e8a0c-7b52-4e0f-9d0f-0123456789ab";
};

TEST_F(DoctorGatherHost, GuestsAndTheirChannelsAreFoundInXenstore) {
  store("/local/domain/5/xenlane/host", "0");
  const GuestFact guest = five();
  EXPECT_EQ(guest.domid, Domid{5});
  EXPECT_TRUE(guest.runs);
  EXPECT_TRUE(guest.matches);
  EXPECT_FALSE(guest.known);
  EXPECT_EQ(guest.host_node.value, "0");
  EXPECT_EQ(guest.console_socket.path, socket);
  EXPECT_EQ(guest.console_socket.kind, FileKind::missing);
  ASSERT_EQ(guest.consoles.size(), 1U);
  EXPECT_EQ(guest.consoles[0].name, "org.example.agent");
  EXPECT_EQ(guest.consoles[0].socket, "/run/agent.sock");
  EXPECT_EQ(guest.told_channels, std::nullopt);
}

TEST_F(DoctorGatherHost, WhatXlWasToldAndLostIsSeen) {
  // As libxl 4.17 writes it, with the string's end.
  record(R"({"c_info": {"type": "pv"}, "channels": [
      {"devid": 0, "name": "org.xenlane.lane.0", "connection.socket": {"path": "/run/x.sock"}},
      {"devid": 1, "name": "org.example.agent", "connection.pty": {}}]})" +
         std::string("\n\0", 2));
  EXPECT_THAT(*five().told_channels, ElementsAre("org.xenlane.lane.0", "org.example.agent"));
  const auto findings = examine(look(Side::host));
  const auto found = std::ranges::find(findings, check::console_channel, &Finding::id);
  ASSERT_NE(found, findings.end());
  EXPECT_THAT(found->problem, ::testing::HasSubstr("xl lost org.xenlane.lane.0"));
}

TEST_F(DoctorGatherHost, ARecordOfOtherShapeTellsNothing) {
  record("{");
  EXPECT_EQ(five().told_channels, std::nullopt);
  record(R"({"channels":{"name":"x"}})");
  EXPECT_THAT(*five().told_channels, IsEmpty());
  record(R"({"channels":[7,{"name":7}]})");
  EXPECT_THAT(*five().told_channels, ElementsAre("", ""));
}

TEST_F(DoctorGatherHost, AUuidThatLeadsElsewhereIsNotFollowed) {
  record(R"({"channels":[]})");
  store("/local/domain/5/vm", "/vm/../" + uuid + "/..");
  EXPECT_EQ(five().told_channels, std::nullopt);
}

TEST_F(DoctorGatherHost, ConnectionsToTheSocketAreCountedByTheirState) {
  EXPECT_EQ(five().console_taken, std::nullopt);
  const std::string head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  dir.write("proc/net/unix", head + "0: 00000002 00000000 00010000 0001 01 11 " + socket + "\n" +
                                 "0: 00000003 00000000 00000000 0001 03 12 " + socket + "\n" +
                                 "0: 00000003 00000000 00000000 0001 02 0 " + socket + "\n" +
                                 "0: 00000003 00000000 00000000 0001 03 13 /x" + socket + "\n" +
                                 "0: 00000003 00000000 00000000 0001 03 14\n");
  const GuestFact guest = five();
  EXPECT_EQ(guest.console_taken, 1U);
  EXPECT_EQ(guest.console_waiting, 1U);
}

TEST_F(DoctorGatherHost, TheKernelListsConnectionsAsTheyAreReadHere) {
  fs::create_directories(dir / "proc");
  fs::create_symlink("/proc/net", dir / "proc/net");
  const auto listener = tests::listen_at(socket);
  const auto first = tests::connect_to(socket);
  const auto taken = tests::accept_at(listener);
  const auto second = tests::connect_to(socket);
  const GuestFact guest = five();
  EXPECT_EQ(guest.console_taken, 1U);
  EXPECT_EQ(guest.console_waiting, 1U);
}

TEST_F(DoctorGatherHost, OnlyTheGuestThatIsAskedAboutIsLookedAt) {
  places.guest = "5";
  EXPECT_EQ(five().name, "five");
  places.guest = "six";
  EXPECT_THAT(look(Side::host).guests, IsEmpty());
}

TEST_F(DoctorGatherHost, TheBrokersGuestsAndTheirWorkersAreAsked) {
  fs::create_directory(places.run_dir + "/five");
  json::object status = bridge_status("worker", "five", {channel_entry("org.example.echo", "/x")});
  status["session"] = {{"state", "up"}, {"protocol_version", 2}, {"peer_version", 3}};
  status["console"] = {{"open", true}};
  json::object& channel = status["channels"].as_array()[0].as_object();
  channel["refused"] = 4;
  channel["last_refusal"] = {{"message", "nobody listens"}, {"age_s", 9}};
  const FakeControl worker(places.run_dir + "/five/control", status);
  const FakeControl broker(
      places.run_dir + "/control",
      {{"role", "broker"},
       {"version", "1.2.3"},
       {"guests",
        json::array{{{"name", "five"}, {"domid", 5}, {"state", "serving"}, {"worker_restarts", 2}},
                    {{"name", "gone"}, {"domid", 6}, {"state", "waiting"}}}}});
  const Facts facts = look(Side::host);
  ASSERT_EQ(facts.guests.size(), 2U);
  const GuestFact& guest = facts.guests[0];
  EXPECT_TRUE(guest.known && guest.runs && guest.matches);
  EXPECT_EQ(guest.worker_restarts, 2U);
  ASSERT_TRUE(guest.bridge);
  EXPECT_EQ(guest.bridge->protocol_version, 2U);
  EXPECT_EQ(guest.bridge->peer_version, 3U);
  EXPECT_EQ(guest.bridge->ring_bytes, 262144U);
  EXPECT_TRUE(guest.bridge->console_open);
  ASSERT_EQ(guest.bridge->channels.size(), 1U);
  EXPECT_EQ(guest.bridge->channels[0].refused, 4U);
  EXPECT_EQ(guest.bridge->channels[0].last_refused_s, 9U);
  EXPECT_FALSE(facts.guests[1].runs);
  EXPECT_EQ(facts.guests[1].worker.answer, DaemonFact::Answer::absent);
}

TEST(DoctorReply, MembersOfOtherTypesAreAsIfTheyWereNotThere) {
  const BridgeFact fact = bridge_from({{"session", 7},
                                       {"lane", {{"kind", "vchan"}, {"send_ring_bytes", "x"}}},
                                       {"console", {{"open", "yes"}}},
                                       {"channels", json::array{1, {{"name", 2}}}}});
  EXPECT_EQ(fact.session_state, "");
  EXPECT_EQ(fact.protocol_version, std::nullopt);
  EXPECT_EQ(fact.ring_bytes, 0U);
  EXPECT_FALSE(fact.console_open);
  EXPECT_EQ(fact.channels.size(), 1U);
}

/// A terminal that nobody uses, by its path.
class Terminal {
 public:
  Terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    ::grantpt(master_.get());
    ::unlockpt(master_.get());
    char name[64] = {};
    ::ptsname_r(master_.get(), name, sizeof name);
    path = name;
  }
  /// As /proc/PID/stat writes it.
  std::string number() const {
    struct stat found = {};
    ::stat(path.c_str(), &found);
    const unsigned major_part = major(found.st_rdev) << 8;
    const unsigned minor_part = minor(found.st_rdev);
    return std::to_string((minor_part & 0xFF) | major_part | ((minor_part & ~0xFFU) << 12));
  }

  std::string path;

 private:
  transport::UniqueFd master_;
};

TEST_F(DoctorGather, WhoHasTheConsoleOpenIsSeenByItsFilesAndItsTerminal) {
  const Terminal terminal;
  configure("[console]\ndevice = \"" + terminal.path + "\"\n");
  dir.write("proc/77/stat", "77 (a) b) S 1 77 77 " + terminal.number() + " -1 0\n");
  dir.write("proc/77/comm", "agetty\n");
  dir.write("proc/78/stat", "78 (cat) S 1 78 78 0 -1 0\n");
  dir.write("proc/78/comm", "cat\n");
  fs::create_directory(dir / "proc/78/fd");
  fs::create_symlink(terminal.path, dir / "proc/78/fd/3");
  dir.write("proc/79/stat", "79 (sh) S 1 79 79 1025 -1 0\n");
  dir.write("proc/42/stat", "42 (xenlane-guest) S 1 42 42 " + terminal.number() + " -1 0\n");
  dir.write("proc/42/comm", "xenlane-guest\n");
  dir.write("proc/self/stat", "junk");
  EXPECT_EQ(look(Side::guest).console.readers.size(), 2U) << "a daemon that does not answer";
  const FakeControl daemon(places.run_dir + "/control", {{"role", "guest"}, {"pid", 42}});
  Facts facts = look(Side::guest);
  std::ranges::sort(facts.console.readers, {}, &Reader::pid);
  ASSERT_EQ(facts.console.readers.size(), 2U);
  EXPECT_EQ(facts.console.readers[0].name, "agetty");
  EXPECT_EQ(facts.console.readers[1].pid, 78);
  EXPECT_TRUE(facts.console.readers_seen);
  EXPECT_EQ(facts.console.device.kind, FileKind::device);
}

}  // namespace
}  // namespace xenlane::bridge::doctor

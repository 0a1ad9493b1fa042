// xen-console-setup, the program, under a sysfs and a /dev of the test's own and a real xenstore
// protocol: what an agent that watches the folder sees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "bridge/cli/exit_codes.hpp"
#include "guest/channels/folders.hpp"
#include "tests/e2e/process.hpp"
#include "tests/support/fake_xenstored.hpp"
#include "tests/xensim/store/running_server.hpp"

namespace xenlane::guest {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using tests::Outcome;
using tests::Process;
using tests::write_file;

const std::string program = XENLANE_PROGRAMS "/xen-console-setup";

/// What happens in a folder from now on: "created NAME", "moved in NAME", "deleted NAME".
class Watch {
 public:
  explicit Watch(const fs::path& folder) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    EXPECT_GE(::inotify_add_watch(fd_.get(), folder.c_str(), IN_ALL_EVENTS & ~quiet), 0);
  }
  std::vector<std::string> events() {
    std::vector<std::string> lines;
    alignas(inotify_event) std::array<char, 4096> buffer;
    for (;;) {
      const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
      if (got <= 0) return lines;
      for (ssize_t at = 0; at < got;) {
        const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
        lines.push_back(word_for(event->mask) + " " + event->name);
        at += static_cast<ssize_t>(sizeof *event + event->len);
      }
    }
  }

 private:
  /// To look at the folder is no change of it.
  static constexpr std::uint32_t quiet = IN_OPEN | IN_CLOSE_NOWRITE | IN_ACCESS | IN_ATTRIB;
  static std::string word_for(std::uint32_t mask) {
    if ((mask & IN_CREATE) != 0) return "created";
    if ((mask & IN_MOVED_TO) != 0) return "moved in";
    if ((mask & IN_DELETE) != 0) return "deleted";
    return "event " + std::to_string(mask);
  }
  transport::UniqueFd fd_;
};

class ConsoleSetup : public xensim::test::RunningServer {
 protected:
  void SetUp() override {
    RunningServer::SetUp();
    auto name = (fs::temp_directory_path() / "console-setup-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root = name;
    fs::create_directories(root / "sys/bus/xen/devices");
    fs::create_directories(root / "dev/xen-channel");
    for (int tty = 0; tty <= 7; ++tty) write_file(root / "dev" / ("hvc" + std::to_string(tty)), "");
    ::setenv("XENSTORED_PATH", socket_path(5).c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("XENSTORED_PATH");
    fs::remove_all(root);
    RunningServer::TearDown();
  }

  void plug(int number, const std::string& channel, const std::string& state = "Connected") {
    const std::string node = "/local/domain/5/device/console/" + std::to_string(number);
    on_server([&] {
      if (!channel.empty()) server->write(node + "/name", channel);
    });
    if (!fs::exists(device(number))) make_device(number);
    write_file(device(number) / "state", state + "\n");
  }
  void unplug(int number) { fs::remove_all(device(number)); }

  std::vector<std::string> command(std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {program,      "--dev",   root / "dev",  "--sys",
                                      root / "sys", "--state", root / "state"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Outcome run(std::vector<std::string> more = {}) const {
    return tests::run_program(command(std::move(more)), root);
  }
  /// "NAME -> hvcN" for each link.
  std::vector<std::string> links() const {
    std::vector<std::string> lines;
    for (const auto& entry : fs::directory_iterator(root / "dev/xen-channel")) {
      const fs::path target = fs::read_symlink(entry.path());
      EXPECT_EQ(target.parent_path(), root / "dev");
      lines.push_back(entry.path().filename().string() + " -> " + target.filename().string());
    }
    std::ranges::sort(lines);
    return lines;
  }
  bool marked(int tty) const { return fs::exists(root / "state" / ("hvc" + std::to_string(tty))); }

  fs::path root;

 private:
  fs::path device(int number) const {
    return root / "sys/bus/xen/devices" / ("console-" + std::to_string(number));
  }
  /// With a greater inode than all before it, as in sysfs; other file systems need to be persuaded.
  void make_device(int number) {
    for (int spare = 0;; ++spare) {
      const fs::path folder = root / ("spare-" + std::to_string(number) + "-" +
                                      std::to_string(last_inode_) + "-" + std::to_string(spare));
      fs::create_directory(folder);
      struct stat status {};
      ASSERT_EQ(::stat(folder.c_str(), &status), 0);
      if (status.st_ino <= last_inode_) continue;
      last_inode_ = status.st_ino;
      fs::rename(folder, device(number));
      return;
    }
  }
  ino_t last_inode_ = 0;
};

TEST_F(ConsoleSetup, AnAgentSeesOneEventAndTheFinishedLink) {
  plug(1, "org.example.agent");
  Watch watch(root / "dev/xen-channel");
  const Outcome outcome = run();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(watch.events(), ElementsAre("created org.example.agent"));
  EXPECT_THAT(links(), ElementsAre("org.example.agent -> hvc1"));
  EXPECT_THAT(outcome.err, HasSubstr("xen-channel/org.example.agent is "));

  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(watch.events(), IsEmpty()) << "a second run has nothing to do";
}

TEST_F(ConsoleSetup, UdevIsToldOfTheConsoleItAsksFor) {
  plug(1, "org.example.a");
  plug(2, "org.example.b");
  plug(3, "");
  EXPECT_EQ(run({"--udev", "console-2"}).out,
            "XEN_CHANNEL_NAME=org.example.b\nXEN_CHANNEL_TTY=" + (root / "dev/hvc2\n").string());
  EXPECT_EQ(run({"--udev", "console-3"}).out, "");
  EXPECT_EQ(run({"--udev", "console-7"}).out, "");
  EXPECT_EQ(run({"--udev", "console-0"}).code, bridge::exit_usage);
  EXPECT_EQ(run({"--udev", "hvc1\nX=1"}).code, bridge::exit_usage);
  EXPECT_EQ(run({"--frobnicate"}).code, bridge::exit_usage);
}

TEST_F(ConsoleSetup, UnplugRemovesTheLinkAndTheMark) {
  plug(1, "org.example.a");
  plug(2, "org.example.b");
  EXPECT_EQ(run().code, 0);
  EXPECT_TRUE(marked(1) && marked(2));
  Watch watch(root / "dev/xen-channel");
  unplug(1);
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(watch.events(), ElementsAre("deleted org.example.a"));
  EXPECT_THAT(links(), ElementsAre("org.example.b -> hvc2"));
  EXPECT_FALSE(marked(1));
  EXPECT_TRUE(marked(2));
}

TEST_F(ConsoleSetup, ALinkThatPointsElsewhereIsNotRemoved) {
  plug(1, "org.example.a");
  EXPECT_EQ(run().code, 0);
  fs::remove(root / "dev/xen-channel/org.example.a");
  fs::create_symlink(root / "dev/hvc5", root / "dev/xen-channel/org.example.a");
  unplug(1);
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc5"));
}

TEST_F(ConsoleSetup, AWrongLinkIsReplacedInOneStep) {
  fs::create_symlink(root / "dev/hvc5", root / "dev/xen-channel/org.example.a");
  plug(1, "org.example.a");
  Watch watch(root / "dev/xen-channel");
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(watch.events(), ElementsAre("moved in org.example.a"));
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc1"));
}

TEST_F(ConsoleSetup, WhatIsNoLinkIsLeftAlone) {
  write_file(root / "dev/xen-channel/org.example.a", "mine");
  plug(1, "org.example.a");
  const Outcome outcome = run();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("is no symbolic link; remove it"));
  EXPECT_EQ(tests::read_file(root / "dev/xen-channel/org.example.a"), "mine");
}

TEST_F(ConsoleSetup, TheTtyOfAnUnpluggedConsoleGoesToTheNextOne) {
  plug(1, "org.example.a");
  plug(2, "org.example.b");
  EXPECT_EQ(run().code, 0);
  unplug(1);
  EXPECT_EQ(run().code, 0);
  plug(3, "org.example.c");
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.b -> hvc2", "org.example.c -> hvc1"));
}

TEST_F(ConsoleSetup, AfterAResumeLinksFollowTheConsolesThatMoved) {
  const std::string domid = "/local/domain/5/domid";
  on_server([&] { server->write(domid, "5"); });
  plug(1, "org.example.a");
  plug(2, "org.example.b");
  EXPECT_EQ(run().code, 0);
  unplug(1);
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.b -> hvc2"));
  on_server([&] { server->write(domid, "9"); });
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.b -> hvc1"));
  EXPECT_TRUE(marked(1));
  EXPECT_FALSE(marked(2));
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.b -> hvc1"));
}

TEST_F(ConsoleSetup, WhoKnowsTheNumberOnlyGoesByTheLinkWhereThereIsOne) {
  Folders folders;
  folders.dev = root / "dev";
  EXPECT_EQ(tty_of_channel(folders, "org.example.c", 3), root / "dev/hvc3");
  plug(3, "org.example.c");
  EXPECT_EQ(run().code, 0);
  EXPECT_EQ(fs::canonical(tty_of_channel(folders, "org.example.c", 3)), root / "dev/hvc1");
}

TEST_F(ConsoleSetup, BadNamesAndTheKernelsConsoleGetNoLink) {
  plug(0, "org.example.console");
  plug(1, "../../etc/passwd");
  plug(2, "a\nSYSTEMD_WANTS=evil.service");
  plug(3, std::string(64, 'x'));
  plug(4, "org.example.good");
  const Outcome outcome = run({"--udev", "console-2"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(links(), ElementsAre("org.example.good -> hvc4"));
  EXPECT_THAT(outcome.err, HasSubstr("console 1: the name ../../etc/passwd: '.' may not come"));
  EXPECT_THAT(outcome.err, HasSubstr("console 2: the name a\\x0aSYSTEMD_WANTS=evil.service: "));
  EXPECT_FALSE(marked(1)) << "a getty may have what is no channel";
  EXPECT_THAT(run().err, testing::Not(HasSubstr("passwd"))) << "it was said once";
}

TEST_F(ConsoleSetup, OfTwoWithOneNameTheFirstWins) {
  plug(1, "org.example.a");
  EXPECT_EQ(run().code, 0);
  plug(2, "org.example.a");
  EXPECT_THAT(run().err, HasSubstr("console 2: the name org.example.a is taken by console 1"));
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc1"));
  Watch watch(root / "dev/xen-channel");
  unplug(1);
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(watch.events(), ElementsAre("moved in org.example.a"));
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc2"));
}

TEST_F(ConsoleSetup, AConsoleWithoutATtyYetOrAnyMoreHasNoLink) {
  plug(1, "org.example.a", "Initialising");
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), IsEmpty());
  plug(1, "org.example.a", "Initialised");
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc1"));
  plug(1, "org.example.a", "Closing");
  EXPECT_EQ(run().code, 0);
  EXPECT_THAT(links(), IsEmpty());
}

TEST_F(ConsoleSetup, MoreConsolesThanTtysAreToldOf) {
  for (int number = 1; number <= 8; ++number) plug(number, "org.n" + std::to_string(number));
  const Outcome outcome = run();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(links().size(), 7U);
  EXPECT_THAT(outcome.err, HasSubstr("console 8: there is no"));
}

TEST_F(ConsoleSetup, ManyAtOnceMakeEachLinkOnce) {
  Watch watch(root / "dev/xen-channel");
  for (int number = 1; number <= 4; ++number) plug(number, "org.n" + std::to_string(number));
  std::vector<Process> all;
  for (int i = 0; i < 8; ++i) all.emplace_back(command(), Process::Files{});
  for (Process& each : all) EXPECT_EQ(each.wait(), 0);
  EXPECT_THAT(watch.events(),
              ElementsAre("created org.n1", "created org.n2", "created org.n3", "created org.n4"));
  EXPECT_THAT(links(),
              ElementsAre("org.n1 -> hvc1", "org.n2 -> hvc2", "org.n3 -> hvc3", "org.n4 -> hvc4"));
}

TEST_F(ConsoleSetup, ADamagedFileOfTheLastRunIsToldOfAndReplaced) {
  plug(1, "org.example.a");
  EXPECT_EQ(run().code, 0);
  write_file(root / "state/consoles", "1 10 1 ../x\n");
  EXPECT_THAT(run().err, HasSubstr("console 1 is damaged"));
  EXPECT_THAT(links(), ElementsAre("org.example.a -> hvc1"));
  EXPECT_THAT(run().err, IsEmpty());
}

TEST_F(ConsoleSetup, WithoutXenOnlyAConsoleWouldNeedXenstore) {
  ::setenv("XENSTORED_PATH", (root / "nowhere").c_str(), 1);
  EXPECT_EQ(run().code, 0);
  plug(1, "org.example.a");
  const Outcome outcome = run();
  EXPECT_EQ(outcome.code, bridge::exit_no_xen);
  EXPECT_THAT(outcome.err, HasSubstr("nowhere: No such file or directory; run this as root"));
  EXPECT_THAT(links(), IsEmpty());
}

TEST_F(ConsoleSetup, AXenstoreThatDoesNotAnswerIsGivenUp) {
  transport::FakeXenstored mute(root / "mute", [](const auto&, const auto&) { return ""; });
  ::setenv("XENSTORED_PATH", (root / "mute").c_str(), 1);
  plug(1, "org.example.a");
  EXPECT_EQ(run().code, bridge::exit_broken);
  EXPECT_THAT(links(), IsEmpty());
}

}  // namespace
}  // namespace xenlane::guest

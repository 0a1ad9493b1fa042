// The xensim program: verbs, exit codes, error lines, and that it leaves nothing behind.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/xensim/hypervisor/simulator.hpp"

extern "C" {
#include <xenstore.h>
}

namespace xensim_test {
namespace {

namespace fs = std::filesystem;

/// An empty folder that goes away.
struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "xensim-test-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
  std::string path;
};

/// A killed process that nobody has waited for yet has a number but no command line.
bool is_running(pid_t pid) {
  std::ifstream command_line("/proc/" + std::to_string(pid) + "/cmdline");
  return command_line.peek() != std::ifstream::traits_type::eof();
}

Outcome xensim(const std::string& arguments) {
  return shell(XENSIM_PROGRAM " " + arguments);
}

TEST(Run, ExitsAsItsCommandDoes) {
  EXPECT_EQ(xensim("run -- true").code, 0);
  EXPECT_EQ(xensim("run -- sh -c 'exit 7'").code, 7);
  EXPECT_EQ(xensim("run -- sh -c 'kill -9 $$'").code, 128 + SIGKILL);
}

TEST(Run, CommandNotFoundIs127) {
  const Outcome outcome = xensim("run -- /no/such/program");
  EXPECT_EQ(outcome.code, 127);
  EXPECT_NE(outcome.output.find("/no/such/program"), std::string::npos);
}

TEST(Run, LeavesNeitherFoldersNorProcesses) {
  const Folder tmp;
  const Outcome outcome =
      shell("TMPDIR=" + tmp.path +
            " " XENSIM_PROGRAM " run --guest a -- sh -c 'echo $XENSIM_DIR; " XENSIM_PROGRAM
            " exec a -- sh -c \"setsid sleep 1000 >/dev/null 2>&1 & echo \\$!\"'");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_TRUE(fs::is_empty(tmp.path)) << outcome.output;
  const pid_t sleeper = std::stoi(outcome.output.substr(outcome.output.find('\n') + 1));
  EXPECT_FALSE(is_running(sleeper)) << "a process of the guest is still there";
}

TEST(Run, ThatCannotStartLeavesNoFolder) {
  const Folder tmp;
  const std::string run = "TMPDIR=" + tmp.path + " " XENSIM_PROGRAM " run --guest a ";
  EXPECT_EQ(shell(run + "--channel b:x -- true").code, 125) << "no such guest";
  EXPECT_EQ(shell(run + "--guest a -- true").code, 125) << "a name twice";
  EXPECT_TRUE(fs::is_empty(tmp.path));
}

/// Starts `run` with a command that says when it is there and then waits to be killed.
pid_t start_run(const std::string& dir) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    const std::string command = "echo $$ > " + dir + "/started; exec sleep 1000";
    ::execl(XENSIM_PROGRAM, "xensim", "run", "--dir", (dir + "/x").c_str(), "--", "sh", "-c",
            command.c_str(), nullptr);
    ::_exit(1);
  }
  EXPECT_TRUE(eventually([&] { return fs::exists(dir + "/started"); }));
  return pid;
}

TEST(Run, StoppedBySigtermTearsEverythingDown) {
  const Folder folder;
  const pid_t run = start_run(folder.path);
  ::kill(run, SIGTERM);
  int status = 0;
  ::waitpid(run, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 128 + SIGTERM);
  EXPECT_FALSE(fs::exists(folder.path + "/x/control"));
}

TEST(Run, KilledOutrightIsCleanedUpAfter) {
  const Folder folder;
  const pid_t run = start_run(folder.path);
  pid_t command = 0;
  ASSERT_TRUE(eventually(
      [&] { return static_cast<bool>(std::ifstream(folder.path + "/started") >> command); }));
  ::kill(run, SIGKILL);
  ::waitpid(run, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return !fs::exists(folder.path + "/x/broker.pid"); }));
  EXPECT_FALSE(fs::exists(folder.path + "/x/control"));
  EXPECT_FALSE(is_running(command));
}

TEST(Up, ASecondOneInTheSameFolderIsRefused) {
  const Simulator sim("--guest a");
  const Outcome outcome = sim.xensim("up --dir " + sim.dir());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.output.find("in use by another xensim"), std::string::npos);
  EXPECT_EQ(sim.listed_name(1), "a") << "the first one goes on";
}

TEST(Up, AFolderTooLongForSocketAddressesIsRefusedWithTheReason) {
  const Outcome outcome = xensim("up --dir /tmp/" + std::string(100, 'x'));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.output.find("choose a shorter --dir"), std::string::npos);
}

TEST(Up, GuestNamesAreChecked) {
  const Folder folder;
  const std::string up = "up --dir " + folder.path + "/x --guest ";
  EXPECT_EQ(xensim(up + "a/b").code, 2);
  EXPECT_EQ(xensim(up + "12").code, 2);
  EXPECT_EQ(xensim(up + "a:0").code, 2);
  EXPECT_EQ(xensim(up + "a:32752").code, 2);
  EXPECT_EQ(xensim(up + "a --guest a").code, 1) << "a name twice";
}

TEST(Verbs, WithoutABrokerTheySayHowToStartOne) {
  const Folder folder;
  const Outcome outcome = xensim("list --dir " + folder.path);
  EXPECT_EQ(outcome.code, 3);
  EXPECT_NE(outcome.output.find("xensim up --dir " + folder.path), std::string::npos);
}

TEST(Verbs, HelpHasExamples) {
  for (const std::string verb : {"run", "up", "down", "exec", "list", "create", "destroy", "set"}) {
    const Outcome outcome = xensim(verb + " --help");
    EXPECT_EQ(outcome.code, 0);
    EXPECT_NE(outcome.output.find("xensim " + verb), std::string::npos) << outcome.output;
  }
  EXPECT_EQ(xensim("no-such-verb").code, 2);
}

TEST(Exec, SetsTheEnvironmentOfTheDomain) {
  const Simulator sim("--guest a:9");
  const std::string dir = sim.dir() + "/dom/9";
  EXPECT_EQ(sim.xensim("exec a -- sh -c 'echo $XENSIM_DOMAIN $XENSTORED_PATH $XENSIM_HV"
                       " $XENLANE_RUN_DIR $XENLANE_DEV_DIR'")
                .output,
            "9 " + dir + "/xenstored " + dir + "/hv " + dir + "/run " + dir + "/dev\n");
  EXPECT_EQ(sim.xensim("exec 9 -- sh -c 'exit 5'").code, 5);
  EXPECT_EQ(sim.xensim("exec a -- /no/such/program").code, 127);
  EXPECT_EQ(sim.xensim("exec b -- true").code, 125);
}

TEST(Exec, XenstoreToolsOfTheDistributionWork) {
  const Simulator sim("--guest a");
  EXPECT_EQ(sim.xensim("exec a -- xenstore-write data/key value").code, 0);
  EXPECT_EQ(sim.xensim("exec 0 -- xenstore-read /local/domain/1/data/key").output, "value\n");
  EXPECT_EQ(sim.xensim("exec a -- xenstore-ls data").output, "key = \"value\"\n");
  EXPECT_EQ(sim.xensim("exec a -- xenstore-read domid").output, "1\n");
  const Outcome refused = sim.xensim("exec a -- xenstore-write /tool/x 1");
  EXPECT_NE(refused.code, 0) << "a guest writes only where it may";
  EXPECT_NE(sim.xensim("exec 0 -- xenstore-read /tool/x").code, 0);
}

TEST(Exec, AGuestWriteOutsideItsNodesIsRefusedWithEacces) {
  const Simulator sim("--guest a");
  ::setenv("XENSTORED_PATH", (sim.dir() + "/dom/1/xenstored").c_str(), 1);
  xs_handle* store = xs_open(0);
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(xs_write(store, XBT_NULL, "data/key", "v", 1));
  for (const char* path : {"/tool/x", "/local/domain/0/x", "/local/domain/1/name"}) {
    errno = 0;
    EXPECT_FALSE(xs_write(store, XBT_NULL, path, "v", 1)) << path;
    EXPECT_EQ(errno, EACCES) << path;
  }
  xs_close(store);
}

}  // namespace
}  // namespace xensim_test

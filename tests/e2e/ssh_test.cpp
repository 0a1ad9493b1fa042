// ssh, scp and rsync as they come from Debian, through the connect socket to an sshd that is
// started in the guest for each connection. Neither side has a network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;

constexpr const char* sshd = "/usr/sbin/sshd";

/// Keys and configurations for this test alone.
class Ssh : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, as sshd does";
    if (!fs::exists(sshd) || !fs::exists("/usr/bin/rsync")) {
      GTEST_SKIP() << "needs Debian's openssh-server and rsync";
    }
    fs::create_directories("/run/sshd");  // as its service does
    world_.emplace(std::vector<std::string>{"web"});
    dir_ = world_->dir() + "/ssh";
    fs::create_directory(dir_);
    ::chmod(dir_.c_str(), 0700);
    for (const char* name : {"host_key", "user_key"}) {
      const Outcome made = run_program(
          {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir_ + "/" + name}, dir_);
      ASSERT_EQ(made.code, 0) << made.err;
    }
    fs::copy_file(dir_ + "/user_key.pub", dir_ + "/authorized");
    write_file(dir_ + "/known", "web " + read_file(dir_ + "/host_key.pub"));
    write_file(dir_ + "/sshd_config", "HostKey " + dir_ + "/host_key\nAuthorizedKeysFile " + dir_ +
                                          "/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"
                                          "PermitRootLogin yes\nSubsystem sftp internal-sftp\n");
    write_file(dir_ + "/ssh_config",
               "Host web\n  User root\n  IdentityFile " + dir_ + "/user_key\n" +
                   "  IdentitiesOnly yes\n  UserKnownHostsFile " + dir_ + "/known\n" +
                   "  StrictHostKeyChecking yes\n  BatchMode yes\n  ProxyCommand " +
                   proxy_command() + "\n");
    write_file(world_->host_config_path(), world_->host_config() +
                                               channel("org.test.ssh", "listen") +
                                               "[connect]\n22 = \"org.test.ssh\"\n");
    write_file(world_->guest_config_path("web"),
               world_->guest_config("web") + channel("org.test.ssh", "dial", "",
                                                     std::string("target = \"exec:") + sshd +
                                                         " -i -f " + dir_ + "/sshd_config\"\n"));
    world_->start();
  }

  /// As docs/cli.md shows it.
  std::string proxy_command() {
    return "sh -c '{ echo CONNECT 22; cat; } | socat -t 60 - UNIX-CONNECT:" +
           world_->host_socket("web", "connect") + " | { read -r ok && cat; }'";
  }
  Outcome run(const std::vector<std::string>& command) {
    return run_program(command, world_->dir());
  }
  std::string make_file(std::uint64_t bytes) {
    Pattern pattern(11);
    std::string content(bytes, '\0');
    pattern.fill(content);
    const std::string path = world_->dir() + "/sent";
    write_file(path, content);
    return path;
  }

  std::optional<World> world_;
  std::string dir_;
};

TEST_F(Ssh, CommandRunsInTheGuestAndTellsItsExitCode) {
  const Outcome outcome =
      run({"ssh", "-F", dir_ + "/ssh_config", "web", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(outcome.code, 7) << outcome.err << world_->log("web");
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("err\n"));
}

TEST_F(Ssh, CopyOf64MiBArrivesIntact) {
  const std::string sent = make_file(64 * mebibyte);
  const std::string got = world_->dir() + "/got";
  const Outcome outcome = run({"scp", "-q", "-F", dir_ + "/ssh_config", sent, "web:" + got});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(read_file(got) == read_file(sent));
  const Outcome back = run({"scp", "-q", "-F", dir_ + "/ssh_config", "web:" + got, got + ".back"});
  EXPECT_EQ(back.code, 0) << back.err;
  EXPECT_TRUE(read_file(got + ".back") == read_file(sent));
}

TEST_F(Ssh, RsyncKeepsAFolderTheSame) {
  const std::string from = world_->dir() + "/from";
  fs::create_directories(from + "/below");
  make_file(3 * mebibyte);
  fs::rename(world_->dir() + "/sent", from + "/below/big");
  write_file(from + "/small", "small");
  const std::string to = world_->dir() + "/to";
  const std::vector<std::string> command{
      "rsync", "-a", "--delete", "-e", "ssh -F " + dir_ + "/ssh_config", from + "/", "web:" + to};
  ASSERT_EQ(run(command).code, 0);
  EXPECT_TRUE(read_file(to + "/below/big") == read_file(from + "/below/big"));
  fs::remove(from + "/small");
  write_file(from + "/other", "other");
  const Outcome again = run(command);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(read_file(to + "/other"), "other");
  EXPECT_FALSE(fs::exists(to + "/small"));
}

}  // namespace
}  // namespace xenlane::tests

// What may be said to the connect socket, and who is let in.
#include "bridge/channel/connect_request.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/channel/access.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::HasSubstr;

TEST(ConnectRequest, TakesNamesAndTheNumbersThatAreMapped) {
  const ConnectNumbers numbers{{22, *ChannelName::parse("org.example.ssh")}};
  const auto by_name = parse_connect_request("CONNECT org.example.ssh", numbers);
  ASSERT_TRUE(by_name.has_value());
  EXPECT_EQ(by_name->channel.text(), "org.example.ssh");
  EXPECT_EQ(by_name->asked, "org.example.ssh");
  const auto by_number = parse_connect_request("CONNECT 22", numbers);
  ASSERT_TRUE(by_number.has_value());
  EXPECT_EQ(by_number->channel.text(), "org.example.ssh");
  EXPECT_EQ(by_number->asked, "22");
}

TEST(ConnectRequest, EverythingElseIsRefusedWithItsReason) {
  const std::pair<const char*, const char*> table[] = {
      {"", "is not \"CONNECT NAME\""},
      {"CONNECT", "is not \"CONNECT NAME\""},
      {"connect a.b", "is not \"CONNECT NAME\""},
      {"CONNECT\ta.b", "'CONNECT\\x09a.b' is not"},
      {"CONNECT ", "the name is empty"},
      {"CONNECT  a.b", "' ' at byte 1"},
      {"CONNECT a.b c", "' ' at byte 4"},
      {"CONNECT a/b", "'/' at byte 2"},
      {"CONNECT 23", "no channel has number 23"},
      {"CONNECT -22", "'-' may not come first"},
  };
  for (const auto& [line, reason] : table) {
    const auto request = parse_connect_request(line, {});
    ASSERT_TRUE(request.has_error()) << line;
    EXPECT_THAT(request.error().text, HasSubstr(reason)) << line;
  }
}

/// What the kernel says of somebody who tries to write to the file.
bool kernel_lets(const LocalUser& who, const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool became = ::setgroups(who.groups.size(), who.groups.data()) == 0 &&
                        ::setgid(who.gid) == 0 && ::setuid(who.uid) == 0;
    if (!became) ::_exit(2);
    ::_exit(::access(path.c_str(), W_OK) == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) < 2);
  return WEXITSTATUS(status) == 0;
}

TEST(ConnectRequest, WhoMayWriteIsWhomTheKernelWouldLet) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  const TempDir dir;
  const std::string path = dir / "file";
  ASSERT_EQ(::chmod(std::string(dir / ".").c_str(), 0755), 0);
  ASSERT_EQ(::close(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
  constexpr uid_t owner = 4000;
  constexpr gid_t group = 5000;
  ASSERT_EQ(::chown(path.c_str(), owner, group), 0);
  const LocalUser people[] = {{1, 0, 0, {}},
                              {1, owner, 6000, {}},
                              {1, owner, group, {}},
                              {1, 4001, group, {}},
                              {1, 4001, 6000, {group}},
                              {1, 4001, 6000, {}},
                              {1, 4001, 6000, {6001, 6002}}};
  for (const mode_t mode : {0000U, 0200U, 0020U, 0002U, 0600U, 0660U, 0606U, 0666U, 0066U, 0555U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    for (const LocalUser& who : people) {
      EXPECT_EQ(may_write(who, mode, owner, group), kernel_lets(who, path))
          << std::oct << mode << std::dec << " for " << who.uid << ":" << who.gid;
    }
  }
}

}  // namespace
}  // namespace xenlane::bridge

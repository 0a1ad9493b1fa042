// Socket files of listeners: how they appear, what they replace and who may remove them.
#include "bridge/channel/listener.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::HasSubstr;

constexpr auto same_uid = static_cast<uid_t>(-1);
constexpr auto same_gid = static_cast<gid_t>(-1);

/// errno of a connect(), 0 when it worked.
int try_connect(const std::string& path) {
  const transport::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(static_cast<char*>(address.sun_path), path.data(), path.size());
  const int result =
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  return result == 0 ? 0 : errno;
}

std::size_t files_in(const TempDir& dir) {
  const std::filesystem::directory_iterator all(dir.path());
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST(Listener, SocketAppearsListeningWithItsMode) {
  const TempDir dir;
  const auto listener = listen_unix(dir / "org.example.x", 0640, ::getuid(), ::getgid(), 8);
  ASSERT_TRUE(listener.has_value()) << listener.error().text;
  EXPECT_EQ(try_connect(dir / "org.example.x"), 0);
  struct stat found = {};
  ASSERT_EQ(::stat((dir / "org.example.x").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0640U);
  EXPECT_EQ(found.st_ino, listener->inode);
  EXPECT_EQ(files_in(dir), 1U) << "the temporary name must be gone";
}

TEST(Listener, StaleSocketFileIsReplaced) {
  const TempDir dir;
  { const auto dead = listen_unix(dir / "x", 0600, same_uid, same_gid, 8); }
  ASSERT_EQ(try_connect(dir / "x"), ECONNREFUSED);
  const auto listener = listen_unix(dir / "x", 0600, same_uid, same_gid, 8);
  ASSERT_TRUE(listener.has_value());
  EXPECT_EQ(try_connect(dir / "x"), 0);
}

TEST(Listener, FileThatIsNoSocketIsLeftAlone) {
  const TempDir dir;
  dir.write("x", "precious");
  const auto listener = listen_unix(dir / "x", 0600, same_uid, same_gid, 8);
  ASSERT_TRUE(listener.has_error());
  EXPECT_EQ(listener.error().code, std::errc::file_exists);
  EXPECT_EQ(std::filesystem::file_size(dir / "x"), 8U);
}

TEST(Listener, FailuresSayWhatAndWhere) {
  const TempDir dir;
  const auto no_folder = listen_unix(dir / "no/x", 0600, same_uid, same_gid, 8);
  EXPECT_EQ(no_folder.error().code, std::errc::no_such_file_or_directory);
  EXPECT_THAT(no_folder.error().text, HasSubstr(dir / "no/x"));
  const auto too_long = listen_unix(dir / std::string(100, 'x'), 0600, same_uid, same_gid, 8);
  EXPECT_EQ(too_long.error().code, std::errc::filename_too_long);
  const auto relative = listen_unix("x", 0600, same_uid, same_gid, 8);
  EXPECT_EQ(relative.error().code, std::errc::invalid_argument);
  EXPECT_EQ(files_in(dir), 0U);
}

TEST(Listener, OnlyOurOwnFileIsUnlinked) {
  const TempDir dir;
  const auto old = listen_unix(dir / "x", 0600, same_uid, same_gid, 8);
  const auto successor = listen_unix(dir / "x", 0600, same_uid, same_gid, 8);
  EXPECT_FALSE(unlink_if_ours(old->path, old->device, old->inode));
  EXPECT_EQ(try_connect(dir / "x"), 0);
  EXPECT_TRUE(unlink_if_ours(successor->path, successor->device, successor->inode));
  EXPECT_EQ(try_connect(dir / "x"), ENOENT);
}

}  // namespace
}  // namespace xenlane::bridge

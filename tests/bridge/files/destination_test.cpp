// Where a transfer goes: what a local user's path means, what a client's, and what a guest has used
// of its room.
#include "bridge/files/destination.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "bridge/files/receiver.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge::files {
namespace {

namespace fs = std::filesystem;

class FilesDestination : public testing::Test {
 protected:
  FilesDestination() {
    dir_.write("outside/secret", "secret");
    dir_.write("base/folder/within", "x");
    dir_.write("base/file", "x");
    fs::create_directory_symlink(dir_ / "outside", dir_ / "base/link");
    fs::create_directory_symlink(dir_ / "nothing", dir_ / "base/dangling");
    base_ =
        transport::UniqueFd(::open((dir_ / "base").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  /// "FOLDER NAME", FOLDER from the test's folder on; or the error's number.
  std::string shown(const boost::system::result<Destination>& destination) const {
    if (!destination) return std::to_string(destination.error().value());
    if (!destination->folder) return "none";
    const std::string path =
        fs::read_symlink("/proc/self/fd/" + std::to_string(destination->folder.get()));
    return path.substr(fs::canonical(dir_.path()).string().size()) + " " +
           destination->only_name.value_or("");
  }
  std::string local(const std::string& path, bool into_folder = false, bool dry = false) const {
    return shown(open_destination(dir_ / path, into_folder, dry));
  }
  std::string beneath(const std::string& path, bool into_folder = false, bool dry = false) const {
    const auto parsed = parse_service_path(path);
    if (!parsed) return "refused";
    return shown(open_destination_beneath(base_.get(), *parsed, into_folder, dry));
  }
  static bool is_link_error(const std::string& shown) {
    return shown == std::to_string(ELOOP) || shown == std::to_string(ENOTDIR);
  }

  TempDir dir_;
  transport::UniqueFd base_;
};

TEST_F(FilesDestination, OfALocalUserFollowsItsLinks) {
  EXPECT_EQ(local("base"), "/base ");
  EXPECT_EQ(local("base/"), "/base ");
  EXPECT_EQ(local("base/."), "/base ");
  EXPECT_EQ(local("base/folder/.."), "/base ");
  EXPECT_EQ(local("base/new"), "/base new");
  EXPECT_EQ(local("base/file"), "/base file");
  EXPECT_EQ(local("base/link"), "/outside ");
  EXPECT_EQ(local("base/link/new"), "/outside new");
  EXPECT_EQ(local("base/made/"), "/base/made ");
  EXPECT_EQ(local("base/also", true), "/base/also ");
  EXPECT_EQ(local("base/no/new"), std::to_string(ENOENT));
  EXPECT_EQ(local("base/file/new"), std::to_string(ENOTDIR));
}

TEST_F(FilesDestination, OfAClientFollowsNone) {
  EXPECT_EQ(beneath(""), "/base ");
  EXPECT_EQ(beneath("/"), "/base ");
  EXPECT_EQ(beneath("folder"), "/base/folder ");
  EXPECT_EQ(beneath("new"), "/base new");
  EXPECT_EQ(beneath("folder/new"), "/base/folder new");
  EXPECT_EQ(beneath("made/"), "/base/made ");
  EXPECT_EQ(beneath("../new"), "refused");
  EXPECT_TRUE(is_link_error(beneath("link/")));
  EXPECT_TRUE(is_link_error(beneath("link/new")));
  EXPECT_TRUE(is_link_error(beneath("link", true)));
  EXPECT_TRUE(is_link_error(beneath("dangling/")));
  EXPECT_EQ(beneath("link"), "/base link") << "a file takes a link's place";
  EXPECT_FALSE(fs::exists(dir_ / "outside/new"));
  EXPECT_FALSE(fs::exists(dir_ / "nothing"));
}

TEST_F(FilesDestination, DryRunMakesNoFolder) {
  EXPECT_EQ(local("base/dry/", false, true), "none");
  EXPECT_EQ(beneath("dry/", false, true), "none");
  EXPECT_FALSE(fs::exists(dir_ / "base/dry"));
}

TEST_F(FilesDestination, OfAGuestIsItsOwnFolder) {
  ASSERT_TRUE(open_incoming(base_.get(), "web"));
  struct stat status = {};
  ASSERT_EQ(::stat((dir_ / "base/incoming/web").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  EXPECT_TRUE(open_incoming(base_.get(), "web")) << "again";
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/incoming/evil");
  EXPECT_FALSE(open_incoming(base_.get(), "evil"));
  fs::remove_all(dir_ / "base/incoming");
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/incoming");
  EXPECT_FALSE(open_incoming(base_.get(), "web"));
  EXPECT_FALSE(fs::exists(dir_ / "outside/web"));
}

TEST_F(FilesDestination, UsageCountsAllThatIsThereAndFollowsNothing) {
  const auto usage = usage_of(base_.get());
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->bytes, 2U);
  EXPECT_EQ(usage->entries, 5U);
}

TEST_F(FilesDestination, UsageCountsTheDeepestFolderThatMayBeMade) {
  std::string path = dir_ / "base";
  for (std::size_t depth = 0; depth < Quota::depth_max; ++depth) {
    path += "/d";
    ASSERT_TRUE(fs::create_directory(path));
  }
  std::ofstream(path + "/deep") << std::string(1000, 'x');
  const auto usage = usage_of(base_.get());
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->bytes, 1002U);
  EXPECT_EQ(usage->entries, 5U + Quota::depth_max + 1);
}

/// A guest may not hide what it has used.
TEST_F(FilesDestination, UsageThatCannotBeToldIsAnError) {
  std::string path = dir_ / "base";
  for (std::size_t depth = 0; depth < Quota::depth_max + 3; ++depth) {
    path += "/d";
    ASSERT_TRUE(fs::create_directory(path));
  }
  std::ofstream(path + "/hidden") << "x";
  EXPECT_FALSE(usage_of(base_.get()));
}

}  // namespace
}  // namespace xenlane::bridge::files

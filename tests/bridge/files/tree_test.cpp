// The folders of a receiver: entered without following links, and the same each time.
#include "bridge/files/tree.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>

#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge::files {
namespace {

namespace fs = std::filesystem;

transport::UniqueFd open_folder(const std::string& path) {
  return transport::UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

class FilesTree : public testing::Test {
 protected:
  FilesTree() {
    dir_.write("outside/secret", "secret");
    fs::create_directory(dir_ / "base");
    tree_.emplace(open_folder(dir_ / "base"));
  }

  static Attributes with_mode(std::uint16_t mode) {
    Attributes attributes;
    attributes.mode = mode;
    attributes.mtime_s = 1'000'000;
    return attributes;
  }

  TempDir dir_;
  std::optional<Tree> tree_;
};

TEST_F(FilesTree, FoldersAreMadeForTheOwnerAloneAndGetTheirAttributesAtTheEnd) {
  ASSERT_EQ(tree_->add(1, 0, "a", with_mode(0755), false), 0);
  ASSERT_EQ(tree_->add(2, 1, "b", with_mode(0500), false), 0);
  EXPECT_EQ(tree_->depth(2), 2U);
  EXPECT_EQ(tree_->path(2), "a/b/");
  EXPECT_TRUE(tree_->is_new(1));
  struct stat status = {};
  ASSERT_EQ(::stat((dir_ / "base/a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  std::vector<std::uint32_t> told;
  tree_->finish([&](std::uint32_t id, int error) {
    EXPECT_EQ(error, 0);
    told.push_back(id);
  });
  EXPECT_EQ(told, (std::vector<std::uint32_t>{2, 1}));
  ASSERT_EQ(::stat((dir_ / "base/a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755U);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000);
}

TEST_F(FilesTree, WhatIsThereAndNoFolderIsNotEntered) {
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/link");
  fs::create_directory_symlink(".", dir_ / "base/self");
  dir_.write("base/file", "x");
  ASSERT_EQ(::mkfifo((dir_ / "base/fifo").c_str(), 0600), 0);
  std::uint32_t id = 0;
  for (const char* name : {"link", "self", "file", "fifo"}) {
    ++id;
    EXPECT_NE(tree_->add(id, 0, name, with_mode(0755), false), 0) << name;
    EXPECT_TRUE(tree_->failed(id));
    EXPECT_NE(tree_->add(id + 100, id, "in", with_mode(0755), false), 0) << name;
  }
  EXPECT_FALSE(fs::exists(dir_ / "outside/in"));
}

/// More folders than are kept open, each swapped for a link while it is closed.
TEST_F(FilesTree, FolderThatWasSwappedIsNotEnteredAgain) {
  for (std::uint32_t id = 1; id <= open_folders_max + 10; ++id) {
    ASSERT_EQ(tree_->add(id, 0, "d" + std::to_string(id), with_mode(0755), false), 0);
  }
  fs::rename(dir_ / "base/d1", dir_ / "base/was-d1");
  fs::create_directory_symlink(dir_ / "outside", dir_ / "base/d1");
  EXPECT_EQ(tree_->fd(1), -1);
  EXPECT_TRUE(errno == ELOOP || errno == ENOTDIR) << errno;
  fs::rename(dir_ / "base/d2", dir_ / "base/was-d2");
  fs::create_directory(dir_ / "base/d2");
  EXPECT_EQ(tree_->fd(2), -1);
  EXPECT_EQ(errno, ESTALE);
  EXPECT_GE(tree_->fd(3), 0);
  EXPECT_GE(tree_->fd(open_folders_max + 10), 0);
  int failed = 0;
  tree_->finish([&](std::uint32_t, int error) { failed += error != 0 ? 1 : 0; });
  EXPECT_EQ(failed, 2);
}

/// Deeper than there are folders kept open.
TEST_F(FilesTree, DeepFoldersAreFoundAgain) {
  for (std::uint32_t id = 1; id <= 2 * open_folders_max; ++id) {
    ASSERT_EQ(tree_->add(id, id - 1, "d", with_mode(0755), false), 0) << id;
  }
  EXPECT_GE(tree_->fd(1), 0);
  const int deepest = tree_->fd(2 * open_folders_max);
  ASSERT_GE(deepest, 0);
  struct stat status = {};
  EXPECT_EQ(::fstat(deepest, &status), 0);
}

TEST_F(FilesTree, DryRunMakesNothing) {
  fs::create_directory(dir_ / "base/there");
  EXPECT_EQ(tree_->add(1, 0, "there", with_mode(0755), true), 0);
  EXPECT_EQ(tree_->add(2, 0, "new", with_mode(0755), true), 0);
  EXPECT_EQ(tree_->add(3, 2, "newer", with_mode(0755), true), 0);
  EXPECT_FALSE(tree_->is_new(1));
  EXPECT_TRUE(tree_->is_new(2) && tree_->is_new(3));
  EXPECT_FALSE(fs::exists(dir_ / "base/new"));
  Tree nowhere{transport::UniqueFd()};
  EXPECT_EQ(nowhere.add(1, 0, "new", with_mode(0755), true), 0);
  EXPECT_TRUE(nowhere.is_new(1));
}

TEST_F(FilesTree, OnlyUsersAttributesAreSet) {
  Entry entry;
  entry.mode = 0644;
  for (const char* name : {"user.a", "security.a", "trusted.a", "system.a", "user", "USER.a"}) {
    entry.xattrs.push_back({name, "x"});
  }
  EXPECT_EQ(attributes_of(entry, false, false).xattrs.size(), 0U);
  const Attributes attributes = attributes_of(entry, true, false);
  ASSERT_EQ(attributes.xattrs.size(), 1U);
  EXPECT_EQ(attributes.xattrs[0].name, "user.a");
}

}  // namespace
}  // namespace xenlane::bridge::files

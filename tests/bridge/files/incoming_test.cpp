// A file that is being received: whole under its name or not there, whatever stands in the place
// where it is kept meanwhile.
#include "bridge/files/incoming.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "bridge/files/names.hpp"
#include "tests/bridge/temp_dir.hpp"
#include "tests/support/real_call.hpp"

namespace {
int truncations = 0;
}

extern "C" int ftruncate(int file, off_t length) noexcept {
  static const auto call = xenlane::tests::real_call<int (*)(int, off_t)>("ftruncate");
  ++truncations;
  return call(file, length);
}

namespace xenlane::bridge::files {
namespace {

namespace fs = std::filesystem;

BytesView bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

class FilesIncoming : public testing::Test {
 protected:
  FilesIncoming() {
    dir_.write("outside", "outside");
    fs::create_directory(dir_ / "base");
    folder_ =
        transport::UniqueFd(::open((dir_ / "base").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    attributes_.mode = 0640;
    attributes_.mtime_s = 1'000'000;
  }
  ~FilesIncoming() override { EXPECT_EQ(read("../outside"), "outside"); }

  std::string path(const std::string& name) const { return dir_ / "base/" + name; }
  std::string partial() const { return path(partial_name("file")); }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name), std::ios::binary).rdbuf();
    return text.str();
  }
  /// With `offset` bytes of what is kept to go on with.
  auto begin(bool keep, std::uint64_t offset = 0) {
    const auto basis = basis_of(folder_.get(), partial_name("file"), offset, DigestKind::xxh3);
    EXPECT_TRUE(offset == 0 || (basis && basis->bytes == offset));
    return Incoming::begin(folder_.get(), "file", keep, basis ? &*basis : nullptr);
  }
  int error_of(bool keep, std::uint64_t offset) {
    const auto file = begin(keep, offset);
    return file ? 0 : file.error().value();
  }
  void receive(bool keep, std::string_view content) {
    auto file = begin(keep);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->write(bytes_of(content)), 0);
    EXPECT_EQ(file->place(folder_.get(), attributes_), 0);
    EXPECT_EQ(read("file"), content);
    EXPECT_FALSE(fs::exists(fs::symlink_status(partial())));
  }

  TempDir dir_;
  transport::UniqueFd folder_;
  Attributes attributes_;
};

TEST_F(FilesIncoming, SmallOneHasNoNameUntilItIsWhole) {
  {
    auto file = begin(false);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->write(bytes_of("half")), 0);
    EXPECT_TRUE(fs::is_empty(path("")));
  }
  EXPECT_TRUE(fs::is_empty(path("")));
  receive(false, "whole");
  struct stat status = {};
  ASSERT_EQ(::stat(path("file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000);
}

TEST_F(FilesIncoming, LargeOneIsKeptForTheNextRunAndForNobodyElse) {
  {
    auto file = begin(true);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->write(bytes_of("first half, ")), 0);
  }
  EXPECT_FALSE(fs::exists(path("file")));
  struct stat status = {};
  ASSERT_EQ(::stat(partial().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  auto file = begin(true, 6);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->write(bytes_of("then more")), 0);
  EXPECT_EQ(file->place(folder_.get(), attributes_), 0);
  EXPECT_EQ(read("file"), "first then more");
}

/// On ext4 the close of a file that was truncated waits for the disk.
TEST_F(FilesIncoming, LargeOneIsTruncatedOnlyWhereThereIsSomethingToTakeAway) {
  truncations = 0;
  receive(true, "whole");
  EXPECT_EQ(truncations, 0);
  std::ofstream(partial()) << "left by another run";
  EXPECT_EQ(error_of(true, 0), 0);
  EXPECT_EQ(truncations, 1);
}

/// The digest of what is kept is taken when the file is announced; until it comes, another run may
/// have written something else.
TEST_F(FilesIncoming, WhatIsKeptIsNotGoneOnWithOnceItHasChanged) {
  const auto basis_now = [this] {
    return basis_of(folder_.get(), partial_name("file"), 4, DigestKind::xxh3);
  };
  const auto error_with = [this](const std::optional<Basis>& basis) {
    const auto file = Incoming::begin(folder_.get(), "file", true, &*basis);
    return file ? 0 : file.error().value();
  };
  std::ofstream(partial()) << "12345678";
  auto basis = basis_now();
  ASSERT_TRUE(basis);
  std::fstream(partial(), std::ios::in | std::ios::out) << "abcd";
  // Some file systems tell the time in ticks.
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 0}, {.tv_sec = 1, .tv_nsec = 0}};
  for (auto was = basis_now(); was && was->state == basis->state; was = basis_now()) {
    ASSERT_EQ(::utimensat(AT_FDCWD, partial().c_str(), times, 0), 0);
  }
  EXPECT_EQ(error_with(basis), ESTALE) << "same size, other content";
  basis = basis_now();
  fs::rename(partial(), path("aside"));
  fs::copy_file(path("aside"), partial());
  EXPECT_EQ(error_with(basis), ESTALE) << "another file";
  basis = basis_now();
  fs::remove(partial());
  EXPECT_EQ(error_with(basis), ESTALE) << "nothing there";
  EXPECT_EQ(error_of(true, 0), 0);
}

TEST_F(FilesIncoming, TwoAtOnceDoNotMix) {
  auto first = begin(true);
  ASSERT_TRUE(first);
  EXPECT_EQ(error_of(true, 0), EBUSY);
  EXPECT_EQ(first->write(bytes_of("first")), 0);
  EXPECT_EQ(first->place(folder_.get(), attributes_), 0);
  receive(true, "second");
}

TEST_F(FilesIncoming, LinkInItsPlaceIsTakenAway) {
  fs::create_symlink(dir_ / "outside", partial());
  receive(true, "mine");
  fs::create_symlink(dir_ / "nothing", partial());
  receive(true, "mine");
  EXPECT_FALSE(fs::exists(dir_ / "nothing"));
}

TEST_F(FilesIncoming, PipeInItsPlaceIsTakenAway) {
  ASSERT_EQ(::mkfifo(partial().c_str(), 0600), 0);
  receive(true, "mine");
}

TEST_F(FilesIncoming, HardLinkInItsPlaceIsTakenAwayAndNotWrittenTo) {
  fs::create_hard_link(dir_ / "outside", partial());
  receive(true, "mine");
}

TEST_F(FilesIncoming, FileOfAnotherUserInItsPlaceIsTakenAway) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make one";
  std::ofstream(partial()) << "somebody else's bytes";
  ASSERT_EQ(::chown(partial().c_str(), 65534, 65534), 0);
  receive(true, "mine");
  struct stat status = {};
  ASSERT_EQ(::stat(path("file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
}

TEST_F(FilesIncoming, FolderInItsPlaceIsAnErrorAndStays) {
  fs::create_directory(partial());
  EXPECT_EQ(error_of(true, 0), ESTALE);
  EXPECT_TRUE(fs::is_directory(partial()));
}

TEST_F(FilesIncoming, LinkOrFileUnderItsNameIsReplacedAndNotWrittenTo) {
  for (const bool keep : {false, true}) {
    fs::create_symlink(dir_ / "outside", path("file"));
    receive(keep, "instead of a link");
    fs::remove(path("file"));
    fs::create_hard_link(dir_ / "outside", path("file"));
    receive(keep, "instead of a hard link");
    fs::remove(path("file"));
  }
}

TEST_F(FilesIncoming, FolderUnderItsNameStaysAndNothingIsLeft) {
  for (const bool keep : {false, true}) {
    dir_.write("base/file/in", "in a folder");
    auto file = begin(keep);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->write(bytes_of("x")), 0);
    EXPECT_NE(file->place(folder_.get(), attributes_), 0);
    file->discard(folder_.get());
    EXPECT_EQ(read("file/in"), "in a folder");
    EXPECT_FALSE(fs::exists(partial()));
  }
}

/// As on a file system without O_TMPFILE: a small one takes the way of a large one.
TEST_F(FilesIncoming, WhatIsWrittenInTheOtherWayIsTheSame) {
  for (const std::string_view content : {"", "x"}) {
    receive(true, content);
    receive(false, content);
  }
}

TEST_F(FilesIncoming, HolesAreZerosAlsoAtTheEnd) {
  for (const bool keep : {false, true}) {
    auto file = begin(keep);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->skip(3), 0);
    EXPECT_EQ(file->write(bytes_of("x")), 0);
    EXPECT_EQ(file->skip(2), 0);
    EXPECT_EQ(file->size(), 6U);
    Hasher hasher(DigestKind::sha256);
    hasher.update(bytes_of(std::string_view("\0\0\0x\0\0", 6)));
    EXPECT_EQ(file->verify(DigestKind::sha256, hasher.digest()), 0);
    EXPECT_EQ(file->place(folder_.get(), attributes_), 0);
    EXPECT_EQ(read("file"), std::string("\0\0\0x\0\0", 6));
  }
}

TEST_F(FilesIncoming, HolesBeyondWhatAFileCanBeAreErrors) {
  auto file = begin(false);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->write(bytes_of("x")), 0);
  EXPECT_NE(file->skip(INT64_MAX), 0);
  EXPECT_EQ(file->size(), 1U);
}

TEST_F(FilesIncoming, VerifyReadsWhatIsThere) {
  auto file = begin(true);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->write(bytes_of("as it was")), 0);
  Hasher hasher(DigestKind::xxh3);
  hasher.update(bytes_of("as it was"));
  EXPECT_EQ(file->verify(DigestKind::xxh3, hasher.digest()), 0);
  std::fstream(partial(), std::ios::in | std::ios::out) << "b";
  EXPECT_EQ(file->verify(DigestKind::xxh3, hasher.digest()), EIO);
}

TEST_F(FilesIncoming, BasisIsAFileOfOurOwnAndNothingElse) {
  const auto bytes = [this](const std::string& name, std::uint64_t max) {
    const auto basis = basis_of(folder_.get(), name, max, DigestKind::xxh3);
    return basis ? basis->bytes : 0;
  };
  dir_.write("base/plain", "12345");
  EXPECT_EQ(bytes("plain", 100), 5U);
  EXPECT_EQ(bytes("plain", 3), 3U);
  EXPECT_EQ(bytes("nothing", 100), 0U);
  dir_.write("base/empty", "");
  EXPECT_EQ(bytes("empty", 100), 0U);
  fs::create_symlink("plain", path("link"));
  EXPECT_EQ(bytes("link", 100), 0U);
  fs::create_directory(path("folder"));
  EXPECT_EQ(bytes("folder", 100), 0U);
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(bytes("fifo", 100), 0U);
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown(path("plain").c_str(), 65534, 65534), 0);
  EXPECT_EQ(bytes("plain", 100), 0U) << "somebody else's";
}

}  // namespace
}  // namespace xenlane::bridge::files

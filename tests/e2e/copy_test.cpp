// xenlane cp between a host and a guest: what arrives, what a second run does, and how it says so.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/e2e/copy_world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(Copy, FolderGoesEachWayAsItIsAndASecondRunSendsNothing) {
  Copies here;
  make_tree(here.dir() + "/tree");
  const auto tree = snapshot(here.dir() + "/tree");
  Outcome outcome = here.copy({here.dir() + "/tree", "web:"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out + outcome.err, IsEmpty()) << "quiet when all is well";
  EXPECT_EQ(snapshot(here.in_guest("tree")), tree);

  auto again = here.copy_json({here.dir() + "/tree", "web:"});
  EXPECT_EQ(number(again, "bytes_sent"), 0);
  EXPECT_EQ(number(again, "failed"), 0);
  EXPECT_EQ(number(again, "bytes_same"), number(again, "bytes"));

  outcome = here.copy({"web:tree/", here.dir() + "/back"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(snapshot(here.dir() + "/back"), tree);
  struct stat status = {};
  ASSERT_EQ(::stat((here.dir() + "/back/hole").c_str(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, status.st_size / 2) << "a hole has become zeros";
}

TEST(Copy, GuestsFilesLandInItsOwnFolderOnTheHost) {
  Copies here;
  make_tree(here.dir() + "/tree");
  for (const char* where : {"host:", "host:/", "host:tree/../..", "host:/etc"}) {
    (void)here.copy_in_guest({here.dir() + "/tree", where});
  }
  EXPECT_EQ(snapshot(here.on_host("incoming/web/tree")), snapshot(here.dir() + "/tree"));
  EXPECT_TRUE(fs::exists(here.on_host("incoming/web/etc/tree")));
  for (const auto& entry : fs::directory_iterator(here.on_host())) {
    EXPECT_EQ(entry.path().filename(), "incoming");
  }
  // What the host gives is what its administrator named, from there on.
  write_file(here.on_host("gift"), "for you");
  EXPECT_EQ(here.copy_in_guest({"host:gift", here.dir() + "/got"}).code, 0);
  EXPECT_EQ(read_file(here.dir() + "/got"), "for you");
}

TEST(Copy, DestinationMeansWhatRsyncMeansByIt) {
  Copies here;
  write_file(here.dir() + "/one", "1");
  write_file(here.dir() + "/two", "2");
  EXPECT_EQ(here.copy({here.dir() + "/one", "web:new-name"}).code, 0);
  EXPECT_EQ(read_file(here.in_guest("new-name")), "1");
  EXPECT_EQ(here.copy({here.dir() + "/one", "web:folder/"}).code, 0);
  EXPECT_EQ(here.copy({here.dir() + "/two", "web:folder"}).code, 0);
  EXPECT_EQ(read_file(here.in_guest("folder/one")) + read_file(here.in_guest("folder/two")), "12");
  EXPECT_EQ(here.copy({here.dir() + "/one", here.dir() + "/two", "web:both"}).code, 0);
  EXPECT_EQ(read_file(here.in_guest("both/two")), "2");
  EXPECT_EQ(here.copy({"web:folder", here.dir() + "/fetched"}).code, 0);
  EXPECT_EQ(read_file(here.dir() + "/fetched/folder/two"), "2") << "the same again would go there";
  const Outcome outcome = here.copy({here.dir() + "/one", "web:no/such/place"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("no/such/place: No such file or directory"));
}

TEST(Copy, StandardInputAndOutput) {
  Copies here;
  make_file(here.dir() + "/data", 2 * mebibyte + 3);
  const std::string data = read_file(here.dir() + "/data");
  Outcome outcome = here.copy({"-", "web:piped"}, data);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(read_file(here.in_guest("piped")) == data);
  outcome = here.copy({"web:piped", "-"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.out == data);
  fs::create_directory(here.in_guest("folder"));
  outcome = here.copy({"web:folder", "-"});
  EXPECT_EQ(outcome.code, 14);
  EXPECT_THAT(outcome.err, HasSubstr("only one file can go to standard output"));
}

TEST(Copy, ContentDecidesWithChecksum) {
  Copies here;
  write_file(here.dir() + "/file", "new content");
  EXPECT_EQ(here.copy({here.dir() + "/file", "web:file"}).code, 0);
  struct stat status = {};
  ASSERT_EQ(::stat((here.dir() + "/file").c_str(), &status), 0);
  // Same size, same time: only who looks inside sees it.
  write_file(here.in_guest("file"), "bad content");
  const timespec times[2] = {status.st_atim, status.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, here.in_guest("file").c_str(), times, 0), 0);
  EXPECT_EQ(here.copy({here.dir() + "/file", "web:file"}).code, 0);
  EXPECT_EQ(read_file(here.in_guest("file")), "bad content");
  for (const char* digest : {"xxh3", "sha256"}) {
    write_file(here.in_guest("file"), "bad content");
    EXPECT_EQ(here.copy({"-c", "--digest", digest, here.dir() + "/file", "web:file"}).code, 0);
    EXPECT_EQ(read_file(here.in_guest("file")), "new content") << digest;
    const auto same = here.copy_json({"-c", "--digest", digest, here.dir() + "/file", "web:file"});
    EXPECT_EQ(number(same, "bytes_sent"), 0) << digest;
    EXPECT_EQ(number(same, "same"), 1) << digest;
  }
}

TEST(Copy, DryRunExcludeAndVerbose) {
  Copies here;
  make_tree(here.dir() + "/tree");
  write_file(here.dir() + "/tree/skip.o", "object");
  Outcome outcome = here.copy({"-n", "--exclude", "*.o", here.dir() + "/tree", "web:"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("/tree/deep/er/small7\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("skip.o")));
  EXPECT_TRUE(fs::is_empty(here.in_guest()));
  outcome = here.copy(
      {"-v", "--exclude", "*.o", "--exclude", "tree/deep/", here.dir() + "/tree", "web:"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("/tree/large\n"));
  EXPECT_FALSE(fs::exists(here.in_guest("tree/skip.o")));
  EXPECT_FALSE(fs::exists(here.in_guest("tree/deep")));
  outcome = here.copy({"--exclude", "small*", "web:", here.dir() + "/back"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(fs::exists(here.dir() + "/back/tree/large"));
}

TEST(Copy, AttributesOnRequest) {
  Copies here("--allow-owner");
  write_file(here.dir() + "/file", "x");
  const bool has_xattrs =
      ::setxattr((here.dir() + "/file").c_str(), "user.colour", "red", 3, 0) == 0;
  ::chmod((here.dir() + "/file").c_str(), 06755);
  const bool is_root = ::geteuid() == 0;
  if (is_root) {
    ASSERT_EQ(::chown((here.dir() + "/file").c_str(), 12, 34), 0);
  }
  std::vector<std::string> arguments{"--verify", "-X", here.dir() + "/file", "web:file"};
  if (is_root) arguments.insert(arguments.begin(), "--owner");
  const Outcome outcome = here.copy(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  struct stat status = {};
  ASSERT_EQ(::stat(here.in_guest("file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0755U) << "no file becomes another user's program";
  EXPECT_EQ(status.st_uid * 100 + status.st_gid, is_root ? 1234U : ::geteuid() * 100 + ::getegid());
  char value[8] = {};
  const ssize_t size = ::getxattr(here.in_guest("file").c_str(), "user.colour", value, 8);
  EXPECT_EQ(std::string(value, size < 0 ? 0 : std::size_t(size)), has_xattrs ? "red" : "");
}

TEST(Copy, OwnersAreNotSetUnlessTheServiceAllowsIt) {
  Copies here;
  write_file(here.dir() + "/file", "x");
  const Outcome outcome = here.copy({"--owner", here.dir() + "/file", "web:file"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("start it with --allow-owner"));
}

TEST(Copy, ReportsProgressAsLinesOfJson) {
  Copies here;
  make_file(here.dir() + "/file", 4 * mebibyte);
  const Outcome outcome =
      here.copy({"--json", "--bwlimit", "4M", here.dir() + "/file", "web:file"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(R"("event":"progress")"));
  EXPECT_THAT(outcome.out, HasSubstr(R"("event":"done")"));
  EXPECT_THAT(outcome.out, HasSubstr(R"("exit_code":0)"));
}

TEST(Copy, SaysWhatIsWrongWithItsArguments) {
  Copies here;
  write_file(here.dir() + "/file", "x");
  const std::string file = here.dir() + "/file";
  const struct {
    std::vector<std::string> arguments;
    int code;
    const char* words;
  } cases[] = {
      {{file}, 2, "a source and a destination are needed"},
      {{file, here.dir() + "/copy"}, 2, "one side has to be another domain's"},
      {{"web:a", "web:b"}, 2, "one side has to be here"},
      {{"web:a", file, here.dir()}, 2, "all sources have to be on the same side"},
      {{"-", "web:folder/"}, 2, "needs a name"},
      {{file, "nobody:"}, 4, "nobody"},
      {{"--channel", "org.test.none", file, "web:"}, 4, "unknown channel"},
      {{"web:missing", here.dir()}, 10, "missing: cannot be read: No such file or directory"},
      {{here.dir() + "/missing", "web:"}, 10, "missing: cannot be read"},
      {{here.dir() + "/no/such", "web:"}, 10, "no/such: cannot be read"},
      {{"web:../escape", here.dir()}, 5, "has no '..'"},
      {{"--digest", "md5", file, "web:"}, 2, "--digest"},
  };
  for (const auto& one : cases) {
    const Outcome outcome = here.copy(one.arguments);
    EXPECT_EQ(outcome.code, one.code) << one.words << ": " << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(one.words));
  }
  std::vector<std::string> many(5000, "web:x");
  many.push_back(here.dir());
  const Outcome too_many = here.copy(many);
  EXPECT_EQ(too_many.code, 2);
  EXPECT_THAT(too_many.err, HasSubstr("name the folder that they are in"));
  const Outcome wrong_side = here.copy_in_guest({file, "web:"});
  EXPECT_EQ(wrong_side.code, 4);
  EXPECT_THAT(wrong_side.err, HasSubstr("in a guest the other side is 'host:'"));
}

TEST(Copy, ServiceRunByHandSaysHowItIsRun) {
  Copies here;
  const Outcome by_hand = here.world.tool("0", {"serve-files", "--receive", here.dir()});
  EXPECT_EQ(by_hand.code, 2);
  EXPECT_THAT(by_hand.err, HasSubstr("target = \"exec:...\""));
}

}  // namespace
}  // namespace xenlane::tests

// xenlane cp when something goes wrong: what is killed goes on where it was, what cannot be copied
// is said and left out, and no file ever has its name before it is whole.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/e2e/copy_world.hpp"

namespace xenlane::tests {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// A process of this world whose command line has this word behind the program.
pid_t pid_of(const World& world, const std::string& verb) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string line = read_file(entry.path().string() + "/cmdline");
    const std::string wanted = program("xenlane") + std::string(1, '\0') + verb;
    if (line.starts_with(wanted) && line.find(world.dir()) != std::string::npos) {
      return static_cast<pid_t>(std::stol(entry.path().filename().string()));
    }
  }
  return -1;
}

void kill_if(pid_t pid) {
  if (pid > 0) ::kill(pid, SIGKILL);
}

using Tree = std::map<std::string, std::string>;

/// Every file that has its own name is what it is at the source, or was in the generation before.
void expect_whole(const std::string& folder, const Tree& now, const Tree& before) {
  for (const auto& [path, content] : snapshot(folder)) {
    if (path.ends_with(".xenlane-part") || !fs::is_regular_file(folder + "/" + path)) continue;
    const auto is_in = [&](const Tree& tree) {
      const auto found = tree.find(path);
      return found != tree.end() && found->second == content;
    };
    EXPECT_TRUE(is_in(now) || is_in(before)) << path << " is not whole";
  }
}

// Half of the kills end one of the transfer's own processes, the rest what is between them. With
// XENLANE_KILLS=100 in the environment there are so many.
TEST(CopyFault, KilledAtRandomMomentsItGoesOnWhereItWas) {
  Copies here("", "", "[lanes]\npolicy = \"always\"\n");
  const std::string tree = here.dir() + "/tree";
  fs::create_directories(tree + "/many");
  std::mt19937 random(100);
  constexpr std::uint64_t large_bytes = 16 * mebibyte;
  for (std::uint64_t i = 0; i < 200; ++i) {
    make_file(tree + "/many/" + std::to_string(i), random() % 40'000, i);
  }
  const char* wanted = std::getenv("XENLANE_KILLS");
  const int kills = wanted != nullptr ? std::atoi(wanted) : (slowness > 1 ? 10 : 30);
  int killed = 0;
  Tree before;
  for (std::uint64_t generation = 0; killed < kills; ++generation) {
    make_file(tree + "/large", large_bytes, 1000 + generation);
    const Tree whole = snapshot(tree);
    const int until = std::min(kills, killed + 10);
    for (; killed < until; ++killed) {
      Process copy = here.begin({"--bwlimit", "24M", tree, "web:"});
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 250));
      const int way = static_cast<int>(random() % 6);
      SCOPED_TRACE("kill " + std::to_string(killed) + " in way " + std::to_string(way));
      if (way < 2) kill_if(pid_of(here.world, "cp"));
      if (way == 2) kill_if(pid_of(here.world, "serve-files"));
      if (way == 3) kill_if(here.world.worker_pid("web"));
      if (way == 4) {
        here.world.guest("web").kill_and_reap();
        here.world.start_guest("web");
      }
      if (way == 5) (void)here.world.xensim({"set", "web", "event-channels", "cut"});
      (void)copy.wait();
      // Whoever served it has its last words behind it.
      ASSERT_TRUE(eventually([&] { return pid_of(here.world, "serve-files") < 0; }));
      if (fs::exists(here.in_guest("tree"))) expect_whole(here.in_guest("tree"), whole, before);
      ASSERT_TRUE(here.world.wait_session("web"));
    }
    ASSERT_TRUE(here.world.echo_works(here.world.host_socket("web", "org.guest.echo")));
    const std::uint64_t there = bytes_below(here.in_guest());
    const auto done = here.copy_json({tree, "web:"});
    EXPECT_EQ(number(done, "exit_code"), 0) << here.errors();
    // The last generation's file is there too while this one's is not whole.
    const auto sent = static_cast<std::uint64_t>(number(done, "bytes_sent"));
    const std::uint64_t old = generation == 0 || there < large_bytes ? 0 : large_bytes;
    EXPECT_LE(sent + there - old, bytes_below(tree)) << "bytes were sent again";
    EXPECT_EQ(snapshot(here.in_guest("tree")), whole) << "nothing is missing, nothing is left over";
    before = whole;
  }
}

TEST(CopyFault, InterruptedByItsUserItSaysHowToGoOn) {
  Copies here;
  make_file(here.dir() + "/large", 8 * mebibyte);
  Process copy = here.begin({"--bwlimit", "2M", here.dir() + "/large", "web:"});
  ASSERT_TRUE(eventually([&] { return fs::exists(here.in_guest(".large.xenlane-part")); }));
  kill(pid_of(here.world, "cp"), SIGINT);
  EXPECT_EQ(copy.wait(), 130);
  EXPECT_THAT(here.errors(), HasSubstr("interrupted; run the same again"));
  EXPECT_FALSE(fs::exists(here.in_guest("large")));
  EXPECT_EQ(here.copy({here.dir() + "/large", "web:"}).code, 0);
}

TEST(CopyFault, SourceThatChangesIsLeftOutAndTheRestCopied) {
  Copies here;
  const std::string tree = here.dir() + "/tree/";
  fs::create_directory(tree);
  make_file(tree + "changing", 4 * mebibyte);
  make_file(tree + "vanishing", 4 * mebibyte);
  make_file(tree + "shrinking", 4 * mebibyte);
  write_file(tree + "calm", "calm");
  std::atomic<bool> over{false};
  std::thread writer([&] {
    while (!over) {
      const transport::UniqueFd file(::open((tree + "changing").c_str(), O_WRONLY | O_APPEND));
      EXPECT_EQ(::write(file.get(), "more", 4), 4);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  Process copy = here.begin({"--bwlimit", "8M", tree + "changing", tree + "vanishing",
                             tree + "shrinking", tree + "calm", "web:"});
  ASSERT_TRUE(eventually([&] { return fs::exists(here.in_guest(".changing.xenlane-part")); }));
  fs::remove(tree + "vanishing");
  fs::resize_file(tree + "shrinking", 1000);
  const int code = copy.wait();
  over = true;
  writer.join();
  EXPECT_EQ(code, 11) << here.errors();
  EXPECT_THAT(here.errors(), HasSubstr("changing: changed while it was being copied; left out"));
  EXPECT_THAT(here.errors(), HasSubstr("vanishing: vanished while it was being copied; left out"));
  EXPECT_THAT(here.errors(), HasSubstr("shrinking: changed while it was being copied; left out"));
  EXPECT_EQ(read_file(here.in_guest("calm")), "calm");
  EXPECT_EQ(snapshot(here.in_guest()).size(), 1U) << "nothing half is left";
}

TEST(CopyFault, WhatCannotBeReadIsLeftOut) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  Copies here;
  const std::string tree = here.dir() + "/tree";
  make_tree(tree);
  ::chmod((tree + "/large").c_str(), 0);
  ::chmod((tree + "/empty").c_str(), 0);
  fs::remove(tree + "/deep/twice");
  const std::string run_dir = here.world.run_dir("Domain-0");
  for (fs::path folder = run_dir + "/web"; folder != here.dir(); folder = folder.parent_path()) {
    fs::permissions(folder, fs::perms(0755));
  }
  const Outcome outcome = here.world.run_in(
      "0", {"setpriv", "--reuid=65534", "--clear-groups", program("xenlane"), "cp", tree, "web:"});
  EXPECT_EQ(outcome.code, 10) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("tree/large: cannot be read: Permission denied; left out"));
  EXPECT_THAT(outcome.err, HasSubstr("tree/empty: cannot be read: Permission denied; left out"));
  EXPECT_FALSE(fs::exists(here.in_guest("tree/large")));
  EXPECT_TRUE(read_file(here.in_guest("tree/deep/er/small7")) ==
              read_file(tree + "/deep/er/small7"));
}

TEST(CopyFault, WhatCannotBeWrittenIsLeftOut) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to start the service as somebody else";
  Copies here("", "user = \"nobody\"\n");
  fs::permissions(here.in_guest(), fs::perms(0777));
  fs::create_directories(here.in_guest("tree/deep/er"));
  fs::create_directories(here.in_guest("tree/nothing"));
  fs::permissions(here.in_guest("tree"), fs::perms(0777));
  fs::permissions(here.in_guest("tree/deep"), fs::perms(0755));
  const std::string tree = here.dir() + "/tree";
  make_tree(tree);
  const Outcome outcome = here.copy({tree, "web:"});
  EXPECT_EQ(outcome.code, 12) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("deep/er/small7: cannot be written: Permission denied; left out"));
  EXPECT_THAT(outcome.err, HasSubstr("tree/nothing: cannot be written: Is a directory; left out"));
  EXPECT_TRUE(read_file(here.in_guest("tree/large")) == read_file(tree + "/large"));
}

/// A file system of its own below the service's folder, for as long as this lives.
class Mounted {
 public:
  Mounted(std::string at, const std::string& options, unsigned long flags) : at_(std::move(at)) {
    fs::create_directory(at_);
    is_there_ = ::mount("tmpfs", at_.c_str(), "tmpfs", flags, options.c_str()) == 0;
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  ~Mounted() {
    if (is_there_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  explicit operator bool() const { return is_there_; }

 private:
  std::string at_;
  bool is_there_ = false;
};

TEST(CopyFault, NoRoomForOneFileLeavesRoomForOthers) {
  Copies here;
  const Mounted small(here.in_guest("small"), "size=1m", 0);
  if (!small) GTEST_SKIP() << "needs to mount a file system";
  make_file(here.dir() + "/large", 3 * mebibyte);
  make_file(here.dir() + "/medium", 300'000);
  const Outcome outcome = here.copy({here.dir() + "/large", here.dir() + "/medium", "web:small/"});
  EXPECT_EQ(outcome.code, 13) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("large: no room for it: No space left on device; left out"));
  EXPECT_TRUE(read_file(here.in_guest("small/medium")) == read_file(here.dir() + "/medium"));
  EXPECT_EQ(snapshot(here.in_guest("small")).size(), 1U) << "nothing half is left";
}

TEST(CopyFault, ReadOnlyFileSystem) {
  Copies here;
  const Mounted read_only(here.in_guest("ro"), "", MS_RDONLY);
  if (!read_only) GTEST_SKIP() << "needs to mount a file system";
  write_file(here.dir() + "/file", "x");
  const Outcome outcome = here.copy({here.dir() + "/file", "web:ro/"});
  EXPECT_EQ(outcome.code, 12) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("file: cannot be written: Read-only file system; left out"));
}

TEST(CopyFault, QuotaOfAGuestHoldsOverManyTransfers) {
  Copies here("--max-bytes 1M --max-files 5 --max-depth 2");
  make_file(here.dir() + "/a", 600'000, 1);
  make_file(here.dir() + "/b", 600'000, 2);
  write_file(here.dir() + "/c", "small");
  EXPECT_EQ(here.copy_in_guest({here.dir() + "/a", "host:"}).code, 0);
  Outcome outcome = here.copy_in_guest({here.dir() + "/b", here.dir() + "/c", "host:"});
  EXPECT_EQ(outcome.code, 13) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("b: no room for it: Disk quota exceeded; left out "
                                     "(the quota is used up)"));
  EXPECT_EQ(read_file(here.on_host("incoming/web/c")), "small") << "there was room for that";
  EXPECT_EQ(here.copy_in_guest({here.dir() + "/a", "host:"}).code, 0) << "it is there already";
  fs::create_directories(here.dir() + "/deep/er/still");
  outcome = here.copy_in_guest({here.dir() + "/deep", "host:"});
  EXPECT_EQ(outcome.code, 13) << outcome.err;
  EXPECT_TRUE(fs::exists(here.on_host("incoming/web/deep/er")));
  EXPECT_FALSE(fs::exists(here.on_host("incoming/web/deep/er/still")));
}

TEST(CopyFault, SpecialFilesAndLinksThatLeadOutAreLeftOut) {
  Copies here;
  const std::string tree = here.dir() + "/tree";
  fs::create_directory(tree);
  ASSERT_EQ(::mkfifo((tree + "/fifo").c_str(), 0600), 0);
  fs::create_symlink("/etc/passwd", tree + "/absolute");
  fs::create_symlink("../../outside", tree + "/out");
  write_file(tree + "/file", "x");
  const Outcome outcome = here.copy({tree, "web:"});
  EXPECT_EQ(outcome.code, 14) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("tree/fifo: neither file, folder nor link; left out"));
  EXPECT_THAT(outcome.err,
              HasSubstr("tree/absolute: refused; left out (the link's target is absolute)"));
  EXPECT_THAT(outcome.err,
              HasSubstr("tree/out: refused; left out (the link leads out of the destination)"));
  EXPECT_EQ(read_file(here.in_guest("tree/file")), "x");
  EXPECT_EQ(snapshot(here.in_guest("tree")).size(), 1U);
}

TEST(CopyFault, TwoTransfersOfOneFileDoNotMixTheirBytes) {
  Copies here;
  make_file(here.dir() + "/large", 8 * mebibyte);
  Process first = here.begin({"--bwlimit", "8M", here.dir() + "/large", "web:"});
  ASSERT_TRUE(eventually([&] { return fs::exists(here.in_guest(".large.xenlane-part")); }));
  const Outcome second = here.copy({here.dir() + "/large", "web:"});
  EXPECT_EQ(second.code, 12) << second.err;
  EXPECT_THAT(second.err, HasSubstr("another transfer writes the same file"));
  EXPECT_EQ(first.wait(), 0);
  EXPECT_TRUE(read_file(here.in_guest("large")) == read_file(here.dir() + "/large"));
}

}  // namespace
}  // namespace xenlane::tests

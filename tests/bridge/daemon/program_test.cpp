// What a daemon does before it serves anybody: its folder, its limits, and how it says that it
// cannot start.
#include "bridge/daemon/program.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <functional>
#include <map>

#include "bridge/cli/exit_codes.hpp"
#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;
using transport::LaneFailureKind;

/// How `start` gave up; an exit code of -1 when it did not.
StartFailure failure_of(const std::function<void()>& start) {
  try {
    start();
  } catch (const StartFailure& failure) {
    return failure;
  }
  return {-1, "it started"};
}

TEST(RunDir, IsMadeWithItsParentsAndServedByOneDaemonAtATime) {
  const TempDir dir;
  const std::string folder = dir / "var/run/xenlane";
  {
    const auto first = lock_run_dir(folder);
    EXPECT_TRUE(std::filesystem::is_directory(folder));
    const StartFailure second = failure_of([&] { lock_run_dir(folder); });
    EXPECT_EQ(second.exit_code, exit_broken);
    EXPECT_EQ(second.what, folder + ": another xenlane daemon serves this folder; stop it first");
  }
  EXPECT_TRUE(lock_run_dir(folder)) << "free again when its daemon has ended";
}

TEST(RunDir, ThatCannotBeMadeOrLockedIsNamedWithTheRemedy) {
  const TempDir dir;
  const std::string file = dir.write("file", "not a folder");
  const StartFailure below = failure_of([&] { lock_run_dir(file + "/run"); });
  EXPECT_EQ(below.exit_code, exit_broken);
  EXPECT_THAT(below.what, AllOf(StartsWith(file + "/run: "), HasSubstr("--run-dir")));

  std::filesystem::create_directories(dir / "run/.lock");
  const StartFailure lock = failure_of([&] { lock_run_dir(dir / "run"); });
  EXPECT_EQ(lock.exit_code, exit_broken);
  EXPECT_THAT(lock.what, AllOf(StartsWith(dir / "run/.lock: "), HasSubstr("--run-dir")));
}

TEST(Start, WithoutXenstoreThisIsNoXenDomain) {
  const TempDir dir;
  const StartFailure absent = failure_of([&] { require_xenstore(dir / "socket"); });
  EXPECT_EQ(absent.exit_code, exit_no_xen);
  EXPECT_THAT(absent.what, AllOf(StartsWith(dir / "socket: No such file or directory"),
                                 HasSubstr("no Xen domain")));
  EXPECT_EQ(failure_of([&] { require_xenstore(dir.write("socket", "")); }).exit_code, -1);
}

TEST(Start, EveryLaneFailureHasItsExitCode) {
  const std::map<LaneFailureKind, int> documented{
      {LaneFailureKind::no_xen, exit_no_xen},
      {LaneFailureKind::no_permission, exit_not_permitted},
      {LaneFailureKind::no_grants, exit_too_few_grants},
      {LaneFailureKind::no_event_channel, exit_broken},
      {LaneFailureKind::no_ring, exit_broken},
      {LaneFailureKind::timed_out, exit_broken}};
  for (const auto& [kind, code] : documented) EXPECT_EQ(exit_code_of(kind), code);
}

TEST(Start, FatalConfigurationIsToldLineByLineAndThenInOne) {
  const TempDir dir;
  const std::string path = dir.write("x.toml", "[daemon\n");
  testing::internal::CaptureStderr();
  const StartFailure failure = failure_of([&] { load_or_fail(Side::guest, path, std::nullopt); });
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_EQ(failure.exit_code, exit_configuration);
  EXPECT_THAT(failure.what, StartsWith(path + ": "));
  EXPECT_THAT(told, StartsWith(path + ":1:"));
}

TEST(Start, RunDirOfTheCommandLineCountsMoreThanTheFiles) {
  const TempDir dir;
  const std::string path = dir.write("x.toml", "[daemon]\nrun_dir = \"/run/of/file\"\n");
  EXPECT_EQ(load_or_fail(Side::host, path, std::nullopt).run_dir, "/run/of/file");
  EXPECT_EQ(load_or_fail(Side::host, path, "/run/of/option").run_dir, "/run/of/option");
}

TEST(Start, LogsWhatItsLevelAsksForToStderr) {
  const auto usual = spdlog::default_logger();
  const std::map<LogLevel, std::string> expected{
      {LogLevel::error, "error: four\n"},
      {LogLevel::warn, "warning: three\nerror: four\n"},
      {LogLevel::info, "info: two\nwarning: three\nerror: four\n"},
      {LogLevel::debug, "debug: one\ninfo: two\nwarning: three\nerror: four\n"}};
  for (const auto& [level, lines] : expected) {
    testing::internal::CaptureStderr();
    start_logging(level);
    spdlog::debug("one");
    spdlog::info("two");
    spdlog::warn("three");
    spdlog::error("four");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), lines);
  }
  spdlog::set_default_logger(usual);
}

TEST(Start, TakesAllOpenFilesThatItMayHave) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{before.rlim_cur / 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  raise_file_limit();
  rlimit after{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace xenlane::bridge

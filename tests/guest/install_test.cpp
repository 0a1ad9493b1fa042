// What `cmake --install` puts where, for a prefix that the build knew nothing of, and whether
// systemd understands it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/e2e/process.hpp"

namespace xenlane {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using tests::read_file;

class Install : public testing::Test {
 protected:
  void SetUp() override {
    auto name = (fs::temp_directory_path() / "xenlane-install-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root = name;
  }
  void TearDown() override { fs::remove_all(root); }

  void install(const std::string& component, const fs::path& prefix,
               const std::string& destdir = "") const {
    const auto outcome =
        tests::run_program({"/usr/bin/env", "DESTDIR=" + destdir, XENLANE_CMAKE, "--install",
                            XENLANE_BUILD_DIR, "--prefix", prefix, "--component", component},
                           root);
    ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  }
  /// All files below a folder, in order.
  static std::vector<std::string> files_below(const fs::path& folder) {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_directory()) files.push_back(entry.path().lexically_relative(folder));
    }
    std::ranges::sort(files);
    return files;
  }

  fs::path root;
};

TEST_F(Install, TheGuestsSideIsAProgramARuleAndUnits) {
  install("guest", "/usr/local", root / "dest");
  EXPECT_THAT(
      files_below(root / "dest/usr/local"),
      ElementsAre("lib/systemd/system/serial-getty@.service.d/50-xen-channel.conf",
                  "lib/systemd/system/xenlane-forward-guest.service",
                  "lib/systemd/system/xenlane-guest.service", "lib/tmpfiles.d/xen-channel.conf",
                  "lib/udev/rules.d/60-xen-channel.rules", "sbin/xen-console-setup",
                  "sbin/xenlane-guest"));
  EXPECT_THAT(read_file(root / "dest/usr/local/lib/udev/rules.d/60-xen-channel.rules"),
              HasSubstr("IMPORT{program}=\"/usr/local/sbin/xen-console-setup --udev $kernel\""));
}

TEST_F(Install, TheHostsSideIsAProgramAndItsUnit) {
  install("host", "/usr/local", root / "dest");
  EXPECT_THAT(files_below(root / "dest/usr/local"),
              ElementsAre("lib/systemd/system/xenlane-forward-host.service",
                          "lib/systemd/system/xenlane-host.service", "sbin/xenlane-host"));
}

TEST_F(Install, SystemdFindsNoFaultWithTheUnits) {
  if (!fs::exists("/usr/bin/systemd-analyze")) GTEST_SKIP() << "there is no systemd-analyze here";
  install("guest", root / "prefix");
  install("host", root / "prefix");
  install("Unspecified", root / "prefix");  // the tool
  for (const char* unit : {"xenlane-guest.service", "xenlane-host.service",
                           "xenlane-forward-guest.service", "xenlane-forward-host.service"}) {
    const fs::path file = root / "prefix/lib/systemd/system" / unit;
    const auto outcome = tests::run_program(
        {"/usr/bin/systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file}, root);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "") << unit;
  }
}

}  // namespace
}  // namespace xenlane

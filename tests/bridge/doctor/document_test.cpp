// docs/doctor.md explains exactly the checks that there are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "bridge/doctor/finding.hpp"

namespace xenlane::bridge::doctor {
namespace {

/// The ids in the first column of its tables, which is where they stand between backticks.
std::vector<std::string> documented_ids() {
  std::ifstream document(XENLANE_SOURCE_DIR "/docs/doctor.md");
  std::vector<std::string> ids;
  std::string line;
  while (std::getline(document, line)) {
    constexpr std::string_view begin = "| `";
    if (!line.starts_with(begin)) continue;
    ids.push_back(line.substr(begin.size(), line.find('`', begin.size()) - begin.size()));
  }
  return ids;
}

TEST(DoctorDocument, ExplainsEveryCheckAndNoOther) {
  std::vector<std::string> ids(check::all.begin(), check::all.end());
  EXPECT_THAT(documented_ids(), ::testing::ElementsAreArray(ids));
}

}  // namespace
}  // namespace xenlane::bridge::doctor

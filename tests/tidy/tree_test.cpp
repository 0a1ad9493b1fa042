// Holds the tree against the rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/tidy/rules.hpp"

namespace xenlane::tidy {
namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;

void read_file(const fs::path& file, const fs::path& root, Tree& tree) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  tree[file.lexically_relative(root).string()] = text.str();
}

Tree read_tree() {
  const fs::path root = XENLANE_SOURCE_DIR;
  Tree tree;
  for (const char* folder : {".ci", "bridge", "docs", "guest", "host", "tests", "transport"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.is_regular_file()) read_file(entry.path(), root, tree);
    }
  }
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_regular_file()) read_file(entry.path(), root, tree);
  }
  tree.erase(".git");  // a file in a worktree of git's: where the repository is
  tree.erase("tests/tidy/rules_test.cpp");  // its samples are faults on purpose
  return tree;
}

class TidyTree : public ::testing::Test {
 protected:
  template <typename Check>
  Faults faults_of(Check check) const {
    Faults all;
    for (const auto& [path, text] : tree_) {
      for (auto& fault : check(path, text)) all.push_back(std::move(fault));
    }
    return all;
  }

  const Tree tree_ = read_tree();
};

TEST_F(TidyTree, IsThereToBeRead) {
  EXPECT_TRUE(tree_.contains("README.md"));
  EXPECT_TRUE(tree_.contains("transport/vchan/vchan_lane.cpp"));
  EXPECT_GT(tree_.size(), 100U);
}

TEST_F(TidyTree, FilesLinesAndFunctionsAreShort) {
  EXPECT_THAT(faults_of([](const auto& path, const auto& text) {
                return is_source(path) ? check_sizes(path, text) : Faults{};
              }),
              IsEmpty());
}

TEST_F(TidyTree, LayersKnowOnlyThoseBelowThem) {
  EXPECT_THAT(faults_of(check_layers), IsEmpty());
}

TEST_F(TidyTree, WhatHasNoInputOrOutputReachesNeitherAsioNorXen) {
  EXPECT_THAT(faults_of([&](const auto& path, const auto&) { return check_pure(tree_, path); }),
              IsEmpty());
}

TEST_F(TidyTree, NothingIsLeftToDoAndNoMachineIsNamed) {
  EXPECT_THAT(faults_of(check_words), IsEmpty());
}

TEST_F(TidyTree, EveryFileSaysWhatItIsFor) {
  EXPECT_THAT(faults_of([&](const auto& path, const auto&) { return check_opening(tree_, path); }),
              IsEmpty());
}

TEST_F(TidyTree, DocumentsThatAreNamedExist) {
  EXPECT_THAT(faults_of([&](const auto& path, const auto&) { return check_links(tree_, path); }),
              IsEmpty());
}

TEST_F(TidyTree, TestsThatDocumentsNameExist) {
  EXPECT_THAT(
      faults_of([&](const auto& path, const auto&) { return check_named_tests(tree_, path); }),
      IsEmpty());
}

TEST_F(TidyTree, EveryRequirementIsShownByATestOrSaysThatItIsNot) {
  std::istringstream page(tree_.at("docs/requirements.md"));
  int number = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| R")) continue;
    EXPECT_TRUE(line.starts_with("| R" + std::to_string(++number) + ". ")) << line;
    const bool has_test = line.find("[`") != std::string::npos;
    EXPECT_TRUE(has_test || line.find("**not yet**") != std::string::npos) << line;
  }
  EXPECT_GE(number, 20);
}

}  // namespace
}  // namespace xenlane::tidy

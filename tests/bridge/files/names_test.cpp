// Which names and links are let in: lists of both, and random trees in which the kernel itself says
// where each link leads.
#include "bridge/files/names.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <set>

#include "tests/bridge/temp_dir.hpp"

namespace xenlane::bridge::files {
namespace {

namespace fs = std::filesystem;
using std::string_literals::operator""s;

TEST(FilesNames, ThatAreLetIn) {
  for (const std::string& name :
       {"a"s, "..."s, "..a"s, ".a"s, "a.."s, "-rf"s, "a b"s, "~"s, "*"s, "a\\b"s, "con"s,
        "gr\xc3\xb6\xc3\x9f"
        "e"s,
        "\xe6\x97\xa5\xe6\x9c\xac"s, "\xf0\x9f\x98\x80"s, std::string(255, 'a'),
        ".xenlane-part-of-it"s, "xenlane-part"s}) {
    EXPECT_EQ(fault_of_name(name, NameRule::printable), "") << name;
    EXPECT_EQ(fault_of_name(name, NameRule::any), "") << name;
  }
}

TEST(FilesNames, ThatNeverAre) {
  for (const std::string& name :
       {""s, "."s, ".."s, "/"s, "a/b"s, "/a"s, "a/"s, "../a"s, "a/.."s, "\0"s, "a\0"s, "\0a"s,
        std::string(256, 'a'), ".xenlane-part"s, "a.xenlane-part"s, "..xenlane-part"s}) {
    EXPECT_NE(fault_of_name(name, NameRule::any), "") << name;
    EXPECT_NE(fault_of_name(name, NameRule::printable), "") << name;
  }
}

TEST(FilesNames, ThatAreLetInOnRequestOnly) {
  for (const std::string& name : {"\n"s,
                                  "a\tb"s,
                                  "\x1b[2J"s,
                                  "\x7f"s,
                                  "\xc2\x80"s,
                                  "\xc2\x9f"s,
                                  "\xe2\x80\xa8"s,
                                  "\xe2\x80\xa9"s,
                                  "\xe2\x80\xae"s,
                                  "\xe2\x80\x8e"s,
                                  "\xd8\x9c"s,
                                  "\xe2\x81\xa6"s,
                                  "\xe2\x81\xa9"s,
                                  "\x80"s,
                                  "\xc0\x80"s,
                                  "\xc1\xbf"s,
                                  "\xe0\x80\xaf"s,
                                  "\xe0\x9f\xbf"s,
                                  "\xed\xa0\x80"s,
                                  "\xed\xbf\xbf"s,
                                  "\xf0\x8f\xbf\xbf"s,
                                  "\xf4\x90\x80\x80"s,
                                  "\xf5\x80\x80\x80"s,
                                  "\xff"s,
                                  "\xe2\x80"s,
                                  "\xf0\x9f\x98"s,
                                  "a\xc3"s}) {
    EXPECT_NE(fault_of_name(name, NameRule::printable), "") << name;
    EXPECT_EQ(fault_of_name(name, NameRule::any), "") << name;
  }
}

/// Every code point there is, and each byte of its neighbours.
TEST(FilesNames, OfOneCharacterEachAreJudgedByWhatItIs) {
  const auto utf_8 = [](std::uint32_t point) {
    const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
    if (point < 0x80) return std::string{byte(point)};
    if (point < 0x800) return std::string{byte(0xC0 | point >> 6), byte(0x80 | (point & 63))};
    if (point < 0x10000) {
      return std::string{byte(0xE0 | point >> 12), byte(0x80 | (point >> 6 & 63)),
                         byte(0x80 | (point & 63))};
    }
    return std::string{byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 63)),
                       byte(0x80 | (point >> 6 & 63)), byte(0x80 | (point & 63))};
  };
  std::size_t refused = 0;
  for (std::uint32_t point = 0x20; point < 0x120000; ++point) {
    refused += fault_of_name("n" + utf_8(point), NameRule::printable).empty() ? 0U : 1U;
  }
  // "/", DEL and C1, 12 that turn the writing, 2 that separate, the surrogates, what is too high.
  EXPECT_EQ(refused, 1U + 33U + 12U + 2U + 2048U + 0x10000U);
}

TEST(FilesNames, PartialOnesAreNoNamesAndDoNotCollide) {
  std::set<std::string> seen;
  for (std::size_t size = 1; size <= name_bytes_max; ++size) {
    for (const char letter : {'a', 'b'}) {
      const std::string partial = partial_name(std::string(size, letter));
      EXPECT_LE(partial.size(), name_bytes_max);
      EXPECT_NE(fault_of_name(partial, NameRule::any), "");
      EXPECT_TRUE(seen.insert(partial).second) << partial;
    }
  }
}

TEST(FilesLinks, ThatStayInside) {
  struct Sample {
    std::string target;
    std::size_t depth;
  };
  for (const auto& [target, depth] : std::vector<Sample>{{"a", 0},
                                                         {"a/b", 0},
                                                         {".", 0},
                                                         {"./a", 0},
                                                         {"a/", 0},
                                                         {"a//b", 0},
                                                         {"..", 1},
                                                         {"../a", 1},
                                                         {"./../a", 1},
                                                         {"..//../a", 2},
                                                         {"...", 0},
                                                         {"..a/b", 0}}) {
    EXPECT_EQ(fault_of_link(target, depth, NameRule::any), "") << target;
    for (std::size_t more = 1; more < 3; ++more)
      EXPECT_EQ(fault_of_link(target, depth + more, NameRule::any), "");
    if (depth > 0) {
      EXPECT_NE(fault_of_link(target, depth - 1, NameRule::any), "") << target;
    }
  }
}

TEST(FilesLinks, ThatDoNot) {
  for (const std::string& target :
       {""s, "/"s, "//"s, "/a"s, "a\0"s, "\0"s, "a/.."s, "a/../b"s, "a/./.."s, "a//.."s,
        "../a/../.."s, "a/../../../../../../../../../b"s, std::string(4096, 'a')}) {
    EXPECT_NE(fault_of_link(target, 100, NameRule::any), "") << target;
  }
}

TEST(FilesLinks, AreWritingToo) {
  for (const std::string& target : {"a\x1b"s, "\xe2\x80\xae"s, "a/\xff"s, "\n"s}) {
    EXPECT_NE(fault_of_link(target, 0, NameRule::printable), "") << target;
    EXPECT_EQ(fault_of_link(target, 0, NameRule::any), "") << target;
  }
}

/// A tree of folders, and links in them that were let in: where the kernel goes is inside.
class RandomTree {
 public:
  explicit RandomTree(unsigned seed) : random_(seed) {
    base_ = fs::canonical(dir_.path()).string() + "/base";
    fs::create_directory(base_);
    dir_.write("a", "outside");
    dir_.write("b/a", "outside");
    std::vector<std::string> folders{""};
    for (int i = 0; i < 12; ++i) {
      const std::string folder = folders[random_() % folders.size()] + "/" + name();
      if (fs::create_directory(base_ + folder)) folders.push_back(folder);
    }
    for (int i = 0; i < 60; ++i) add_link(folders[random_() % folders.size()]);
  }

  std::size_t links() const { return links_; }

  /// Links that lead somewhere else than below the base.
  std::vector<std::string> leaks() const {
    std::vector<std::string> leaks;
    for (const auto& entry : fs::recursive_directory_iterator(base_)) {
      if (!entry.is_symlink()) continue;
      std::error_code dangles;
      const std::string to = fs::canonical(entry.path(), dangles).string();
      if (!dangles && to != base_ && !to.starts_with(base_ + "/")) {
        leaks.push_back(entry.path().string() + " -> " + fs::read_symlink(entry.path()).string() +
                        ": " + to);
      }
    }
    return leaks;
  }

 private:
  std::string name() { return std::string(1, "abc"[random_() % 3]); }

  void add_link(const std::string& folder) {
    std::string target;
    for (auto parts = 1 + random_() % 5; parts > 0; --parts) {
      static constexpr const char* odd[] = {"..", "..", "..", ".", "", "/"};
      target += random_() % 2 == 0 ? odd[random_() % 6] : name();
      if (parts > 1 || random_() % 4 == 0) target += "/";
    }
    const auto depth = static_cast<std::size_t>(std::ranges::count(folder, '/'));
    if (!fault_of_link(target, depth, NameRule::any).empty()) return;
    const std::string path = base_ + folder + "/l" + name();
    links_ += ::symlink(target.c_str(), path.c_str()) == 0 ? 1U : 0U;
    // Links are names that others lead through.
    const std::string plain = base_ + folder + "/" + name();
    links_ += ::symlink(target.c_str(), plain.c_str()) == 0 ? 1U : 0U;
  }

  std::mt19937 random_;
  TempDir dir_;
  std::string base_;
  std::size_t links_ = 0;
};

TEST(FilesLinks, LeadInsideWhereverTheKernelGoes) {
  std::size_t links = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    const RandomTree tree(seed);
    links += tree.links();
    const auto leaks = tree.leaks();
    EXPECT_TRUE(leaks.empty()) << "seed " << seed << ": " << leaks.front();
  }
  EXPECT_GT(links, 2000U) << "too few links were let in to show anything";
}

TEST(FilesServicePath, IsTakenApartOrRefused) {
  const auto parse = [](const std::string& text) {
    const auto path = parse_service_path(text);
    if (!path) return "refused: "s + path.error().text;
    std::string out;
    for (const std::string& component : path->components) out += component + "|";
    return out + (path->is_folder ? "folder" : "name");
  };
  EXPECT_EQ(parse(""), "folder");
  EXPECT_EQ(parse("/"), "folder");
  EXPECT_EQ(parse("a"), "a|name");
  EXPECT_EQ(parse("/a//b"), "a|b|name");
  EXPECT_EQ(parse("a/"), "a|folder");
  EXPECT_EQ(parse("a/."), "a|folder");
  EXPECT_EQ(parse("./a"), "a|name");
  EXPECT_EQ(parse("."), "folder");
  for (const std::string& text : {".."s, "a/.."s, "../a"s, "/../a"s, "a/../b"s, "a\0b"s,
                                  std::string(256, 'a'), "a/b.xenlane-part"s}) {
    EXPECT_TRUE(parse(text).starts_with("refused: ")) << text;
  }
}

TEST(FilesExclude, MatchesNamesOrWholePaths) {
  const auto matches = [](const std::string& pattern, const std::string& path, bool is_folder) {
    return Exclude(pattern).matches(path, path.substr(path.rfind('/') + 1), is_folder);
  };
  EXPECT_TRUE(matches("*.o", "a/b.o", false));
  EXPECT_FALSE(matches("*.o", "a/b.o.c", false));
  EXPECT_TRUE(matches("build/", "a/build", true));
  EXPECT_FALSE(matches("build/", "a/build", false));
  EXPECT_TRUE(matches("a/*.o", "a/b.o", false));
  EXPECT_TRUE(matches("/a/*.o", "a/b.o", false));
  EXPECT_FALSE(matches("/b.o", "a/b.o", false));
  EXPECT_TRUE(matches("a/b/", "a/b", true));
  EXPECT_FALSE(matches("", "a", false));
  EXPECT_FALSE(matches("/", "a", true));
  EXPECT_TRUE(matches("?", "x/a", false));
}

}  // namespace
}  // namespace xenlane::bridge::files

#include "tests/tidy/rules.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

namespace xenlane::tidy {

namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::string at(const std::string& path, std::size_t line, const std::string& what) {
  return path + ":" + std::to_string(line) + ": " + what;
}

std::size_t columns_of(std::string_view line) {
  return static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;  // all but UTF-8's later bytes
  }));
}

/// A function's last line is a lone brace as far in as its first line, and between them everything
/// is further in. `indent` is 0 for functions, 2 for those within a class.
void check_functions(const std::string& path, const std::vector<std::string_view>& lines,
                     std::size_t indent, Faults& faults) {
  const std::string margin(indent, ' ');
  std::size_t begin = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    if (!line.starts_with(margin) || line.size() <= indent) continue;
    const std::string_view rest = line.substr(indent);
    if (rest == "}") {
      const std::size_t length = i - begin + 1;
      if (length > function_lines_max) {
        faults.push_back(at(path, begin + 1,
                            "a function of " + std::to_string(length) + " lines, at most " +
                                std::to_string(function_lines_max)));
      }
    } else if (rest[0] != ' ' && rest[0] != '#' && !rest.starts_with("//")) {
      begin = i;
    }
  }
}

struct Include {
  std::size_t line;
  std::string name;
};

std::vector<Include> includes_of(const std::string& text) {
  std::vector<Include> includes;
  std::size_t number = 0;
  for (const std::string_view line : lines_of(text)) {
    ++number;
    if (!line.starts_with("#include ")) continue;
    const std::string_view name = line.substr(9);
    const std::size_t end = name.find_first_of(">\"", 1);
    if (end != std::string_view::npos)
      includes.push_back({number, std::string(name.substr(1, end - 1))});
  }
  return includes;
}

bool is_in(std::string_view path, std::initializer_list<std::string_view> folders) {
  return std::any_of(folders.begin(), folders.end(),
                     [&](std::string_view folder) { return path.starts_with(folder); });
}

bool is_shipped(std::string_view path) {
  return is_in(path, {"transport/", "bridge/", "host/", "guest/"}) &&
         !path.starts_with("transport/xensim/");
}

bool is_asio_or_xen(std::string_view include) {
  return is_in(include, {"boost/asio", "xen", "libxen"});
}

bool is_pure(std::string_view path) {
  if (path.starts_with("transport/console/console_")) return false;
  return is_in(
      path, {"bridge/wire/", "bridge/mux/", "bridge/session/session.", "bridge/session/handshake.",
             "bridge/session/lane_policy.", "bridge/doctor/examine", "bridge/forward/address.",
             "bridge/forward/request.", "bridge/forward/rule.", "bridge/forward/socks.",
             "bridge/forward/spec.", "transport/console/"});
}

bool is_word_byte(char byte) {
  return std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '_';
}

void find_all(std::string_view text, std::string_view what, auto&& found) {
  for (std::size_t i = text.find(what); i != std::string_view::npos; i = text.find(what, i + 1)) {
    found(i);
  }
}

std::size_t line_at(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  return 1 + static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
}

bool exists(const Tree& tree, const std::string& path) {
  if (tree.contains(path)) return true;
  const auto below = tree.lower_bound(path.ends_with('/') ? path : path + '/');
  return below != tree.end() && below->first.starts_with(path);
}

bool has_test(const std::string& text, const std::string& suite, const std::string& name) {
  for (const char* macro : {"TEST(", "TEST_F(", "TEST_P("}) {
    if (text.find(macro + suite + ", " + name + ")") != std::string::npos) return true;
  }
  return false;
}

/// Listed among the scenarios, as one that is defined in that file.
bool has_scenario(const Tree& tree, const std::string& name, const std::string& file) {
  const auto list = tree.find("tests/xen/suite/scenarios.py");
  if (list == tree.end()) return false;
  const std::string entry = "\"" + name + "\": ";
  const std::size_t begin = list->second.find(entry);
  if (begin == std::string::npos) return false;
  const std::size_t word = begin + entry.size();
  const std::size_t end = list->second.find_first_of(",(\n", word);
  return tree.at(file).find("def " + list->second.substr(word, end - word) + "(") !=
         std::string::npos;
}

}  // namespace

bool is_cpp(std::string_view path) {
  return path.ends_with(".cpp") || path.ends_with(".hpp");
}

bool is_source(std::string_view path) {
  return is_cpp(path) || path.ends_with(".sh") || path == ".ci/run";
}

bool is_document(std::string_view path) {
  return path.ends_with(".md");
}

Faults check_sizes(const std::string& path, const std::string& text) {
  Faults faults;
  const auto lines = lines_of(text);
  if (lines.size() > file_lines_max) {
    faults.push_back(
        at(path, lines.size(), "more than " + std::to_string(file_lines_max) + " lines"));
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (columns_of(lines[i]) <= line_columns_max) continue;
    faults.push_back(at(path, i + 1, "more than " + std::to_string(line_columns_max) + " columns"));
  }
  if (is_cpp(path)) {
    check_functions(path, lines, 0, faults);
    check_functions(path, lines, 2, faults);
  }
  return faults;
}

Faults check_layers(const std::string& path, const std::string& text) {
  Faults faults;
  for (const auto& [line, name] : includes_of(text)) {
    const auto fault = [&](const std::string& why) {
      faults.push_back(at(path, line, "includes " + name + ": " + why));
    };
    if (path.starts_with("transport/") && is_in(name, {"bridge/", "host/", "guest/"})) {
      fault("transport knows nothing of those above it");
    }
    if (path.starts_with("bridge/") && is_in(name, {"host/", "guest/"})) {
      fault("bridge knows neither host nor guest");
    }
    if ((path.starts_with("host/") && name.starts_with("guest/")) ||
        (path.starts_with("guest/") && name.starts_with("host/"))) {
      fault("host and guest do not know each other");
    }
    if (is_shipped(path) && (name.starts_with("transport/xensim/") || name.starts_with("tests/"))) {
      fault("shipped programs contain no simulation and no tests");
    }
    // A test may play a peer of its own with it.
    if (name == "libxenvchan.h" && path != "transport/vchan/vchan_lane.cpp" &&
        !path.starts_with("tests/")) {
      fault("of all but tests, only transport/vchan/vchan_lane.cpp knows libxenvchan");
    }
  }
  return faults;
}

Faults check_pure(const Tree& tree, const std::string& path) {
  Faults faults;
  if (!is_pure(path)) return faults;
  std::set<std::string> seen{path};
  std::vector<std::string> to_read{path};
  while (!to_read.empty()) {
    const std::string reader = to_read.back();
    to_read.pop_back();
    for (const auto& [line, name] : includes_of(tree.at(reader))) {
      if (is_asio_or_xen(name)) {
        faults.push_back(at(
            path, 1,
            "has no I/O, but gets " + name + " by way of " + reader + ":" + std::to_string(line)));
      } else if (tree.contains(name) && seen.insert(name).second) {
        to_read.push_back(name);
      }
    }
  }
  return faults;
}

Faults check_words(const std::string& path, const std::string& text) {
  Faults faults;
  // Spelt in two parts, or this file would be the first to be found.
  for (const std::string word : {"TO"
                                 "DO",
                                 "FIX"
                                 "ME",
                                 "XX"
                                 "X"}) {
    find_all(text, word, [&](std::size_t offset) {
      const std::size_t end = offset + word.size();
      const bool is_part = (offset > 0 && is_word_byte(text[offset - 1])) ||
                           (end < text.size() && is_word_byte(text[end]));
      if (!is_part) faults.push_back(at(path, line_at(text, offset), "says " + word));
    });
  }
  for (const std::string name : {"home", "Users", "work"}) {
    const std::string folder = '/' + name + '/';
    find_all(text, folder, [&](std::size_t offset) {
      // A path below something else, as in "$root/home/x", is nobody's machine.
      const char before = offset > 0 ? text[offset - 1] : ' ';
      if (is_word_byte(before) || before == '}' || before == '.' || before == '-') return;
      faults.push_back(at(path, line_at(text, offset), "names " + folder));
    });
  }
  return faults;
}

Faults check_opening(const Tree& tree, const std::string& path) {
  if (!is_source(path)) return {};
  const std::string& text = tree.at(path);
  if (is_cpp(path)) {
    const std::string stem = path.substr(0, path.size() - 4);
    if (text.starts_with("//") || (path.ends_with(".cpp") && tree.contains(stem + ".hpp")))
      return {};
  } else {
    const auto lines = lines_of(text);
    const std::size_t first = !lines.empty() && lines[0].starts_with("#!") ? 1 : 0;
    if (lines.size() > first && lines[first].starts_with("#")) return {};
  }
  return {at(path, 1, "does not open with a comment that says what it is for")};
}

Faults check_links(const Tree& tree, const std::string& path) {
  namespace fs = std::filesystem;
  Faults faults;
  const std::string& text = tree.at(path);
  if (is_document(path)) {
    find_all(text, "](", [&](std::size_t offset) {
      const std::size_t begin = offset + 2;
      const std::string target = text.substr(begin, text.find_first_of(")# \n", begin) - begin);
      if (target.empty() || target.find("://") != std::string::npos) return;
      const auto file = (fs::path(path).parent_path() / target).lexically_normal().string();
      if (!exists(tree, file)) {
        faults.push_back(
            at(path, line_at(text, offset), "links to " + file + ", which does not exist"));
      }
    });
  }
  find_all(text, "docs/", [&](std::size_t offset) {
    if (offset > 0 && (is_word_byte(text[offset - 1]) || text[offset - 1] == '/')) return;
    std::size_t end = offset + 5;
    while (end < text.size() && (is_word_byte(text[end]) || text[end] == '-')) ++end;
    if (text.compare(end, 3, ".md") != 0) return;
    const std::string document = text.substr(offset, end + 3 - offset);
    if (tree.contains(document)) return;
    faults.push_back(
        at(path, line_at(text, offset), "names " + document + ", which does not exist"));
  });
  return faults;
}

Faults check_named_tests(const Tree& tree, const std::string& path) {
  namespace fs = std::filesystem;
  Faults faults;
  if (!is_document(path)) return faults;
  const std::string& text = tree.at(path);
  find_all(text, "[`", [&](std::size_t offset) {
    const std::size_t begin = offset + 2;
    const std::size_t end = text.find("`](", begin);
    if (end == std::string::npos || end > text.find('\n', begin)) return;
    const std::string name = text.substr(begin, end - begin);
    const std::size_t link = end + 3;
    const std::string target = text.substr(link, text.find(')', link) - link);
    const auto file = (fs::path(path).parent_path() / target).lexically_normal().string();
    if (!file.starts_with("tests/") || !tree.contains(file)) return;
    constexpr std::string_view scenario = "scenario ";
    const std::size_t dot = name.find('.');
    bool is_there = true;
    if (name.starts_with(scenario)) {
      is_there = has_scenario(tree, name.substr(scenario.size()), file);
    } else if (is_cpp(file) && dot != std::string::npos) {
      is_there = has_test(tree.at(file), name.substr(0, dot), name.substr(dot + 1));
    }
    if (is_there) return;
    faults.push_back(
        at(path, line_at(text, offset), "names " + name + ", which is not in " + file));
  });
  return faults;
}

}  // namespace xenlane::tidy

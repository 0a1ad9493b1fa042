// The rules of this tree's text: sizes, layers, words, links. Each looks at one file (or at one and
// what it includes) and returns a line per fault; what a compiler or clang-format checks is not
// here.
//
// The rules read text, not C++. They rely on the layout that clang-format gives, and where they
// cannot be sure they say nothing: a rule that cries wolf is soon switched off.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace xenlane::tidy {

using Faults = std::vector<std::string>;

/// The text of every file by its path from the root of the tree.
using Tree = std::map<std::string, std::string>;

inline constexpr std::size_t file_lines_max = 450;
inline constexpr std::size_t line_columns_max = 100;
inline constexpr std::size_t function_lines_max = 80;

bool is_cpp(std::string_view path);
bool is_source(std::string_view path);  ///< C++ or a shell script
bool is_document(std::string_view path);

/// Files, lines and functions that are too long.
Faults check_sizes(const std::string& path, const std::string& text);

/// Includes that point up, or sideways, or at what must not be known there.
Faults check_layers(const std::string& path, const std::string& text);

/// Asio or Xen reached, directly or through other files of the tree, by what has no I/O in it.
Faults check_pure(const Tree& tree, const std::string& path);

/// Notes to self, and paths that exist on one developer's machine only.
Faults check_words(const std::string& path, const std::string& text);

/// Files that do not say what they are for. A .cpp may leave that to the .hpp beside it.
Faults check_opening(const Tree& tree, const std::string& path);

/// Links of a document, and documents named in comments, that lead nowhere.
Faults check_links(const Tree& tree, const std::string& path);

/// Tests that a document names by links, [`Suite.Name`](FILE) or [`scenario NAME`](FILE), and that
/// are not in FILE, or no scenario of the suite of tests/xen.
Faults check_named_tests(const Tree& tree, const std::string& path);

}  // namespace xenlane::tidy

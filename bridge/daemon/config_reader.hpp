// Reading TOML values into numbers and texts, each reader answering with what is wrong (empty:
// nothing). A section is a list of keys; whatever is not on the list is an unknown key. Private to
// the configuration loader.
#pragma once

#include <toml++/toml.h>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bridge/channel/text.hpp"

namespace xenlane::bridge::config_detail {

/// A key of a section and how to take its value; `read` returns what is wrong, or nothing.
struct Key {
  std::string name;
  std::function<std::string(const toml::node&)> read;
};

/// A fault in a section: the line it is on and what is wrong.
struct Fault {
  std::uint32_t line = 0;
  std::string text;
};

/// Reads every key of `table`. Faults come in the order of the lines and start with
/// "<section>.<key>". `seen`, when given, is called for every key that was read without a fault.
std::vector<Fault> read_section(const toml::table& table, std::string_view section,
                                const std::vector<Key>& keys,
                                const std::function<void(const std::string&, std::uint32_t)>& seen);

/// "unknown key 'x'; did you mean 'y'?"
std::string unknown_key(std::string_view key, const std::vector<std::string>& known);

std::string read_text(const toml::node& node, std::string& out);
/// A list of one or more non-empty texts.
std::string read_texts(const toml::node& node, std::vector<std::string>& out);
std::string read_count(const toml::node& node, std::uint32_t low, std::uint32_t high,
                       std::uint32_t& out);
/// Bytes: an integer, or a text such as "64KiB", "1MiB", "1GiB", "512B".
std::string read_bytes(const toml::node& node, std::uint64_t low, std::uint64_t high,
                       std::uint64_t& out);
/// Milliseconds: an integer, or a text such as "500ms", "2s", "1min".
std::string read_duration(const toml::node& node, std::uint32_t low_ms, std::uint32_t high_ms,
                          std::uint32_t& out_ms);
std::string read_flag(const toml::node& node, bool& out);
/// One of a few words; `index` becomes its place in `words`.
std::string read_choice(const toml::node& node, const std::vector<std::string>& words,
                        std::size_t& index);

/// "96MiB", "64KiB" or "1000 bytes": the largest unit that divides it.
std::string format_bytes(std::uint64_t bytes);
/// "2s" or "1500ms".
std::string format_duration(std::uint64_t milliseconds);

/// The line a node starts on.
std::uint32_t line_of(const toml::node& node);

}  // namespace xenlane::bridge::config_detail

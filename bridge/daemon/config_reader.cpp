#include "bridge/daemon/config_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <span>

namespace xenlane::bridge::config_detail {
namespace {

struct Unit {
  std::string_view suffix;
  std::uint64_t factor;
};

constexpr std::array<Unit, 4> byte_units = {
    {{"GiB", 1024 * 1024 * 1024}, {"MiB", 1024 * 1024}, {"KiB", 1024}, {"B", 1}}};
// "ms" comes before "s", which is its ending.
constexpr std::array<Unit, 3> duration_units = {{{"ms", 1}, {"min", 60000}, {"s", 1000}}};

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

/// "<digits><optional spaces><unit>", without overflow; nothing when it is not that.
std::optional<std::uint64_t> parse_with_unit(std::string_view text, std::span<const Unit> units) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  while (!suffix.empty() && suffix.front() == ' ') suffix.remove_prefix(1);
  for (const Unit& unit : units) {
    if (suffix != unit.suffix) continue;
    if (number > std::numeric_limits<std::uint64_t>::max() / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

/// An integer node, or a text with a unit, in [low, high]. `show` writes a value with its unit.
std::string read_quantity(const toml::node& node, std::span<const Unit> units, const char* expected,
                          std::uint64_t low, std::uint64_t high, std::string (*show)(std::uint64_t),
                          std::uint64_t& out) {
  std::uint64_t value = 0;
  if (const auto* integer = node.as_integer()) {
    if (integer->get() < 0) {
      return fmt::format("{} is out of range {} to {}", integer->get(), show(low), show(high));
    }
    value = static_cast<std::uint64_t>(integer->get());
  } else if (const auto* text = node.as_string()) {
    const auto parsed = parse_with_unit(text->get(), units);
    if (!parsed) return fmt::format("'{}' is not {}", escape_untrusted(text->get(), 40), expected);
    value = *parsed;
  } else {
    return fmt::format("must be {}, not {}", expected, type_name(node));
  }
  if (value < low || value > high) {
    return fmt::format("{} is out of range {} to {}", show(value), show(low), show(high));
  }
  out = value;
  return {};
}

}  // namespace

std::uint32_t line_of(const toml::node& node) {
  return static_cast<std::uint32_t>(node.source().begin.line);
}

std::string unknown_key(std::string_view key, const std::vector<std::string>& known) {
  const auto near = near_names(key, known);
  const std::string shown = escape_untrusted(key, 64);
  if (!near.empty())
    return fmt::format("unknown key '{}'; did you mean '{}'?", shown, near.front());
  return fmt::format("unknown key '{}'; known are {}", shown, fmt::join(known, ", "));
}

std::vector<Fault> read_section(
    const toml::table& table, std::string_view section, const std::vector<Key>& keys,
    const std::function<void(const std::string&, std::uint32_t)>& seen) {
  std::vector<Fault> faults;
  for (auto&& [toml_key, node] : table) {
    const std::string_view name = toml_key.str();
    const auto line = static_cast<std::uint32_t>(toml_key.source().begin.line);
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
    if (key == keys.end()) {
      std::vector<std::string> known;
      for (const Key& k : keys) known.push_back(k.name);
      faults.push_back({line, fmt::format("{}: {}", section, unknown_key(name, known))});
      continue;
    }
    const std::string wrong = key->read(node);
    if (!wrong.empty()) {
      faults.push_back({line, fmt::format("{}.{}: {}", section, name, wrong)});
    } else if (seen) {
      seen(key->name, line);
    }
  }
  // toml++ keeps a table sorted by key; people read a file by line.
  std::stable_sort(faults.begin(), faults.end(),
                   [](const Fault& a, const Fault& b) { return a.line < b.line; });
  return faults;
}

std::string read_text(const toml::node& node, std::string& out) {
  const auto* text = node.as_string();
  if (text == nullptr) return fmt::format("must be a text in quotes, not {}", type_name(node));
  if (text->get().empty()) return "is empty";
  if (text->get().find('\0') != std::string::npos) return "has a NUL byte";
  out = text->get();
  return {};
}

std::string read_texts(const toml::node& node, std::vector<std::string>& out) {
  const auto* list = node.as_array();
  if (list == nullptr) {
    return fmt::format("must be a list such as [\"web\", \"db*\"], not {}", type_name(node));
  }
  if (list->empty()) return "is an empty list";
  std::vector<std::string> texts;
  for (const toml::node& item : *list) {
    std::string text;
    const std::string wrong = read_text(item, text);
    if (!wrong.empty()) return fmt::format("item {} {}", texts.size() + 1, wrong);
    texts.push_back(std::move(text));
  }
  out = std::move(texts);
  return {};
}

std::string read_count(const toml::node& node, std::uint32_t low, std::uint32_t high,
                       std::uint32_t& out) {
  const auto* integer = node.as_integer();
  if (integer == nullptr) return fmt::format("must be an integer, not {}", type_name(node));
  const std::int64_t value = integer->get();
  if (value < low || value > high) {
    return fmt::format("{} is out of range {} to {}", value, low, high);
  }
  out = static_cast<std::uint32_t>(value);
  return {};
}

std::string read_bytes(const toml::node& node, std::uint64_t low, std::uint64_t high,
                       std::uint64_t& out) {
  return read_quantity(node, byte_units, "a size such as 65536 or \"64KiB\"", low, high,
                       &format_bytes, out);
}

std::string read_duration(const toml::node& node, std::uint32_t low_ms, std::uint32_t high_ms,
                          std::uint32_t& out_ms) {
  std::uint64_t value = 0;
  std::string wrong = read_quantity(node, duration_units, "a time such as 500, \"500ms\" or \"2s\"",
                                    low_ms, high_ms, &format_duration, value);
  if (wrong.empty()) out_ms = static_cast<std::uint32_t>(value);
  return wrong;
}

std::string read_flag(const toml::node& node, bool& out) {
  const auto* flag = node.as_boolean();
  if (flag == nullptr) return "must be true or false";
  out = flag->get();
  return {};
}

std::string read_choice(const toml::node& node, const std::vector<std::string>& words,
                        std::size_t& index) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end()) {
    return fmt::format("'{}' is not one of {}", escape_untrusted(text, 40), fmt::join(words, ", "));
  }
  index = static_cast<std::size_t>(found - words.begin());
  return {};
}

std::string format_bytes(std::uint64_t bytes) {
  for (const Unit& unit : byte_units) {
    if (unit.factor > 1 && bytes >= unit.factor && bytes % unit.factor == 0) {
      return fmt::format("{}{}", bytes / unit.factor, unit.suffix);
    }
  }
  return fmt::format("{} bytes", bytes);
}

std::string format_duration(std::uint64_t milliseconds) {
  if (milliseconds >= 1000 && milliseconds % 1000 == 0)
    return fmt::format("{}s", milliseconds / 1000);
  return fmt::format("{}ms", milliseconds);
}

}  // namespace xenlane::bridge::config_detail

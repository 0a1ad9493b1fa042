#include "bridge/daemon/config_connect.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "bridge/daemon/config_identity.hpp"

namespace xenlane::bridge::config_detail {

namespace {

/// Digits only, and no second way to write the same number.
std::optional<std::uint32_t> number_of(std::string_view text) {
  std::uint32_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = error == std::errc{} && stop == text.data() + text.size();
  return is_number && text == std::to_string(number) ? std::optional(number) : std::nullopt;
}

std::string read_meant_channel(const toml::node& node, std::uint32_t number,
                               ConnectNumbers& numbers) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  const auto name = ChannelName::parse(text);
  if (!name) return fmt::format("'{}': {}", escape_untrusted(text), name.error().text);
  numbers.insert_or_assign(number, *name);
  return {};
}

}  // namespace

std::vector<Key> connect_keys(const toml::table& table, ConnectConfig& connect) {
  std::vector<Key> keys{
      {"mode", [&connect](const toml::node& n) { return read_mode(n, connect.mode); }}};
  for (auto&& [key, node] : table) {
    const std::string name(key.str());
    const auto number = number_of(name);
    if (!number) continue;
    keys.push_back({name, [&connect, number = *number](const toml::node& n) {
                      return read_meant_channel(n, number, connect.numbers);
                    }});
  }
  return keys;
}

}  // namespace xenlane::bridge::config_detail

#include "bridge/daemon/channel_json.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include "bridge/daemon/config_channel.hpp"

namespace xenlane::bridge {

namespace json = boost::json;

namespace {

constexpr const char* lane_words[] = {"any", "vchan", "console"};

/// Keys of a section have texts, numbers, flags, and lists of these; nothing else gets through.
bool insert(toml::table& table, const std::string& key, const json::value& value);

bool append(toml::array& array, const json::value& value) {
  toml::table one;
  if (value.is_array() || !insert(one, "item", value)) return false;
  array.push_back(*one.get("item"));
  return true;
}

bool insert(toml::table& table, const std::string& key, const json::value& value) {
  if (const auto* text = value.if_string()) {
    table.insert(key, std::string(*text));
  } else if (value.is_int64() || value.is_uint64()) {
    boost::system::error_code error;
    const auto number = value.to_number<std::int64_t>(error);
    if (error) return false;
    table.insert(key, number);
  } else if (const auto* flag = value.if_bool()) {
    table.insert(key, *flag);
  } else if (const auto* list = value.if_array()) {
    toml::array array;
    for (const json::value& item : *list) {
      if (!append(array, item)) return false;
    }
    table.insert(key, std::move(array));
  } else {
    return false;
  }
  return true;
}

}  // namespace

json::object channel_to_json(const ChannelConfig& channel) {
  json::object out{{"name", channel.name.text()}, {"end", to_string(channel.end)}};
  const auto put = [&out](const char* key, const std::string& text) {
    if (!text.empty()) out[key] = text;
  };
  if (channel.target) out["target"] = channel.target->uri();
  if (channel.guest != "*") out["guest"] = channel.guest;
  if (channel.end != EndKind::dial) out["mode"] = fmt::format("{:04o}", channel.socket_mode);
  put("owner", channel.owner);
  put("group", channel.group);
  if (channel.lane != LanePreference::any) {
    out["lane"] = lane_words[static_cast<std::size_t>(channel.lane)];
  }
  put("console", channel.console);
  put("link", channel.link);
  for (const uid_t uid : channel.users) {
    if (!out.contains("users")) out["users"] = json::array();
    out["users"].as_array().push_back(uid);
  }
  for (const gid_t gid : channel.groups) {
    if (!out.contains("groups")) out["groups"] = json::array();
    out["groups"].as_array().push_back(gid);
  }
  if (channel.socket == SocketKind::seqpacket) out["socket"] = "seqpacket";
  if (channel.proxy_protocol) out["proxy_protocol"] = true;
  if (channel.target && channel.target->kind() == TargetKind::exec) {
    out["exec_max"] = channel.exec_max;
    if (channel.run_as) out["user"] = channel.run_as->name;
  }
  const auto put_rules = [&out](const char* key, const ForwardRules& rules) {
    if (rules.empty()) return;
    json::array texts;
    for (const ForwardRule& rule : rules) texts.emplace_back(rule.text());
    out[key] = std::move(texts);
  };
  put_rules("allow", channel.allow);
  put_rules("allow_listen", channel.allow_listen);
  if (channel.end == EndKind::port) {
    out["cache_buffers"] = channel.cache_buffers;
    out["byte_limit"] = channel.byte_limit;
    out["guest_byte_limit"] = channel.guest_byte_limit;
  }
  return out;
}

ChannelFromJson channel_from_json(const json::object& untrusted_keys, const std::string& source,
                                  Side side) {
  toml::table table;
  for (const auto& member : untrusted_keys) {
    const std::string key(member.key());
    if (!insert(table, key, member.value())) {
      return {{},
              fmt::format("channel.{}: is of no type that a channel's keys have",
                          escape_untrusted(key))};
    }
  }
  auto read = config_detail::read_channel(table, source, side);
  if (read.denial) return {{}, "channel.end: \"deny\" is only for the configuration files"};
  std::string faults;
  for (const Diagnostic& diagnostic : read.diagnostics) {
    if (diagnostic.severity != Severity::error) continue;
    faults += (faults.empty() ? "" : "; ") + diagnostic.message;
  }
  if (!faults.empty()) return {{}, faults};
  return {std::move(read.channel), {}};
}

}  // namespace xenlane::bridge

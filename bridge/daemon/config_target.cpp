#include "bridge/daemon/config_target.hpp"

#include <fmt/format.h>

namespace xenlane::bridge::config_detail {

namespace {

/// A channel whose target needs more processes than this at once should be a service of its own.
constexpr std::uint32_t exec_max_most = 4096;

std::string read_target(const toml::node& node, TargetDraft& draft) {
  draft.has_target = true;
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  auto target = Target::parse(text);
  if (!target) return target.error().text;
  draft.target = *target;
  return {};
}

std::string read_socket_kind(const toml::node& node, SocketKind& kind) {
  std::size_t index = 0;
  std::string wrong = read_choice(node, {"stream", "seqpacket"}, index);
  if (wrong.empty()) kind = static_cast<SocketKind>(index);
  return wrong;
}

std::string read_run_as(const toml::node& node, TargetDraft& draft) {
  draft.has_user = true;
  std::string name;
  std::string wrong = read_text(node, name);
  if (!wrong.empty()) return wrong;
  auto found = RunAs::parse(name);
  if (!found) return found.error().text;
  draft.run_as = std::move(*found);
  return {};
}

std::string read_rules(const toml::node& node, ForwardRules& rules, bool& has_rules) {
  has_rules = true;
  std::vector<std::string> texts;
  std::string wrong = read_texts(node, texts);
  if (!wrong.empty()) return wrong;
  std::size_t bytes = 0;
  ForwardRules read;
  for (const std::string& text : texts) {
    auto rule = ForwardRule::parse(text);
    if (!rule) return rule.error().text;
    bytes += text.size();
    read.push_back(std::move(*rule));
  }
  if (read.size() > forward_rules_max || bytes > forward_rules_bytes_max) {
    return fmt::format("has {} items of {} bytes, {} of {} are allowed", read.size(), bytes,
                       forward_rules_max, forward_rules_bytes_max);
  }
  rules = std::move(read);
  return {};
}

}  // namespace

void TargetDraft::apply(ChannelConfig& channel) const {
  channel.target = target;
  channel.socket = socket;
  channel.proxy_protocol = proxy_protocol;
  channel.exec_max = exec_max;
  channel.run_as = run_as;
  channel.allow = allow;
  channel.allow_listen = allow_listen;
}

std::vector<Key> target_keys(TargetDraft& draft) {
  return {{"target", [&draft](const toml::node& n) { return read_target(n, draft); }},
          {"socket", [&draft](const toml::node& n) { return read_socket_kind(n, draft.socket); }},
          {"proxy_protocol",
           [&draft](const toml::node& n) { return read_flag(n, draft.proxy_protocol); }},
          {"exec_max",
           [&draft](const toml::node& n) {
             draft.has_exec_max = true;
             return read_count(n, 1, exec_max_most, draft.exec_max);
           }},
          {"user", [&draft](const toml::node& n) { return read_run_as(n, draft); }},
          {"allow",
           [&draft](const toml::node& n) { return read_rules(n, draft.allow, draft.has_rules); }},
          {"allow_listen", [&draft](const toml::node& n) {
             return read_rules(n, draft.allow_listen, draft.has_rules);
           }}};
}

std::vector<std::string> check_target(const TargetDraft& draft, std::optional<EndKind> end) {
  std::vector<std::string> faults;
  if (end == EndKind::dial && !draft.has_target) {
    faults.emplace_back(
        "channel: end = \"dial\" needs a target, as in target = \"unix:/absolute/path\"");
  }
  if (end && end != EndKind::dial && draft.has_target) {
    faults.push_back(fmt::format("channel: 'target' is only for end = \"dial\", not for \"{}\"",
                                 to_string(*end)));
  }
  // What the target is decides about the rest; without one there is nothing to decide.
  const bool unknown = draft.has_target ? !draft.target : end == EndKind::dial;
  if (unknown) return faults;
  const auto kind = draft.target ? std::optional(draft.target->kind()) : std::nullopt;
  if (draft.proxy_protocol && kind != TargetKind::unix_socket && kind != TargetKind::tcp) {
    faults.emplace_back(
        "channel: 'proxy_protocol' is only for targets \"unix:\" and \"tcp:\"; a program is told "
        "by its environment");
  }
  if ((draft.has_user || draft.has_exec_max) && kind != TargetKind::exec) {
    faults.push_back(fmt::format("channel: '{}' is only for targets \"exec:\"",
                                 draft.has_user ? "user" : "exec_max"));
  }
  if (draft.has_rules && kind != TargetKind::forward) {
    faults.emplace_back(
        "channel: 'allow' and 'allow_listen' are only for target = \"builtin:forward\"");
  }
  if (draft.socket == SocketKind::seqpacket &&
      (kind == TargetKind::tcp || kind == TargetKind::bench || kind == TargetKind::forward)) {
    faults.push_back(
        fmt::format("channel: socket = \"seqpacket\" cannot be had with \"{}\", which knows "
                    "streams only",
                    draft.target->uri()));
  }
  return faults;
}

}  // namespace xenlane::bridge::config_detail

#include "bridge/daemon/config_forward.hpp"

#include <fmt/format.h>

#include "bridge/daemon/config_reader.hpp"

namespace xenlane::bridge::config_detail {

namespace {

constexpr std::uint32_t day_ms = 24 * 3600 * 1000;

struct ForwardDraft {
  ForwardKind kind = ForwardKind::local;
  std::string local;
  std::string guest;
  std::string remote;
  std::string channel;
  std::uint32_t wait_ms = 1000 * static_cast<std::uint32_t>(forward_wait_default.count());
  bool refuse = false;
};

std::vector<Key> forward_keys(ForwardDraft& draft, Side side) {
  return {{"kind",
           [&draft](const toml::node& n) {
             std::size_t index = 0;
             std::string wrong = read_choice(n, {"local", "remote", "socks"}, index);
             if (wrong.empty()) draft.kind = static_cast<ForwardKind>(index);
             return wrong;
           }},
          {"local", [&draft](const toml::node& n) { return read_text(n, draft.local); }},
          {"guest",
           [&draft, side](const toml::node& n) -> std::string {
             if (side == Side::guest)
               return "is only for the host's files; in a guest it is the host";
             return read_text(n, draft.guest);
           }},
          {"remote", [&draft](const toml::node& n) { return read_text(n, draft.remote); }},
          {"channel",
           [&draft](const toml::node& n) {
             std::string text;
             std::string wrong = read_text(n, text);
             if (!wrong.empty()) return wrong;
             const auto name = ChannelName::parse(text);
             if (!name) return fmt::format("'{}': {}", escape_untrusted(text), name.error().text);
             draft.channel = text;
             return wrong;
           }},
          {"wait",
           [&draft](const toml::node& n) { return read_duration(n, 0, day_ms, draft.wait_ms); }},
          {"refuse", [&draft](const toml::node& n) { return read_flag(n, draft.refuse); }}};
}

/// In the words of -L, -R and -D.
std::string spec_text(const ForwardDraft& draft) {
  const std::string& guest = draft.guest;
  switch (draft.kind) {
    case ForwardKind::local:
      return fmt::format("{}:{}:{}", draft.local, guest, draft.remote);
    case ForwardKind::remote:
      return fmt::format("{}:{}:{}", draft.remote, guest, draft.local);
    case ForwardKind::socks:
      break;
  }
  return fmt::format("{}:{}", draft.local, guest);
}

std::vector<std::string> check_forward(const ForwardDraft& draft) {
  std::vector<std::string> faults;
  if (draft.guest.empty()) faults.emplace_back("forward: 'guest' is missing");
  if (draft.local.empty()) faults.emplace_back("forward: 'local' is missing");
  const bool wants_remote = draft.kind != ForwardKind::socks;
  if (wants_remote && draft.remote.empty()) faults.emplace_back("forward: 'remote' is missing");
  if (!wants_remote && !draft.remote.empty()) {
    faults.emplace_back(
        "forward: 'remote' is not for kind = \"socks\": each connection says where to");
  }
  return faults;
}

}  // namespace

ForwardRead read_forward(const toml::table& table, const std::string& file, Side side) {
  ForwardRead result;
  result.forward.where = {file, line_of(table)};
  const auto add = [&](std::uint32_t line, std::string text) {
    result.diagnostics.push_back({{file, line}, Severity::error, Scope::channel, std::move(text)});
  };
  ForwardDraft draft;
  if (side == Side::guest) draft.guest = forward_host_name;
  for (Fault& fault : read_section(table, "forward", forward_keys(draft, side), {})) {
    add(fault.line, std::move(fault.text));
  }
  if (result.diagnostics.empty()) {
    for (std::string& fault : check_forward(draft)) {
      add(result.forward.where.line, std::move(fault));
    }
  }
  if (result.diagnostics.empty()) {
    auto spec = parse_forward_spec(draft.kind, spec_text(draft));
    if (spec) {
      if (!draft.channel.empty()) spec->channel = draft.channel;
      spec->wait = std::chrono::duration_cast<std::chrono::seconds>(
          std::chrono::milliseconds(draft.wait_ms));
      spec->refuse = draft.refuse;
      result.forward.spec = std::move(*spec);
    } else {
      add(result.forward.where.line, "forward: " + spec.error().text);
    }
  }
  if (!result.diagnostics.empty()) result.forward.error = result.diagnostics.front().message;
  return result;
}

}  // namespace xenlane::bridge::config_detail

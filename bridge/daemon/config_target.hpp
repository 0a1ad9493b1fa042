// What a [[channel]] says of its connections' local ends: the target, how it is dialled and what it
// is told, and the kind of the sockets. Private to the configuration loader.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/config_reader.hpp"

namespace xenlane::bridge::config_detail {

/// The values as read, before they are put together.
struct TargetDraft {
  std::optional<Target> target;
  bool has_target = false;
  SocketKind socket = SocketKind::stream;
  bool proxy_protocol = false;
  std::uint32_t exec_max = exec_max_default;
  bool has_exec_max = false;
  std::optional<RunAs> run_as;
  bool has_user = false;
  ForwardRules allow;
  ForwardRules allow_listen;
  bool has_rules = false;

  /// Puts the values where they belong.
  void apply(ChannelConfig& channel) const;
};

std::vector<Key> target_keys(TargetDraft& draft);

/// Faults that only show when all keys have been read, each beginning with "channel: ".
std::vector<std::string> check_target(const TargetDraft& draft, std::optional<EndKind> end);

}  // namespace xenlane::bridge::config_detail

#include "bridge/daemon/config_channel.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "bridge/channel/domain_part.hpp"
#include "bridge/daemon/config_identity.hpp"
#include "bridge/daemon/config_reader.hpp"
#include "bridge/daemon/config_target.hpp"

namespace xenlane::bridge::config_detail {
namespace {

constexpr std::size_t guest_glob_bytes_max = 128;

/// The values of one [[channel]], before they are put together.
struct Draft {
  std::optional<ChannelName> name;
  std::optional<EndKind> end;
  TargetDraft target;
  bool has_socket_keys = false;
  bool has_port_keys = false;
  bool has_mode = false;
  bool denies = false;
  std::string console;
  std::string link;
  std::vector<uid_t> users;
  std::vector<gid_t> groups;
  bool cache_buffers = true;
  std::uint64_t byte_limit = port_bytes_default;
  std::uint64_t guest_byte_limit = port_bytes_default;
  std::string guest = "*";
  mode_t mode = 0600;
  std::string owner;
  std::string group;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  LanePreference lane = LanePreference::any;
};

std::string read_name(const toml::node& node, Draft& draft) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty() || draft.denies) return wrong;
  auto name = ChannelName::parse(text);
  if (!name) return fmt::format("'{}': {}", escape_untrusted(text), name.error().text);
  draft.name = *name;
  if (draft.name->is_reserved()) {
    return fmt::format(
        "'{}' has no dot, and such names are reserved for xenlane; use a reverse "
        "DNS name such as 'org.example.{}'",
        text, text);
  }
  return {};
}

std::string read_end(const toml::node& node, Draft& draft) {
  static const std::vector<std::string> words = {"listen", "dial", "port", "raw", "deny"};
  constexpr EndKind kinds[] = {EndKind::listen, EndKind::dial, EndKind::port, EndKind::raw};
  std::size_t index = 0;
  std::string wrong = read_choice(node, words, index);
  if (wrong.empty() && index < std::size(kinds)) draft.end = kinds[index];
  return wrong;
}

std::string read_path(const toml::node& node, std::string& path) {
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  if (text.front() != '/') return "is not an absolute path";
  if (text.back() == '/') return "ends in '/', so it names a folder";
  if (text.find('\0') != std::string::npos) return "has a NUL byte";
  if (text.size() > unix_path_bytes_max) {
    return fmt::format("has {} bytes, {} are allowed", text.size(), unix_path_bytes_max);
  }
  path = std::move(text);
  return {};
}

std::string read_lane(const toml::node& node, Draft& draft) {
  std::size_t index = 0;
  std::string wrong = read_choice(node, {"any", "vchan", "console"}, index);
  if (wrong.empty()) draft.lane = static_cast<LanePreference>(index);
  return wrong;
}

/// Names and numbers of users or groups.
template <typename Id, typename Read>
std::string read_identities(const toml::node& node, const char* what, std::vector<Id>& ids,
                            Read read) {
  const auto* list = node.as_array();
  if (list == nullptr || list->empty()) return fmt::format("must be a list of {}s", what);
  if (list->size() > channel_users_max) {
    return fmt::format("has {} entries, {} are allowed", list->size(), channel_users_max);
  }
  std::vector<Id> found;
  for (const toml::node& item : *list) {
    std::string written;
    Id id = 0;
    std::string wrong = read(item, written, id);
    if (!wrong.empty()) return wrong;
    found.push_back(id);
  }
  ids = std::move(found);
  return {};
}

/// The keys of who may do what with the socket, and of ports.
std::vector<Key> use_keys(Draft& draft) {
  const auto of = [](bool& mark, auto read) {
    return [&mark, read](const toml::node& node) {
      mark = true;
      return read(node);
    };
  };
  constexpr std::uint64_t kib = 1024;
  const auto limit = [of, &draft](std::uint64_t& bytes) {
    return of(draft.has_port_keys,
              [&bytes](const toml::node& n) { return read_bytes(n, 4 * kib, kib * kib, bytes); });
  };
  return {
      {"console", [&draft](const toml::node& n) { return read_path(n, draft.console); }},
      {"link", of(draft.has_socket_keys,
                  [&draft](const toml::node& n) { return read_path(n, draft.link); })},
      {"users", of(draft.has_socket_keys,
                   [&draft](const toml::node& n) {
                     return read_identities(n, "user", draft.users, read_user);
                   })},
      {"groups", of(draft.has_socket_keys,
                    [&draft](const toml::node& n) {
                      return read_identities(n, "group", draft.groups, read_group);
                    })},
      {"cache_buffers",
       of(draft.has_port_keys,
          [&draft](const toml::node& n) { return read_flag(n, draft.cache_buffers); })},
      {"byte_limit", limit(draft.byte_limit)},
      {"guest_byte_limit", limit(draft.guest_byte_limit)},
  };
}

std::vector<Key> channel_keys(Draft& draft, Side side) {
  const auto of_socket = [&draft](auto read) {
    return [&draft, read](const toml::node& node) {
      draft.has_socket_keys = true;
      return read(node);
    };
  };
  std::vector<Key> keys = {
      {"name", [&draft](const toml::node& n) { return read_name(n, draft); }},
      {"end", [&draft](const toml::node& n) { return read_end(n, draft); }},
      {"lane", [&draft](const toml::node& n) { return read_lane(n, draft); }},
      {"guest",
       [&draft, side](const toml::node& n) -> std::string {
         if (side == Side::guest) return "is only for the host's files";
         std::string glob;
         std::string wrong = read_text(n, glob);
         if (wrong.empty()) wrong = check_guest_glob(glob);
         // A broken glob keeps "*": the disabled channel then hides later ones from every guest,
         // which is the safe way to be wrong.
         if (wrong.empty()) draft.guest = glob;
         return wrong;
       }},
      {"mode", of_socket([&draft](const toml::node& n) {
         draft.has_mode = true;
         return read_mode(n, draft.mode);
       })},
      {"owner",
       of_socket([&draft](const toml::node& n) { return read_user(n, draft.owner, draft.uid); })},
      {"group",
       of_socket([&draft](const toml::node& n) { return read_group(n, draft.group, draft.gid); })},
  };
  std::vector<Key> more = use_keys(draft);
  std::move(more.begin(), more.end(), std::back_inserter(keys));
  for (Key& key : target_keys(draft.target)) keys.push_back(std::move(key));
  return keys;
}

/// Faults that only show when all keys have been read.
std::vector<std::string> check_together(const toml::table& table, const Draft& draft, Side side) {
  std::vector<std::string> faults;
  if (!table.contains("name")) faults.emplace_back("channel: 'name' is missing");
  if (!table.contains("end")) {
    faults.emplace_back(
        "channel: 'end' is missing; it is \"listen\", \"dial\", \"port\", \"raw\" or \"deny\"");
  }
  for (std::string& fault : check_target(draft.target, draft.end)) {
    faults.push_back(std::move(fault));
  }
  if (draft.end == EndKind::raw && side == Side::host && draft.console.empty()) {
    faults.emplace_back(
        "channel: end = \"raw\" needs a console, the path that the guest's xl configuration has "
        "for this channel");
  }
  const bool has_pv_channel = draft.end == EndKind::raw || !draft.console.empty();
  if (draft.target.socket == SocketKind::seqpacket && has_pv_channel) {
    faults.emplace_back(
        "channel: socket = \"seqpacket\" cannot be had with a PV channel, which streams only");
  }
  if (draft.end == EndKind::dial && !draft.console.empty()) {
    faults.emplace_back("channel: 'console' is not for end = \"dial\"");
  }
  if (draft.end && draft.end != EndKind::port && draft.has_port_keys) {
    faults.emplace_back(
        "channel: cache_buffers, byte_limit and guest_byte_limit are only for end = \"port\"");
  }
  return faults;
}

/// What a [[channel]] with end = "deny" says; whatever is wrong with it, it denies.
Denial read_denial(const toml::table& table, const Draft& draft, const SourceLocation& where,
                   bool is_understood) {
  Denial denial{"*", "*", 0, where, {}};
  if (!is_understood) {
    denial.why = "the section has errors";
    return denial;
  }
  denial.name = table["name"].value_or<std::string>("*");
  denial.guest = draft.guest;
  return denial;
}

}  // namespace

std::string check_guest_glob(const std::string& glob) {
  if (glob.size() > guest_glob_bytes_max) {
    return fmt::format("the glob has {} bytes, {} are allowed", glob.size(), guest_glob_bytes_max);
  }
  const auto bad = std::find_if(glob.begin(), glob.end(), [](char byte) {
    return static_cast<unsigned char>(byte) < 0x20 || byte == 0x7f || byte == '/';
  });
  if (bad == glob.end()) return {};
  return fmt::format("'{}' cannot be in a guest's name", escape_untrusted({&*bad, 1}));
}

ChannelRead read_channel(const toml::table& table, const std::string& file, Side side) {
  ChannelRead result;
  const SourceLocation where{file, line_of(table)};
  const auto add = [&](std::uint32_t line, Severity severity, std::string text) {
    result.diagnostics.push_back({{file, line}, severity, Scope::channel, std::move(text)});
  };
  Draft draft;
  draft.denies = table["end"].value_or<std::string>({}) == "deny";
  std::vector<Fault> faults = read_section(table, "channel", channel_keys(draft, side), {});
  for (std::string& text : check_together(table, draft, side)) {
    add(where.line, Severity::error, std::move(text));
  }
  for (Fault& fault : faults) add(fault.line, Severity::error, std::move(fault.text));
  const std::string error = result.diagnostics.empty() ? "" : result.diagnostics.front().message;
  if (draft.denies) {
    result.denial = read_denial(table, draft, where, error.empty());
    return result;
  }
  if (draft.end == EndKind::dial && draft.has_socket_keys) {
    add(where.line, Severity::warning,
        "channel: the keys of a socket (mode, owner, group, users, groups, link) have no effect: "
        "a dialled channel has no socket here");
  }
  if (!draft.name) return result;
  if (!draft.name->is_reserved() && !has_domain_part(*draft.name)) {
    add(line_of(*table.get("name")), Severity::warning,
        "channel.name: " + no_domain_part_warning(*draft.name));
  }
  ChannelConfig channel{*draft.name};
  channel.end = draft.end.value_or(EndKind::listen);
  draft.target.apply(channel);
  channel.guest = draft.guest;
  // With a list of who may use it, the list is the door and the permissions need not be.
  const bool is_listed = !draft.users.empty() || !draft.groups.empty();
  channel.socket_mode = is_listed && !draft.has_mode ? 0666 : draft.mode;
  channel.owner = draft.owner;
  channel.group = draft.group;
  channel.uid = draft.uid;
  channel.gid = draft.gid;
  channel.lane = draft.lane;
  channel.console = draft.console;
  if (channel.end == EndKind::raw && channel.console.empty()) {
    channel.console = channel_device_dir() + '/' + channel.name.text();
  }
  channel.link = draft.link;
  channel.users = draft.users;
  channel.groups = draft.groups;
  channel.cache_buffers = draft.cache_buffers;
  channel.byte_limit = draft.byte_limit;
  channel.guest_byte_limit = draft.guest_byte_limit;
  channel.where = where;
  channel.error = error;
  result.channel = std::move(channel);
  return result;
}

}  // namespace xenlane::bridge::config_detail

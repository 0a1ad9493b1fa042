#include "bridge/daemon/config_channel.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <charconv>
#include <utility>

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
  if (!wrong.empty()) return wrong;
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
  static const std::vector<std::string> words = {"listen", "dial", "port"};
  constexpr EndKind kinds[] = {EndKind::listen, EndKind::dial, EndKind::port};
  std::size_t index = 0;
  std::string wrong = read_choice(node, words, index);
  if (wrong.empty()) draft.end = kinds[index];
  return wrong;
}

std::string read_lane(const toml::node& node, Draft& draft) {
  std::size_t index = 0;
  std::string wrong = read_choice(node, {"any", "vchan", "console"}, index);
  if (wrong.empty()) draft.lane = static_cast<LanePreference>(index);
  return wrong;
}

/// A number, or a name looked up by `find`; -1 is no number, it means "leave as it is".
template <typename Id, typename Find>
std::string read_identity(const toml::node& node, const char* what, std::string& written, Id& id,
                          Find find) {
  if (const auto* integer = node.as_integer()) {
    if (integer->get() < 0 || integer->get() >= static_cast<std::int64_t>(static_cast<Id>(-1))) {
      return fmt::format("{} is not a {} number", integer->get(), what);
    }
    id = static_cast<Id>(integer->get());
    written = std::to_string(id);
    return {};
  }
  std::string text;
  std::string wrong = read_text(node, text);
  if (!wrong.empty()) return wrong;
  Id number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc{} && stop == end && number != static_cast<Id>(-1)) {
    id = number;
  } else if (!find(text, id)) {
    return fmt::format("there is no {} '{}'", what, escape_untrusted(text, 40));
  }
  written = text;
  return {};
}

bool find_user(const std::string& name, uid_t& uid) {
  const passwd* entry = ::getpwnam(name.c_str());
  if (entry != nullptr) uid = entry->pw_uid;
  return entry != nullptr;
}

bool find_group(const std::string& name, gid_t& gid) {
  const group* entry = ::getgrnam(name.c_str());
  if (entry != nullptr) gid = entry->gr_gid;
  return entry != nullptr;
}

std::vector<Key> channel_keys(Draft& draft, Side side) {
  const auto of_socket = [&draft](auto read) {
    return [&draft, read](const toml::node& node) {
      draft.has_socket_keys = true;
      return read(node);
    };
  };
  std::vector<Key> keys{
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
      {"mode", of_socket([&draft](const toml::node& n) { return read_mode(n, draft.mode); })},
      {"owner", of_socket([&draft](const toml::node& n) {
         return read_identity(n, "user", draft.owner, draft.uid, find_user);
       })},
      {"group", of_socket([&draft](const toml::node& n) {
         return read_identity(n, "group", draft.group, draft.gid, find_group);
       })},
  };
  for (Key& key : target_keys(draft.target)) keys.push_back(std::move(key));
  return keys;
}

/// Faults that only show when all keys have been read.
std::vector<std::string> check_together(const toml::table& table, const Draft& draft) {
  std::vector<std::string> faults;
  if (!table.contains("name")) faults.emplace_back("channel: 'name' is missing");
  if (!table.contains("end")) {
    faults.emplace_back("channel: 'end' is missing; it is \"listen\", \"dial\" or \"port\"");
  }
  for (std::string& fault : check_target(draft.target, draft.end)) {
    faults.push_back(std::move(fault));
  }
  return faults;
}

}  // namespace

std::string read_mode(const toml::node& node, mode_t& mode) {
  constexpr const char* wanted = "must be a text of octal digits from \"0000\" to \"0777\"";
  const auto* text = node.as_string();
  // A bare 660 would be a decimal number, and no mode anybody means.
  if (text == nullptr || text->get().empty()) return wanted;
  unsigned value = 0;
  const std::string& digits = text->get();
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value, 8);
  if (error != std::errc{} || stop != end || value > 0777) return wanted;
  mode = value;
  return {};
}

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
  std::vector<Fault> faults = read_section(table, "channel", channel_keys(draft, side), {});
  for (std::string& text : check_together(table, draft)) {
    add(where.line, Severity::error, std::move(text));
  }
  for (Fault& fault : faults) add(fault.line, Severity::error, std::move(fault.text));
  const std::string error = result.diagnostics.empty() ? "" : result.diagnostics.front().message;
  if (draft.end == EndKind::dial && draft.has_socket_keys) {
    add(where.line, Severity::warning,
        "channel: mode, owner and group have no effect: a dialled channel has no socket here");
  }
  if (!draft.name) return result;
  result.channel = ChannelConfig{*draft.name,  draft.end.value_or(EndKind::listen),
                                 std::nullopt, draft.guest,
                                 draft.mode,   draft.owner,
                                 draft.group,  draft.uid,
                                 draft.gid,    draft.lane,
                                 where,        error};
  draft.target.apply(*result.channel);
  return result;
}

}  // namespace xenlane::bridge::config_detail

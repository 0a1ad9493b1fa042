#include "bridge/daemon/config_identity.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <charconv>

#include "bridge/channel/text.hpp"
#include "bridge/daemon/config_reader.hpp"

namespace xenlane::bridge::config_detail {

namespace {

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

std::string read_user(const toml::node& node, std::string& written, uid_t& uid) {
  return read_identity(node, "user", written, uid, find_user);
}

std::string read_group(const toml::node& node, std::string& written, gid_t& gid) {
  return read_identity(node, "group", written, gid, find_group);
}

}  // namespace xenlane::bridge::config_detail

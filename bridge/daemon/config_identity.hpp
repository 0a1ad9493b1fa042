// Reading users, groups and permissions. Private to the configuration loader.
#pragma once

#include <sys/types.h>
#include <toml++/toml.h>

#include <string>

namespace xenlane::bridge::config_detail {

/// Octal digits in a text, "0000" to "0777".
std::string read_mode(const toml::node& node, mode_t& mode);

/// A user's name or number, as it is written and what it stands for.
std::string read_user(const toml::node& node, std::string& written, uid_t& uid);
std::string read_group(const toml::node& node, std::string& written, gid_t& gid);

}  // namespace xenlane::bridge::config_detail

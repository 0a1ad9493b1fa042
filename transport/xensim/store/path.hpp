// What a xenstore path may look like, and how paths relate to each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace xensim {

/// "/local/domain/<domid>": the home of a domain, to which its relative paths belong.
std::string domain_path(std::uint32_t domid);

/// Absolute, made of A-Za-z0-9-/_@, no "//", no "/" at the end (but "/" itself is a path), and at
/// most `path_bytes_max` bytes, not counting a "/local/domain/<domid>/" in front
/// (docs/misc/xenstore.txt, xs_wire.h XENSTORE_REL_PATH_MAX).
bool is_valid_path(std::string_view path, std::size_t path_bytes_max);

/// "/" for a node at the top, and for "/" itself.
std::string parent_path(std::string_view path);

/// The last component. The path must not be "/".
std::string_view base_name(std::string_view path);

std::string child_path(std::string_view parent, std::string_view name);

bool is_same_or_below(std::string_view path, std::string_view ancestor);

}  // namespace xensim

// How host and guest agree on a lane through xenstore: the keys, who writes them, and the reading
// of what the other wrote. docs/xenstore.md is the description; nothing here talks to xenstored.
//
// Two numbers drive it. The host states the lowest epoch it will attach to (`wanted`, in a node the
// guest cannot write); the guest offers a ring whose path has its epoch in it and then points to it
// (`ring`, under its own data). Both are levels, so a lost or late watch event changes nothing, and
// a ring of an earlier life of either side can never be mistaken for the current one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "transport/base/domid.hpp"

namespace xenlane::bridge {

/// Highest epoch: its digits must leave the ring's path within libxenvchan's 49 bytes.
inline constexpr std::uint64_t epoch_max = 999'999'999'999;

/// Node that the host makes for a guest; relative for the guest, absolute with domain_path().
inline constexpr std::string_view host_node = "xenlane";
/// Below host_node: domid of the host bridge's domain.
inline constexpr std::string_view host_domid_key = "host";
/// Below host_node: lowest epoch the host will attach to.
inline constexpr std::string_view wanted_key = "wanted";

/// Folder of what the guest writes, relative to its domain.
inline constexpr std::string_view guest_folder = "data/xenlane";
/// Key with the epoch of the ring on offer, written after the ring's own keys.
inline constexpr std::string_view ring_pointer = "data/xenlane/ring";

/// "/local/domain/5"
std::string domain_path(transport::Domid domid);

/// Where the ring of an epoch is offered, relative to the guest's domain.
std::string ring_path(std::uint64_t epoch);

/// Reads an epoch: decimal digits, at most epoch_max. Empty for anything else.
std::optional<std::uint64_t> parse_epoch(std::string_view untrusted_text);

}  // namespace xenlane::bridge

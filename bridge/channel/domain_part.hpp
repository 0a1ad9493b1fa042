// Whether a channel's name says whose it is. Names must be unique in the world; xen-pv-channel(7)
// asks for a domain name in them, and a name without one is allowed but warned about.
#pragma once

#include "bridge/channel/name.hpp"

namespace xenlane::bridge {

/// True for a domain name in reverse, then at least one label of one's own: `org.example.agent`,
/// `com.redhat.spice.0`. That is, three labels or more, none of them empty, of which the first is
/// of the form of a top-level domain (two letters or more, or `xn--` and what follows) and the
/// second of that of a domain (letters, digits and inner hyphens, not digits alone). Whether such a
/// domain exists, and whose it is, is not known here.
bool has_domain_part(const ChannelName& name);

/// What to tell whoever chose a name without one, ready to follow "thing: ".
std::string no_domain_part_warning(const ChannelName& name);

}  // namespace xenlane::bridge

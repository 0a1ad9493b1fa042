// The channels of a libvirt domain: <channel type='unix'> with a socket that QEMU binds and a
// named target of type xen or virtio.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"
#include "bridge/toolstack/guest_channels.hpp"

namespace xenlane::bridge {

/// Reads the XML that `virsh dumpxml` prints. No entity is expanded but XML's own five, and no
/// other file is read. What libvirt takes and a raw channel cannot be (another type, a socket that
/// QEMU connects to, a path that libvirt is to choose) is a warning and left out.
ChannelsRead read_libvirt_channels(std::string_view untrusted);

/// A <domain> with these <channel> elements, their targets of type xen; read_libvirt_channels()
/// reads it back.
std::string write_libvirt_channels(const GuestChannels& guest);

}  // namespace xenlane::bridge

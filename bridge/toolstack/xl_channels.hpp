// The channels of an xl domain configuration: channel = [ "connection=socket,name=...,path=..." ],
// by the rules of xl's own reader (tools/xl/xl_parse.c in Xen) and of xl.cfg(5).
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>

#include "bridge/channel/text.hpp"
#include "bridge/toolstack/guest_channels.hpp"

namespace xenlane::bridge {

/// Reads the guest's name and its channels with connection=socket; everything else in the file has
/// to be well formed and is passed over. What xl takes and a raw channel cannot be (connection=pty,
/// a backend in another domain) is a warning and left out. What xl refuses is an error, and so is
/// what it takes but crashes on, ignores silently or forbids in its manual.
ChannelsRead read_xl_channels(std::string_view untrusted);

/// The lines to put into the guest's configuration; read_xl_channels() reads them back. Xen 4.17
/// loses the first channel of the list, so the first is one that nobody needs. The error is a path
/// that xl's syntax cannot hold.
boost::system::result<std::string, ParseError> write_xl_channels(const GuestChannels& guest);

}  // namespace xenlane::bridge

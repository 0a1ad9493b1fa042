// The PROXY protocol's header, version 2 (haproxy's doc/proxy-protocol.txt), that tells a service
// who asks before the first byte of the connection.
//
// The addresses are of family AF_UNIX, because no other fits, and hold texts instead of paths:
// "xenlane:PEER" and "xenlane:CHANNEL". What a service should look at are the TLVs; what is not
// known has none. Numbers are in network order, as all of the header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bridge/channel/caller.hpp"

namespace xenlane::bridge {

/// Types of the header's TLVs: the protocol's own and, from 0xE0 on, ours.
enum class ProxyTlv : std::uint8_t {
  authority = 0x02,  ///< PP2_TYPE_AUTHORITY: the channel
  unique_id = 0x05,  ///< PP2_TYPE_UNIQUE_ID: Caller::connection
  peer = 0xE0,       ///< text
  domid = 0xE1,      ///< u32
  peer_uid = 0xE2,   ///< u32, as the peer says
  uuid = 0xE3,       ///< text
};

/// The whole header. Texts longer than the protocol has room for are cut: 108 bytes of an address,
/// 128 of the connection's name.
std::vector<std::byte> encode_proxy_header(const Caller& caller);

}  // namespace xenlane::bridge

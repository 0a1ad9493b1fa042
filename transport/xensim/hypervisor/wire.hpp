// What the drop-in libraries and the broker say to each other.
//
// One SOCK_SEQPACKET connection stands for one open file of
// /dev/xen/{gntalloc,gntdev,evtchn,privcmd}: its end, by close or by death, is the file's release.
// The socket it was made on says which domain is asking. Every message is one Request or Reply and
// the 32-bit words that belong to it; the library always waits for the reply before it asks again.
// Both ends are built from this file and run on one machine, so there is no version and no byte
// order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xensim::wire {

inline constexpr std::size_t page_size = 4096;

enum class Op : std::uint32_t {
  open_gntshr = 1,  ///< first message of a connection, as the next three
  open_gnttab,
  open_evtchn,  ///< reply brings the eventfd, then the port area's memfd
  open_privcmd,
  share,         ///< brings a memfd; reply: id, words = grant references
  unshare,       ///< id
  map,           ///< words = (domid, reference) pairs; reply: id, words = (fd index, page) pairs
  unmap,         ///< id
  set_notify,    ///< id of a share or mapping, notify_*
  bind_unbound,  ///< domid; reply: port
  bind_interdomain,  ///< domid, port of the peer; reply: port
  unbind,            ///< port
  resolve,           ///< port; reply: generation and, if bound, the peer's port, eventfd and area
  restrict_domid,    ///< domid
  domain_info,       ///< domid = first one of interest; reply: domid, dying in `id`
  close,  ///< releases everything now, so that closing is not overtaken by another handle
};

enum Flags : std::uint32_t {
  flag_writable = 1,
  flag_clear_byte = 2,  ///< unmap notification: zero the byte at notify_offset of the first page
  flag_send_event = 4,  ///< unmap notification: notify notify_port
  flag_bound = 8,       ///< in a reply to resolve
};

struct Request {
  Op op = Op::close;
  std::uint32_t domid = 0;
  std::uint32_t port = 0;
  std::uint32_t id = 0;
  std::uint32_t flags = 0;
  std::uint32_t notify_offset = 0;
  std::uint32_t notify_port = 0;
  std::uint32_t words = 0;  ///< how many 32-bit words follow; for `share` the pages, none follow
};

struct Reply {
  std::int32_t error = 0;  ///< an errno value, 0 for success
  std::uint32_t id = 0;
  std::uint32_t port = 0;
  std::uint32_t generation = 0;
  std::uint32_t domid = 0;
  std::uint32_t flags = 0;
  std::uint32_t words = 0;  ///< how many 32-bit words follow
};

/// Pages of one share call. libxenvchan asks for 256 at most; the reply must fit one datagram.
inline constexpr std::uint32_t max_pages_per_share = 16384;
/// Pages of one `map` message: each may need a descriptor of its own and Linux carries 253.
inline constexpr std::uint32_t max_pages_per_map = 128;
inline constexpr std::size_t max_words = max_pages_per_share;
inline constexpr std::size_t max_fds = max_pages_per_map;
/// How long a library waits for the broker, in seconds, before the call fails with ETIMEDOUT.
inline constexpr long reply_timeout_s = 20;

}  // namespace xensim::wire

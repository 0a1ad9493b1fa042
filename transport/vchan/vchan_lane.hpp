// The vchan lane: rings set up and torn down by libxenvchan, bytes moved in place on its public
// structure. The guest is the vchan server (its pages, its grants), the host the vchan client.
//
// Opening and closing talk to xenstored and may block for as long as it likes, so both run on a
// helper thread with a deadline (see vchan_opener.hpp); the open lane itself never blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <boost/system/result.hpp>

#include "transport/base/domid.hpp"
#include "transport/lane.hpp"

namespace xenlane::transport {

/// Longest xenstore path libxenvchan can be given: it formats "<path>/event-channel" into 64 bytes
/// and silently cuts what does not fit (tools/libs/vchan/init.c).
inline constexpr std::size_t vchan_path_bytes_max = 49;

/// Ring sizes that take pages of their own, per direction (MAX_RING_SHIFT in the same file).
inline constexpr std::uint32_t vchan_ring_bytes_min = 4096;
inline constexpr std::uint32_t vchan_ring_bytes_max = 1U << 20;

enum class LaneFailureKind : std::uint8_t {
  no_xen,            ///< the grant or event channel device is not there
  no_permission,     ///< it is there and this process may not open it
  no_grants,         ///< gntalloc has not even the pages of the smallest ring
  no_event_channel,  ///< no event channel port could be had
  no_ring,    ///< libxenvchan declined: keys missing in xenstore, or the peer's ring unusable
  timed_out,  ///< xenstored or a device did not answer within the deadline
};

struct LaneFailure {
  LaneFailureKind kind;
  std::string text;  ///< one line that names the thing and the remedy
};

using LaneResult = boost::system::result<std::unique_ptr<Lane>, LaneFailure>;

struct VchanOffer {
  Domid client = 0;  ///< domain that may attach
  std::string path;  ///< xenstore path, at most vchan_path_bytes_max bytes
  std::uint32_t ring_bytes_max = vchan_ring_bytes_max;  ///< per direction, powers of two
  std::uint32_t ring_bytes_min = vchan_ring_bytes_min;
};

/// Offers a lane as vchan server with the largest rings that gntalloc has pages for. Blocks.
LaneResult offer_vchan(const VchanOffer& offer);

/// Attaches as vchan client to what `server` offers at `path`. Blocks.
LaneResult attach_vchan(Domid server, const std::string& path);

/// Tells whether this process may use the devices that a vchan client needs.
boost::system::result<void, LaneFailure> probe_vchan_client();

/// Tells whether a lane with rings of `ring_bytes` could be had now, without offering it. Blocks.
boost::system::result<void, LaneFailure> probe_vchan(Domid client, std::uint32_t ring_bytes);

/// Tells the peer that this side is done, and keeps the lane as it is for as long as the process
/// lives, neither unmapped nor closed; its pages stay spent. For a lane that was open when its
/// domain was saved: after the restoration, Linux's evtchn driver does not survive the closing of
/// its event channel (docs/architecture.md). The lane must come from offer_vchan or attach_vchan.
void abandon_vchan(std::unique_ptr<Lane> lane);

}  // namespace xenlane::transport

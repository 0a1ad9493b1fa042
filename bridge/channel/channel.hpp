// One configured channel at run time: its listening socket, its figures, and the ends that wait.
#pragma once

#include <sys/types.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "bridge/channel/local_end.hpp"
#include "bridge/channel/lone_end.hpp"
#include "bridge/channel/raw_link.hpp"
#include "bridge/daemon/config.hpp"
#include "bridge/wire/frame.hpp"
#include "transport/base/signal.hpp"

namespace xenlane::bridge {

/// Unpaired connections that one port keeps on each side; more wait in the socket's own backlog.
inline constexpr std::size_t port_waiting_max = 64;

/// Connections that ended badly which a channel remembers, for the tool to find its own among them.
inline constexpr std::size_t bad_endings_max = 32;

/// How a local connection ended that did not end well. A Unix socket can tell its reader no more
/// than "end of file", so this is where the reason is to be had.
struct BadEnding {
  bool refused = false;  ///< never carried a byte; otherwise it broke on the way
  pid_t pid = 0;         ///< of the program that made the connection; 0 for one dialled here
  int error = 0;         ///< errno value
  std::string message;
  std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
};

struct ChannelStats {
  std::uint64_t open = 0;
  std::uint64_t opened = 0;
  std::uint64_t refused = 0;
  std::uint64_t broken = 0;  ///< ended by a reset or by the session's end, not by both applications
  std::uint64_t bytes_in = 0;         ///< from the peer
  std::uint64_t bytes_out = 0;        ///< to the peer
  std::uint64_t dropped_bytes = 0;    ///< said to a port without a partner, and not kept
  std::deque<BadEnding> bad_endings;  ///< newest last, at most bad_endings_max
};

/// What the peer has told of its end of a channel.
struct PeerEnd {
  NoticedEnd end = NoticedEnd::none;
  std::uint32_t open = 0;
  bool operator==(const PeerEnd&) const = default;
};

struct Channel {
  Channel(const boost::asio::any_io_executor& executor, ChannelConfig channel_config)
      : config(std::move(channel_config)), listener(executor), may_accept(executor) {}

  ChannelConfig config;
  std::string socket_path;                         ///< empty when this end does not listen
  boost::asio::posix::stream_descriptor listener;  ///< open if this end has a listening socket
  bool removed = false;  ///< the table has it no more; whoever still holds it lets go
  ChannelStats stats;
  std::optional<PeerEnd> peer;   ///< in this session
  transport::Signal may_accept;  ///< raised when a connection that had to wait may go on
  std::shared_ptr<RawLink> raw;  ///< the one that has the PV channel, if any
  std::deque<std::shared_ptr<LoneEnd>> waiting_local;  ///< host ports: ends without a partner
  std::deque<StreamId> waiting_remote;                 ///< host ports: streams without a partner

  /// How many local programs have it open.
  std::uint64_t local_ends() const { return stats.open + waiting_local.size(); }
};

}  // namespace xenlane::bridge

// Requests that change which channels a running daemon has: reload, channel-add, channel-remove
// (docs/control.md). What both daemons do alike; who serves the channels is the caller's.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <functional>
#include <optional>
#include <string>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/live_channels.hpp"

namespace xenlane::bridge {

boost::json::object describe(const ChannelChanges& changes);

/// What came of a configuration.
struct Applied {
  boost::json::object changes;  ///< docs/control.md
  bool has_failed = false;      ///< a channel could not have its socket
};

/// What a daemon does to its channels.
struct ChannelOperations {
  /// Takes over the channels (and guests) of a configuration.
  std::function<Applied(BridgeConfig fresh)> apply;
  /// Returns what is wrong, or nothing. `guest` is empty in a guest.
  std::function<std::string(std::string_view guest, ChannelConfig channel)> add;
  std::function<bool(std::string_view guest, const ChannelName& name)> remove;
  std::function<bool(std::string_view guest)> knows_guest;
};

class Reloader {
 public:
  /// `config_path` as it was given to the daemon.
  Reloader(Side side, std::optional<std::string> config_path, ChannelOperations operations)
      : side_(side), config_path_(std::move(config_path)), operations_(std::move(operations)) {}

  /// Reads the files again. With an error that would keep a daemon from starting nothing changes.
  /// Every fault goes to the log and into the reply.
  boost::json::object reload();
  /// The reply to one of the requests above; none when `request` is another.
  std::optional<boost::json::object> answer(const boost::json::object& request);

 private:
  boost::json::object add(const boost::json::object& request);
  boost::json::object remove(const boost::json::object& request);

  Side side_;
  std::optional<std::string> config_path_;
  ChannelOperations operations_;
};

/// Reloads on every SIGHUP, for ever. `reloader` must outlive it.
boost::asio::awaitable<void> reload_on_signal(Reloader& reloader);

}  // namespace xenlane::bridge

// The broker: watches which domains come and go, keeps the socket files of each guest it serves,
// and one worker process per guest. It maps no guest memory and reads nothing that a guest wrote:
// what it takes from xenstore (names, uuids, which domains live) are nodes that only dom0 can
// write.
//
// xenstore's events carry no facts, may be merged and may come too early (a domain is announced as
// released while it is still dying), so every event means only "look again", now and a bit later.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/json.hpp>
#include <map>
#include <memory>
#include <string>

#include "bridge/daemon/config.hpp"
#include "bridge/daemon/listeners.hpp"
#include "bridge/daemon/peer.hpp"
#include "bridge/daemon/reload.hpp"
#include "bridge/events/event.hpp"
#include "transport/base/signal.hpp"
#include "transport/xenstore/client.hpp"

namespace xenlane::host {

/// How workers are started: this program again, with these arguments first.
struct WorkerCommand {
  std::string program;
  std::vector<std::string> arguments;
  /// The settings that the broker began with, which a worker is to have too, whatever has become of
  /// the files meanwhile.
  std::string settings;
};

class Broker {
 public:
  /// `config` must outlive the broker, who changes it with reload().
  Broker(const boost::asio::any_io_executor& executor, transport::XenStore& store,
         bridge::BridgeConfig& config, WorkerCommand worker);
  ~Broker();

  /// Runs for ever.
  boost::asio::awaitable<void> run();
  /// Stops every worker and takes the guests' host nodes out of xenstore.
  boost::asio::awaitable<void> shut_down();
  /// Serves the guests and channels of `fresh` from now on; its other settings are not looked at.
  /// The changes are by guest.
  bridge::Applied reload(bridge::BridgeConfig fresh);
  /// Until the guest ends. Returns what is wrong, or nothing.
  std::string add_channel(std::string_view guest, bridge::ChannelConfig channel);
  bool remove_channel(std::string_view guest, const bridge::ChannelName& name);
  bool serves(std::string_view guest) const { return find(guest) != nullptr; }
  /// Who is told of guests that come and go; must outlive the broker's run().
  void set_events(bridge::EventSink* events) { events_ = events; }
  /// The guests there are now, as events.
  std::vector<bridge::Event> events_now() const;
  /// The guests part of the status reply (docs/control.md).
  boost::json::array status() const;

 private:
  /// What tells one life of a domain from another: domids and names come again, uuids do not.
  struct Identity {
    std::string name;
    std::string uuid;
    bool operator==(const Identity&) const = default;
  };
  struct Guest;

  boost::asio::awaitable<bool> scan();
  boost::asio::awaitable<boost::system::result<Identity>> identify(transport::Domid domid);
  boost::asio::awaitable<void> start_guest(transport::Domid domid, Identity identity);
  void stop_guest(transport::Domid domid);
  boost::asio::awaitable<void> keep_worker(std::shared_ptr<Guest> guest);
  boost::system::result<pid_t> spawn_worker(const Guest& guest, int orders, int settings) const;
  boost::system::result<pid_t> start_worker(Guest& guest);
  std::shared_ptr<Guest> find(std::string_view guest_name) const;
  static void check_orders(const Guest& guest);
  static bridge::Event event_of(std::string_view kind, const Guest& guest);
  void publish(std::string_view kind, const Guest& guest);
  bool name_is_usable(const std::string& name) const;

  boost::asio::any_io_executor executor_;
  transport::XenStore& store_;
  bridge::BridgeConfig& config_;
  WorkerCommand worker_;
  transport::Signal domains_changed_;
  transport::Domid own_domid_ = 0;
  bridge::EventSink* events_ = nullptr;
  std::map<transport::Domid, std::shared_ptr<Guest>> guests_;
};

}  // namespace xenlane::host

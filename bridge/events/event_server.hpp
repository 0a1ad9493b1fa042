// Serves the `events` socket: whoever connects is told what is there now, then every event as it
// happens (docs/events.md). Listeners are untrusted: one that does not read loses events, is told
// how many, and holds up nobody.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bridge/events/event.hpp"
#include "transport/base/unique_fd.hpp"

namespace xenlane::bridge {

inline constexpr int events_version = 1;
inline constexpr std::size_t event_listeners_max = 32;
/// What waits for one listener, in bytes; events that do not fit are lost to it. What is there when
/// it connects always fits.
inline constexpr std::size_t events_waiting_bytes_max = 256 * 1024;

class EventServer final : public EventSink {
 public:
  /// What is there now, as events.
  using Snapshot = std::function<std::vector<Event>()>;

  /// Takes a listening Unix stream socket and starts to accept. `role` is told first of all.
  EventServer(const boost::asio::any_io_executor& executor, transport::UniqueFd listening,
              std::string role, Snapshot snapshot);
  ~EventServer();

  bool wants_events() const override;
  void publish(const Event& event) override;

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace xenlane::bridge

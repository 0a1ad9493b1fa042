// What happens to channels, lanes and guests, told to whoever listens (docs/events.md). An event is
// a word and some named values; its line is made for the shell: `read -r event details`.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xenlane::bridge {

struct Event {
  std::string kind;
  std::vector<std::pair<std::string, std::string>> details = {};
};

/// "KIND KEY=VALUE KEY=VALUE\n". Of a value blanks, the backslash and what is not printable ASCII
/// become \xNN; long values are cut.
std::string format_event(const Event& event);

/// Who takes events. Making one costs something: ask first.
class EventSink {
 public:
  EventSink() = default;
  EventSink(const EventSink&) = delete;
  EventSink& operator=(const EventSink&) = delete;

  virtual bool wants_events() const = 0;
  virtual void publish(const Event& event) = 0;

 protected:
  ~EventSink() = default;
};

}  // namespace xenlane::bridge

#include "bridge/events/event.hpp"

#include "bridge/channel/text.hpp"

namespace xenlane::bridge {

namespace {

/// Of one value, in bytes before escaping.
constexpr std::size_t value_bytes_max = 512;

}  // namespace

std::string format_event(const Event& event) {
  std::string line = event.kind;
  for (const auto& [key, value] : event.details) {
    line += ' ' + key + '=';
    for (const char byte : escape_untrusted(value, value_bytes_max)) {
      if (byte == ' ') {
        line += "\\x20";
      } else {
        line += byte;
      }
    }
  }
  return line + '\n';
}

}  // namespace xenlane::bridge

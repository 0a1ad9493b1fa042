// A world that is broken in one way, and what the doctor has to say of it.
#pragma once

#include <functional>
#include <ostream>
#include <string_view>
#include <vector>

#include "bridge/doctor/examine.hpp"

namespace xenlane::bridge::doctor {

struct Story {
  const char* name;
  Side side;
  std::function<void(Facts&)> breakage;
  std::string_view id;
  Severity severity;
  int exit_code;
  const char* says;    ///< in the thing or the problem
  const char* remedy;  ///< in the remedy
};

inline void PrintTo(const Story& story, std::ostream* out) {
  *out << story.name;
}

/// Broken in ways that more than one story needs.
void without_device(Facts& facts, ModuleState state);
void without_daemon(Facts& facts);

extern const std::vector<Story> xen_stories;
extern const std::vector<Story> file_stories;
extern const std::vector<Story> daemon_stories;
extern const std::vector<Story> console_stories;

// What the tables are written in.
inline constexpr auto guest = Side::guest;
inline constexpr auto host = Side::host;
inline constexpr auto note = Severity::note;
inline constexpr auto warning = Severity::warning;
inline constexpr auto error = Severity::error;

}  // namespace xenlane::bridge::doctor
